"""What each exchange should send: an independent word against which the recorded messages are held.

Three ways to say it: `schedule` (the list of operations, made of `hops`), `closed_form` (formulas and the lower bound),
`modelled` (what becomes of an operation below the API). Imports nothing of the package, and nothing of torch.
"""

from .closed_form import Counts, closed_form, least_payload_bytes, lower_bound_bytes
from .hops import GRADIENT, SHAPES, TEXT, UPSTREAM, Collective, Hop, Move, Run
from .modelled import ModelledMessages, Operation, gloo_wire_bytes, modelled_messages
from .schedule import PHASES, Memory, Phase, Plan, PlannedEvent, has_form, plan

__all__ = [
    "GRADIENT",
    "PHASES",
    "SHAPES",
    "TEXT",
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
