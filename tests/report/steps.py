"""Steps made by hand, for the reports on messages: right ones from the plan, and ones with something wrong."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st

from siglip_verify.case import DTYPES, EXCHANGES, Case, Exchange, itemsize
from siglip_verify.checks.counts import message_row
from siglip_verify.checks.form import Form
from siglip_verify.checks.ledger import byte_matrix
from siglip_verify.checks.step_messages import step_messages
from siglip_verify.checks.totals import collective_rows, rank_totals
from siglip_verify.plan import gloo_wire_bytes, plan
from siglip_verify.records import Event, Finding, RankFailure, WireCount
from siglip_verify.result import GatherBackwardCost, MessageReport, StepMessages

from . import samples

START_S = 1000.0


def events(case: Case) -> list[Event]:
    """What our exchange posts in a step; each hop takes a millisecond, and ranks start 10 microseconds apart."""
    planned = plan(case.exchange, case.world_size, case.batch, case.dim, itemsize(case.dtype))
    listed: list[Event] = []
    for rank in range(case.world_size):
        forward_hops = len(planned.hops("forward"))
        for e in planned.events(rank):
            turn = e.hop + (forward_hops if e.phase == "backward" else 0)
            posted_s = START_S + turn * 1e-3 + rank * 1e-5 + e.sequence * 1e-6
            listed.append(
                Event(
                    rank=rank,
                    sequence=e.sequence,
                    kind=e.kind,
                    op=f"c10d::{e.kind}",
                    phase=e.phase,
                    hop=e.hop,
                    src=e.src,
                    dst=e.dst,
                    tag=0 if e.kind in ("send", "recv") else None,
                    dtype=case.dtype,
                    shape=(case.batch, case.dim),
                    payload_bytes=e.payload_bytes,
                    posted_s=posted_s,
                    returned_s=posted_s + 5e-4,
                    group="0",
                )
            )
    return listed


def wire(case: Case, posted: list[Event]) -> list[WireCount]:
    return [
        WireCount(rank=event.rank, peer=peer, phase=event.phase, wire_bytes=num_bytes, segments=1)
        for event in posted
        for peer, num_bytes in gloo_wire_bytes(event, case.world_size).items()
    ]


def step(exchange: Exchange = "bidir", world_size: int = 3, **fields: Any) -> StepMessages:
    case = Case(exchange=exchange, world_size=world_size, batch=8, dim=64, dtype="float32", seed=1)
    posted = events(case)
    return msgspec.structs.replace(step_messages(case, posted, wire(case, posted), form=Form()), **fields)


def report(of: StepMessages, **fields: Any) -> MessageReport:
    """A finished result on a step, the other exchanges beside it."""
    case = of.case
    beside = [of if exchange == case.exchange else step(exchange, case.world_size) for exchange in EXCHANGES]
    counted = [each for each in beside if not each.failures]
    told: dict[str, Any] = {
        "name": "siglip_verify.loss:SigLipLoss",
        "target": "siglip_verify.loss:SigLipLoss",
        "declared": "mean over ranks of sums divided by b",
        "step": of,
        "totals": rank_totals(of),
        "rows": tuple(message_row(each.case, each.events, each.wire) for each in counted),
        "collectives": tuple(row for each in counted for row in collective_rows(each)),
        "gather_backward": (
            GatherBackwardCost(
                collective="reduce_scatter",
                calls=1,
                payload_bytes=6144,
                ring_bytes=4096,
                modelled_wire_bytes=9344,
                wire_bytes=9344,
                note="gloo has none: it runs an all-reduce of all W blocks",
            ),
        ),
        "environment": {"python": "3.11.9", "torch": "2.13.0+cpu"},
    } | fields
    return MessageReport(**told)


def passing() -> MessageReport:
    return report(step())


def mismatching() -> MessageReport:
    """Rank 1 does not receive in the first hop of forward, and waits for ever."""
    whole = step("shift", 2)
    posted = tuple(e for e in whole.events if e.phase == "forward" and not (e.rank == 1 and e.kind == "recv"))
    stuck = tuple(msgspec.structs.replace(e, returned_s=None) if e.rank == 0 else e for e in posted)
    broken = msgspec.structs.replace(
        whole,
        events=stuck,
        wire=None,
        payload_matrix=byte_matrix(stuck, 2),
        wire_matrix=None,
        matches=whole.matches[1:2],
        findings=(Finding(name="unmatched-send", rank=0, detail="rank 0: send to rank 1, which never receives it"),),
        failures=(
            RankFailure(rank=0, kind="hung", blamed=True, detail="no answer after 5 s", traceback="at work.wait()"),
        ),
        notes=("rank 0: c10d::mystery_, 1 times, of unknown kind",),
    )
    return report(broken, gather_backward=())


def hostile() -> MessageReport:
    """Every text that can come from outside is nasty, and there are more ranks and hops than can be shown."""
    many = step("shift", 40)
    nasty = tuple(
        msgspec.structs.replace(e, kind="unknown", op=samples.NASTY, dtype=samples.NASTY, group=samples.NASTY)
        if e.sequence == 0
        else e
        for e in many.events
    )
    found = (Finding(name=samples.NASTY, detail=samples.NASTY),)
    return report(
        msgspec.structs.replace(many, events=nasty, findings=found, notes=(samples.NASTY,)),
        name=samples.NASTY,
        declared=samples.NASTY,
        environment={samples.NASTY: samples.NASTY},
    )


def steps() -> st.SearchStrategy[StepMessages]:
    """Draw steps of our exchanges with times of their own: in order on each rank, some never returned."""
    return st.builds(
        _timed,
        st.sampled_from(EXCHANGES),
        st.integers(1, 4),
        st.sampled_from(DTYPES),
        st.lists(st.tuples(st.integers(0, 40), st.integers(0, 90)), min_size=12, max_size=12),
        st.integers(0, 40),
    )


def _timed(
    exchange: Exchange, world_size: int, dtype: str, times: list[tuple[int, int]], unreturned: int
) -> StepMessages:
    """Give the i-th operation of each rank its i-th pause before and duration, in microseconds."""
    case = Case(exchange=exchange, world_size=world_size, batch=2, dim=3, dtype=dtype)
    timed: list[Event] = []
    for event in events(case):
        turns = [times[i % len(times)] for i in range(event.sequence + 1)]
        posted_s = START_S + sum(pause for pause, _ in turns) * 1e-6
        returned_s = None if event.sequence == unreturned else posted_s + turns[-1][1] * 1e-6
        timed.append(msgspec.structs.replace(event, posted_s=posted_s, returned_s=returned_s))
    return step_messages(case, timed, None, form=None)
