"""What each exchange should send: an independent word against which the recorded messages are held.

Three modules, each a way to say it: `schedule` (the list of operations), `closed_form` (formulas and the lower bound),
`modelled` (what becomes of an operation below the API). Imports nothing of the package, and nothing of torch.
"""

from .closed_form import Counts, closed_form, least_payload_bytes, lower_bound_bytes
from .modelled import ModelledMessages, Operation, gloo_wire_bytes, modelled_messages
from .schedule import (
    GRADIENT,
    PHASES,
    SHAPES,
    UPSTREAM,
    Collective,
    Hop,
    Memory,
    Move,
    Phase,
    Plan,
    PlannedEvent,
    Run,
    has_form,
    plan,
)

__all__ = [
    "GRADIENT",
    "PHASES",
    "SHAPES",
    "UPSTREAM",
    "Collective",
    "Counts",
    "Hop",
    "Memory",
    "ModelledMessages",
    "Move",
    "Operation",
    "Phase",
    "Plan",
    "PlannedEvent",
    "Run",
    "closed_form",
    "gloo_wire_bytes",
    "has_form",
    "least_payload_bytes",
    "lower_bound_bytes",
    "modelled_messages",
    "plan",
]
