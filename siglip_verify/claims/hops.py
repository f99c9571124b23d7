"""What is said of the hops of an exchange: counted on real ranks.

Here: bidir, shift and reduce, and what is simplest. Not here: what hops cost (`cost`).
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from siglip_verify.case import EXCHANGES, Exchange
from siglip_verify.claims.result import Figure, Finding
from siglip_verify.claims.statement import DOCS, Lab, Statement
from siglip_verify.records import Event
from siglip_verify.result import StepMessages


class Hops(NamedTuple):
    """What one rank (the one that does most) does in forward, counted.

    Attributes:
        exchange: Which exchange.
        world_size: W.
        hops: Groups of operations that are posted together.
        sends: Messages sent.
        kinds: The operations of all ranks, by name.
        calls: Messages and collectives in forward and backward together.
        blocks_a_call: Payload of each operation, in blocks of b x d numbers.
    """

    exchange: Exchange
    world_size: int
    hops: int
    sends: int
    kinds: frozenset[str]
    calls: int
    blocks_a_call: frozenset[float]


def hops_of(step: StepMessages) -> Hops:
    """Count the hops of a step that was recorded."""
    case = step.case
    forward = [event for event in step.events if event.phase == "forward"]
    block_bytes = case.batch * case.dim * 4
    return Hops(
        exchange=case.exchange,
        world_size=case.world_size,
        hops=1 + max((event.hop for event in forward), default=-1),
        sends=_most(forward, case.world_size, {"send"}),
        kinds=frozenset(event.kind for event in forward),
        calls=_most([event for event in step.events if event.kind != "recv"], case.world_size),
        blocks_a_call=frozenset(event.payload_bytes / block_bytes for event in forward),
    )


def _most(events: Sequence[Event], world_size: int, kinds: set[str] | None = None) -> int:
    """Return how many of some events the rank has that has most of them."""
    return max(sum(e.rank == rank and (kinds is None or e.kind in kinds) for e in events) for rank in range(world_size))


def _figures(counted: Sequence[Hops]) -> Iterator[Figure]:
    for each in counted:
        yield Figure(f"{each.exchange}, W = {each.world_size}: hops in forward", each.hops, "", "counted")


def _sizes(counted: Sequence[Hops]) -> str:
    return ", ".join(str(each.world_size) for each in counted)


# ------------------------------------------------------------------ bidir
def judge_bidir(counted: Sequence[Hops]) -> Finding:
    """Answer from counted hops: exactly (W-1)/2, or that rounded up, for W-1 blocks."""
    figures = tuple(_figures(counted))
    whole = [each for each in counted if 2 * each.hops == each.world_size - 1 == each.sends]
    rounded_up = all(each.hops == each.world_size // 2 and each.sends == each.world_size - 1 for each in counted)
    if len(whole) == len(counted):
        return Finding(answer="holds", because=f"counted at W = {_sizes(counted)}", figures=figures)
    if rounded_up:
        odd_ones = [each for each in counted if each not in whole]
        because = (
            f"W-1 blocks arrive in (W-1)/2 hops at W = {_sizes(whole)}; where W is even, (W-1)/2 is no whole number, "
            f"and a last hop brings one block: W/2 hops at W = {_sizes(odd_ones)}"
        )
        return Finding(answer="holds with a condition", because=because, figures=figures)
    wrong = [each for each in counted if each.hops != each.world_size // 2 or each.sends != each.world_size - 1]
    said = ", ".join(f"{each.hops} hops and {each.sends} blocks at W = {each.world_size}" for each in wrong)
    return Finding(answer="does not hold", because=f"counted: {said}", figures=figures)


# ------------------------------------------------------------------ shift
def judge_shift(counted: Sequence[Hops]) -> Finding:
    """Answer from counted hops: W-1, one message to a rank in each."""
    figures = tuple(_figures(counted))
    wrong = [each for each in counted if not each.hops == each.sends == each.world_size - 1]
    if not wrong:
        because = f"counted at W = {_sizes(counted)}: W-1 hops, and one block sent in each"
        return Finding(answer="holds", because=because, figures=figures)
    said = ", ".join(f"{each.sends} blocks in {each.hops} hops at W = {each.world_size}" for each in wrong)
    return Finding(answer="does not hold", because=f"counted: {said}", figures=figures)


# ------------------------------------------------------------------ reduce
def judge_reduce(counted: Sequence[Hops]) -> Finding:
    """Answer from counted operations: W hops, each an all-reduce of one block."""
    figures = tuple(_figures(counted))
    wrong = [
        each
        for each in counted
        if (each.kinds, each.blocks_a_call, each.hops) != (frozenset(["all_reduce"]), frozenset([1.0]), each.world_size)
    ]
    if not wrong:
        because = f"counted at W = {_sizes(counted)}: W all-reduces in forward, one after another, each of one block"
        return Finding(answer="holds", because=because, figures=figures)
    said = ", ".join(f"{', '.join(sorted(each.kinds))} in {each.hops} hops at W = {each.world_size}" for each in wrong)
    return Finding(answer="does not hold", because=f"counted: {said}", figures=figures)


# ------------------------------------------------------------------ what is simplest
class Simplicity(NamedTuple):
    """How simple an exchange is: calls that a rank makes in a step at some W, and statements of its source."""

    exchange: Exchange
    world_size: int
    calls: int
    statements: int


def statements_of(source: str) -> int:
    """Count the statements of a module, docstrings and imports left out."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)]
    texts = [node for node in nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
    return len(nodes) - len(texts) - sum(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes)


def measure_simplicity(lab: Lab) -> list[Simplicity]:
    """Count calls on real ranks, and statements in the source of each exchange."""
    return [
        Simplicity(
            exchange,
            lab.world_sizes[-1],
            hops_of(lab.steps(exchange)[-1]).calls,
            statements_of(inspect.getsource(importlib.import_module(f"siglip_verify.loss.exchanges.{exchange}"))),
        )
        for exchange in EXCHANGES
    ]


def judge_simplicity(measured: Sequence[Simplicity]) -> Finding:
    """Answer from calls and statements: gather has fewer of both than any other."""
    figures = tuple(
        figure
        for each in measured
        for figure in (
            Figure(f"{each.exchange}, W = {each.world_size}: calls a rank and step", each.calls, "", "counted"),
            Figure(f"{each.exchange}: statements of its module", each.statements, "", "counted"),
        )
    )
    gather = next(each for each in measured if each.exchange == "gather")
    others = [each for each in measured if each.exchange != "gather"]
    fewest = {
        "calls": all(gather.calls < each.calls for each in others),
        "statements": all(gather.statements < each.statements for each in others),
    }
    said = "; ".join(
        f"{each.exchange} {each.calls} calls a rank and step, {each.statements} statements" for each in measured
    )
    if all(fewest.values()):
        return Finding(answer="holds", because=f"fewest calls and fewest statements: {said}", figures=figures)
    if any(fewest.values()):
        which = next(name for name, is_fewest in fewest.items() if is_fewest)
        other = next(name for name, is_fewest in fewest.items() if not is_fewest)
        because = f"fewest {which}, not fewest {other}: {said}"
        return Finding(answer="holds with a condition", because=because, figures=figures)
    return Finding(answer="does not hold", because=said, figures=figures)


STATEMENTS = (
    Statement(
        id="bidir-steps",
        says="bidir takes (W-1)/2 steps for its W-1 exchanges.",
        source=DOCS,
        how=(
            "A recorded step at W = 2, 3, 4, 5, 8 on gloo. Holds if every rank sends W-1 blocks in exactly (W-1)/2 "
            "hops."
        ),
        measure=lambda lab: [hops_of(step) for step in lab.steps("bidir")],
        judge=judge_bidir,
    ),
    Statement(
        id="shift-steps",
        says="shift takes W-1 sequential steps.",
        source=DOCS,
        how="A recorded step at W = 2, 3, 4, 5, 8 on gloo. Holds if every rank sends W-1 blocks in W-1 hops.",
        measure=lambda lab: [hops_of(step) for step in lab.steps("shift")],
        judge=judge_shift,
    ),
    Statement(
        id="reduce-one-at-a-time",
        says="reduce works one rank at a time, by all-reduce.",
        source=DOCS,
        how=(
            "A recorded step at W = 2, 3, 4, 5, 8 on gloo. Holds if forward is W all-reduces of one block, each a hop "
            "of its own."
        ),
        measure=lambda lab: [hops_of(step) for step in lab.steps("reduce")],
        judge=judge_reduce,
    ),
    Statement(
        id="gather-simplest",
        says="gather is the simplest exchange.",
        source=DOCS,
        how=(
            "Calls a rank and step at W = 8, recorded on gloo, and statements of each exchange's module in this "
            "package (shift and bidir stand on a module for hops beside it). Holds if gather has the fewest of both."
        ),
        measure=measure_simplicity,
        judge=judge_simplicity,
    ),
)
