"""What the tests of the constant-memory loss hold its steps against."""

from __future__ import annotations

from collections.abc import Sequence

import constant_jobs as jobs

from siglip_verify import features, oracle
from siglip_verify.case import Case, itemsize
from siglip_verify.checks import equivalence
from siglip_verify.plan import Plan, plan
from siglip_verify.records import Event

EXCHANGES = ("shift", "bidir")
CASE = Case(batch=3, dim=5, seed=11, upstream="scaled")


def judge(case: Case, steps: Sequence[jobs.Step]) -> None:
    """Assert that every quantity of every rank is that of the oracle, to within rounding."""
    inputs = features.draw(case)
    reference = oracle.reference(
        inputs.images, inputs.texts, inputs.scale.item(), inputs.bias.item(), upstream=inputs.upstream
    )
    for share in equivalence.judge(case, [step.record for step in steps], reference):
        assert share.share <= 1, equivalence.describe(share, case)


def planned(case: Case, text_grad: bool = True) -> Plan:
    """Return the plan of a step in constant memory."""
    return plan(
        case.exchange,
        case.world_size,
        case.batch,
        case.dim,
        itemsize(case.dtype),
        image_grad=case.frozen != "image",
        text_grad=text_grad and case.frozen != "text",
        memory="constant",
    )


def table(events: Sequence[Event], world_size: int, block_bytes: int) -> list[list[tuple[int, int]]]:
    """List one rank's hops in both phases: for each message how many places to the right it goes, and its blocks."""
    hops: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for event in events:
        if event.kind == "send":
            blocks, rest = divmod(event.payload_bytes, block_bytes)
            assert rest == 0
            hops.setdefault((event.phase, event.hop), []).append(((event.dst - event.rank) % world_size, blocks))
    return [hops[hop] for hop in sorted(hops, key=lambda hop: (hop[0] == "backward", hop[1]))]
