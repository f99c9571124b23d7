"""The rounds of one phase of one exchange: hops of the plan, with the computing of blocks between them.

As the loss is written a rank does one thing after the other. Where texts travel, the own block is computed first and
each hop is followed by the blocks that it brought. In autograd's backward it is the other way round: each hop is
preceded by the blocks whose gradients it sends. Where gradients travel with their texts the first hop, which carries
none, leaves before the own block is computed.

With overlap a hop leaves as soon as the one before it has arrived, and the blocks of that one are computed while it is
under way: in forward, and where gradients travel with their texts, which are then one hop behind. Autograd's backward
overlaps nothing. It computes the gradients of one hop's blocks more before it sends the first, because autograd undoes
what was done in the order in which it was done.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from siglip_verify.plan import GRADIENT, TEXT, Collective, Hop, Move, Phase, Plan
from siglip_verify.simulate.compute import BlockTime
from siglip_verify.simulate.rounds import Loop, Program, Round, Transfer


class _Leg(NamedTuple):
    """Equal hops in a row, and how many blocks each brings, or in autograd's backward sends the gradients of."""

    hop: Round
    blocks: int
    times: int


def phase_program(
    plan: Plan,
    phase: Phase,
    block: BlockTime,
    *,
    posting_s: Callable[[int], float],
    collective_s: Mapping[Collective, float],
) -> Program:
    """Return the rounds of a phase.

    Args:
        plan: What is sent, and whether hops overlap computing.
        phase: Which phase.
        block: Seconds a block; in constant memory forward computes gradients too, and backward nothing.
        posting_s: Gives what posting a hop of so many messages takes.
        collective_s: What a call of each collective of the plan takes.
    """
    legs = list(_legs(plan, phase, posting_s, collective_s))
    own = plan.world_size - sum(leg.blocks * leg.times for leg in legs)
    seconds = block.forward if phase == "forward" else block.backward
    if not legs:
        return (Loop((Round(after_s=own * seconds),)),)
    if _undoes(plan, phase):
        return tuple(_undone(legs, own, seconds, plan.overlap))
    if plan.overlap:
        return tuple(_ahead(legs, own, seconds))
    return tuple((_with_gradients if _carries_gradients(plan, phase) else _in_turn)(legs, own, seconds))


def _undoes(plan: Plan, phase: Phase) -> bool:
    return phase == "backward" and plan.memory == "autograd"


def _carries_gradients(plan: Plan, phase: Phase) -> bool:
    return plan.text_grad and (plan.memory, phase) in (("constant", "forward"), ("recompute", "backward"))


def _legs(
    plan: Plan, phase: Phase, posting_s: Callable[[int], float], collective_s: Mapping[Collective, float]
) -> Iterator[_Leg]:
    word = GRADIENT if _undoes(plan, phase) else TEXT
    brought = 0
    for run in plan.runs(phase):
        if brought and plan.overlap and _only_home(run.hop):
            yield _Leg(Round(), 0, 1)  # W = 2 and 3: the gradient goes home when it is computed, with nothing under way
        brought = _blocks(run.hop, plan, word)
        yield _Leg(_posted(run.hop, plan, posting_s, collective_s), brought, run.times)


def _only_home(hop: Hop) -> bool:
    return not isinstance(hop, Collective) and all(move.towards == "home" for move in hop)


def _posted(hop: Hop, plan: Plan, posting_s: Callable[[int], float], collective_s: Mapping[Collective, float]) -> Round:
    if isinstance(hop, Collective):
        return Round(fixed_s=collective_s[hop])
    return Round(transfers_of(hop, plan), call_s=posting_s(len(hop)))


def transfers_of(moves: Sequence[Move], plan: Plan) -> tuple[Transfer, ...]:
    """Return the messages of a hop."""
    return tuple(Transfer(float(plan.bytes_of(move.carries)), offset=move.offset) for move in moves)


def _blocks(hop: Hop, plan: Plan, word: str) -> int:
    if isinstance(hop, Collective):
        return plan.world_size if plan.exchange == "gather" else 1
    return sum(word in move.carries for move in hop)


# ------------------------------------------------------------------ hops and blocks
_NO_HOP = _Leg(Round(), 0, 1)

Blocks = list[tuple[int, int]]
"""Numbers of blocks, each with how many times in a row."""


def _in_turn(legs: Sequence[_Leg], own: int, seconds: float) -> Iterator[Loop]:
    """Compute the own block, then what each hop brings."""
    for leg, blocks in _paired([_NO_HOP, *legs], [(own, 1), *_of(legs)]):
        yield _loop(leg, after_s=blocks * seconds)


def _with_gradients(legs: Sequence[_Leg], own: int, seconds: float) -> Iterator[Loop]:
    """Compute the own block while the first hop is under way, then what each hop brings."""
    first, *others = legs
    yield _loop(first._replace(times=1), during_s=own * seconds, after_s=first.blocks * seconds)
    for leg in (first._replace(times=first.times - 1), *others):
        yield _loop(leg, after_s=leg.blocks * seconds)


def _ahead(legs: Sequence[_Leg], own: int, seconds: float) -> Iterator[Loop]:
    """Compute the own block while the first hop is under way, and what each hop brings during the next."""
    for leg, blocks in _paired([*legs, _NO_HOP], [(own, 1), *_of(legs)]):
        yield _loop(leg, during_s=blocks * seconds)


def _undone(legs: Sequence[_Leg], own: int, seconds: float, ahead: int) -> Iterator[Loop]:
    """Compute the blocks whose gradients each hop sends, and those of so many hops after it, before it leaves."""
    for leg, blocks in _paired([*[_NO_HOP] * (1 + ahead), *legs], [*_of(legs), (own, 1), (0, ahead)]):
        yield _loop(leg, after_s=blocks * seconds)


def _of(legs: Sequence[_Leg]) -> Blocks:
    return [(leg.blocks, leg.times) for leg in legs]


def _paired(legs: Sequence[_Leg], blocks: Blocks) -> Iterator[tuple[_Leg, int]]:
    """Give each hop in turn the next number of blocks, equal pairs in a row as one."""
    ends = [list(accumulate(times)) for times in ([leg.times for leg in legs], [times for _, times in blocks])]
    for first, end in pairwise(sorted({0}.union(*ends))):
        leg, (number, _) = legs[bisect_right(ends[0], first)], blocks[bisect_right(ends[1], first)]
        yield leg._replace(times=end - first), number


def _loop(leg: _Leg, during_s: float = 0.0, after_s: float = 0.0) -> Loop:
    each = leg.hop
    return Loop((Round(each.transfers, each.call_s, each.fixed_s, during_s, after_s),), leg.times)
