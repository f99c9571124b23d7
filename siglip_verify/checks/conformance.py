"""Whether an exchange sent what its plan says, event for event.

For our own exchanges, whose plan is known; what holds for any loss is in `messages`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from siglip_verify.checks.ledger import describe, in_order
from siglip_verify.plan import GRADIENT, SHAPES, UPSTREAM, Plan, PlannedEvent
from siglip_verify.records import Event, Finding, RankFailure

_COMPARED = ("phase", "hop", "kind", "src", "dst", "payload_bytes")


def dtypes(features: str, gradients: str | None = None) -> Mapping[str, str]:
    """Return the dtype in which each thing is handed over, by what an event carries; "" is whatever is not named.

    A gradient that shares a message with its text is handed over as numbers of the text's dtype.

    Args:
        features: Dtype of the features.
        gradients: That of gradients which travel along with their texts; None is the features'.
    """
    return {"": features, GRADIENT: gradients or features, SHAPES: "int64", UPSTREAM: "float64"}


def compare(
    plan: Plan,
    events: Iterable[Event],
    *,
    dtypes: Mapping[str, str] | None = None,
    failures: Sequence[RankFailure] = (),
) -> tuple[Finding, ...]:
    """Hold the record of one step against the plan, rank by rank and event by event, in order.

    Args:
        plan: What the exchange should send.
        events: What all ranks posted, ranks being those of the plan's group.
        dtypes: Where given, the dtype that each operation must hand over, see `dtypes`.
        failures: The ranks that gave no record. Of these only what they posted is compared, not where it stops.

    Returns:
        The first difference of each rank that has one, named `differs-from-plan`.
    """
    ordered = in_order(events)
    strangers = {event.rank for event in ordered} - set(range(plan.world_size))
    differences = dict.fromkeys(sorted(strangers), "not in the plan, yet it posted operations")
    for rank in range(plan.world_size):
        recorded = [event for event in ordered if event.rank == rank]
        ended = all(failure.rank != rank for failure in failures)
        difference = _first_difference(plan.events(rank), recorded, dtypes, ended)
        if difference:
            differences[rank] = difference
    return tuple(
        Finding(name="differs-from-plan", rank=rank, detail=f"rank {rank}: {difference}")
        for rank, difference in differences.items()
    )


def _first_difference(
    planned: Sequence[PlannedEvent], recorded: Sequence[Event], dtypes: Mapping[str, str] | None, ended: bool
) -> str | None:
    for index, (expected, event) in enumerate(zip(planned, recorded, strict=False)):
        unlike = [
            f"{name} {getattr(expected, name)} planned, {getattr(event, name)} recorded"
            for name in _COMPARED
            if getattr(expected, name) != getattr(event, name)
        ]
        dtype = event.dtype if dtypes is None else dtypes.get(expected.carries, dtypes[""])
        if dtype != event.dtype:
            unlike.append(f"dtype {dtype} planned, {event.dtype} recorded")
        if unlike:
            both = f"planned {_planned(expected)}, recorded {describe(event)}"
            return f"operation {index}: {both} ({'; '.join(unlike)})"
    if len(recorded) > len(planned):
        return f"operation {len(planned)}: planned nothing more, recorded {describe(recorded[len(planned)])}"
    if ended and len(recorded) < len(planned):
        return f"operation {len(recorded)}: planned {_planned(planned[len(recorded)])}, recorded nothing more"
    return None


def _planned(event: PlannedEvent) -> str:
    peer = {"send": f" to rank {event.dst}", "recv": f" from rank {event.src}"}.get(event.kind, "")
    return f"{event.phase} hop {event.hop} {event.kind} of {event.payload_bytes} bytes ({event.carries}){peer}"
