"""The rounds of one phase of one exchange: hops of the plan, with the computing of blocks between them.

Computing and hops alternate. In forward the own block comes first and each hop is followed by the blocks that it
brought; in backward it is the other way round, each hop preceded by the blocks whose gradients it sends. As the loss is
written a rank does one thing after the other, but for the first hop in constant memory, which carries no gradient and
leaves before the own block is computed. With overlap, as it could be written, a hop is under way while the blocks of
the hop before (in backward, of the next) are computed: two blocks of buffer are all that it takes. In constant memory
a hop carries the gradient of the blocks before it, so there is nothing to overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from siglip_verify.plan import Collective, Hop, Move, Phase, Plan
from siglip_verify.simulate.compute import BlockTime
from siglip_verify.simulate.rounds import Loop, Program, Round, Transfer


class _Leg(NamedTuple):
    """Equal hops in a row, and how many blocks each of them brings (in forward) or sends the gradients of."""

    hop: Round
    blocks: int
    times: int


def phase_program(
    plan: Plan,
    phase: Phase,
    block: BlockTime,
    *,
    call_s: float,
    collective_s: Mapping[Collective, float],
    overlap: bool = False,
) -> Program:
    """Return the rounds of a phase.

    Args:
        plan: What is sent.
        phase: Which phase.
        block: Seconds a block; in constant memory forward computes gradients too, and backward nothing.
        call_s: What posting a hop takes.
        collective_s: What a call of each collective of the plan takes.
        overlap: Compute while hops are under way.
    """
    legs = list(_legs(plan, phase, call_s, collective_s))
    own = plan.world_size - sum(leg.blocks * leg.times for leg in _legs(plan, "forward", call_s, collective_s))
    seconds = block.forward if phase == "forward" else block.backward
    if not legs:
        return (Loop((Round(after_s=plan.world_size * seconds),)),)
    if phase == "backward":
        return tuple(_mirrored(legs, own, seconds, overlap))
    if plan.memory == "constant":
        return tuple(_with_gradients(legs, own, seconds))
    return tuple(_overlapped(legs, own, seconds) if overlap else _in_turn(legs, own, seconds))


def _legs(plan: Plan, phase: Phase, call_s: float, collective_s: Mapping[Collective, float]) -> Iterator[_Leg]:
    for run in plan.runs(phase):
        yield _Leg(_posted(run.hop, plan, call_s, collective_s), _blocks(run.hop, plan, phase), run.times)


def _posted(hop: Hop, plan: Plan, call_s: float, collective_s: Mapping[Collective, float]) -> Round:
    if isinstance(hop, Collective):
        return Round(fixed_s=collective_s[hop])
    return Round(transfers_of(hop, plan), call_s=call_s)


def transfers_of(moves: Sequence[Move], plan: Plan) -> tuple[Transfer, ...]:
    """Return the messages of a hop."""
    return tuple(Transfer(float(plan.bytes_of(move.carries)), offset=move.offset) for move in moves)


def _blocks(hop: Hop, plan: Plan, phase: Phase) -> int:
    if isinstance(hop, Collective):
        return plan.world_size if plan.exchange == "gather" else 1
    word = "text" if phase == "forward" else "text gradient"
    return sum(word in move.carries for move in hop)


def _in_turn(legs: Sequence[_Leg], own: int, seconds: float) -> Iterator[Loop]:
    yield Loop((Round(after_s=own * seconds),))
    for leg in legs:
        yield _loop(leg, after_s=leg.blocks * seconds)


def _with_gradients(legs: Sequence[_Leg], own: int, seconds: float) -> Iterator[Loop]:
    first, *others = legs
    yield _loop(first._replace(times=1), during_s=own * seconds, after_s=first.blocks * seconds)
    yield _loop(first._replace(times=first.times - 1), after_s=first.blocks * seconds)
    for leg in others:
        yield _loop(leg, after_s=leg.blocks * seconds)


def _overlapped(legs: Sequence[_Leg], own: int, seconds: float) -> Iterator[Loop]:
    here = own
    for leg in legs:
        yield _loop(leg._replace(times=1), during_s=here * seconds)
        yield _loop(leg._replace(times=leg.times - 1), during_s=leg.blocks * seconds)
        here = leg.blocks
    yield Loop((Round(after_s=here * seconds),))


def _mirrored(legs: Sequence[_Leg], own: int, seconds: float, overlap: bool) -> Iterator[Loop]:
    following = [*(leg.blocks for leg in legs[1:]), own]
    yield Loop((Round(after_s=legs[0].blocks * seconds),))
    for leg, blocks in zip(legs, following, strict=True):
        for part, next_blocks in ((leg._replace(times=leg.times - 1), leg.blocks), (leg._replace(times=1), blocks)):
            computing = next_blocks * seconds
            yield _loop(part, during_s=computing) if overlap else _loop(part, after_s=computing)


def _loop(leg: _Leg, during_s: float = 0.0, after_s: float = 0.0) -> Loop:
    each = leg.hop
    return Loop((Round(each.transfers, each.call_s, each.fixed_s, during_s, after_s),), leg.times)
