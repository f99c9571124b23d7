"""Closed form: the time of rounds in which all ranks are in step.

Where all ranks are alike (`Fabric.is_level`), and where all cross hosts or none does (flips), every rank begins and
ends every round at the same time. A round's messages then load each link with a known number of bytes, the link is busy
until the last of them is through, and a phase is a sum. Where ranks differ, some wait for others, whose messages pass
meanwhile: for that there is `engine`.
"""

from __future__ import annotations

from collections.abc import Sequence

from siglip_verify.simulate.fabric import Fabric, Flow, LinkId
from siglip_verify.simulate.rounds import Program, Round


def is_exact(fabric: Fabric, program: Program) -> bool:
    """Whether all ranks stay in step, so that the closed form holds."""
    return fabric.is_level or all(
        transfer.flip for loop in program for each in loop.rounds for transfer in each.transfers
    )


def seconds(fabric: Fabric, program: Program) -> float:
    """Return the time of a program: the sum over rounds of communication or computing, whichever is longer, and after.

    Exact where `is_exact`; elsewhere what it would take if all ranks began every round together.
    """
    return sum(
        loop.times * sum(max(communication_s(fabric, each), each.during_s) + each.after_s for each in loop.rounds)
        for loop in program
    )


def communication_s(fabric: Fabric, each: Round) -> float:
    """Return the time of a round's communication if all ranks begin it together.

    The last message to end is the one whose way has the most to carry: latency + bytes on its busiest link / bandwidth.
    """
    flows = fabric.flows(each.transfers)
    busy_s = busy_seconds(fabric, flows)
    return (
        each.call_s + each.fixed_s + max((f.latency_s + max(busy_s[link] for link in f.path) for f in flows), default=0)
    )


def busy_seconds(fabric: Fabric, flows: Sequence[Flow]) -> dict[LinkId, float]:
    """Return how long each link is busy with some messages."""
    busy_s: dict[LinkId, float] = {}
    for flow in flows:
        for link in flow.path:
            busy_s[link] = busy_s.get(link, 0.0) + flow.num_bytes / fabric.bytes_per_s(link)
    return busy_s
