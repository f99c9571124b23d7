"""Proofs that a schedule is right at any world size: what every rank sees, what comes home, and that nobody waits.

Why following one block is a proof for all ranks. A hop has no rank in it: every rank sends to the rank `offset` places
to its right. Turn the ring by one place and the schedule is the same, so what happens to rank r's block is what happens
to rank 0's, r places on. If rank 0's block comes to the places p1, p2, ..., then rank r sees the blocks of the ranks
r - p1, r - p2, ...: it sees every other block once exactly if the places are 1 .. W-1, each once. The same turn makes a
deadlock a matter of one hop: all ranks always stand at the same hop, so if what a rank waits for is posted in that hop,
all go on, and if it is not, nobody ever will. Equal hops in a row are one run, and where a block goes in a run is an
interval; that is why 65,536 ranks cost no more than four.

A gradient that travels along is known by where it is. A rank sends on the gradient that has been with it longest, with
its own share; so the gradient of one block takes the way that its text took, one hop behind it or more (two with
overlap), and has every rank's share once if it goes all that way and then home. No share can be sent before the text
that it is made of has come.

Where it stops. It is about the schedule: that the loss sends what is planned is for the recorded messages to show, and
that numbers are right for the equivalence check. It trusts a collective to do what its name says. It knows no failing
rank and no time. A schedule in which ranks differ, as one of several hosts with leaders would, has no such symmetry.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import msgspec

from siglip_verify.plan import GRADIENT, SHAPES, TEXT, UPSTREAM, Collective, Hop, Move, Phase, Plan, Run

OWN_TEXT = "own text"
"""Nothing planned carries `own text`, a rank's own in place of the one that came; it is understood so that a schedule
which does not pass on can be refused for what it does."""

Places = tuple[int, int]
"""The places first .. last, counted to the right from a block's owner; not yet taken modulo W."""


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of one schedule.

    Attributes:
        exchange, memory, world_size: The schedule.
        faults: What is wrong with it, in words; empty if it is proved.
    """

    exchange: str
    memory: str
    world_size: int
    faults: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether the schedule is proved."""
        return not self.faults


class Post(NamedTuple):
    """One operation that every rank posts: to or from the rank `peer` places to its right, for one move of the hop."""

    kind: str
    peer: int
    move: Move


def together(hop: Sequence[Move]) -> list[list[Post]]:
    """Return what a rank posts for a hop, in groups that it waits for: here all sends and receives in one."""
    sends = [Post("send", move.offset, move) for move in hop]
    receives = [Post("recv", -move.offset, move) for move in hop]
    return [sends + receives]


def prove(plan: Plan, posted: Callable[[Sequence[Move]], list[list[Post]]] = together) -> Proof:
    """Prove that a schedule shows every rank every other block once, brings every gradient home, and never waits.

    Seen: where texts travel every rank's block comes to every other rank, once, and never back to its owner. Home: each
    rank's share of the gradient of every other rank's block reaches the owner, once, so that the owner holds the sum
    over all ranks; only where texts need a gradient. Nothing else is sent: a phase in which the form of the loss has
    nothing to show or to bring home has no hop. Beside the exchange, ranks that agree on shapes do so before it, once,
    and upstream gradients are compared along one ring through all ranks. Waiting: sends are taken to be rendezvous
    sends, which end when the receive is there; if no rank waits in vain then, none does with buffers. The cost does not
    depend on W.

    Args:
        plan: The schedule.
        posted: How a hop is posted; give another to prove another way of posting than `together`.
    """
    faults: list[str] = []
    forward, backward = (_after_agreement(plan, phase, faults) for phase in ("forward", "backward"))
    if plan.exchange in ("reduce", "gather"):
        _prove_collectives(plan, forward, backward, faults)
    else:
        _prove_streams(plan, _of_moves(forward, faults), _of_moves(backward, faults), faults)
    faults += _waits([*plan.runs("forward"), *plan.runs("backward")], posted, plan.world_size)
    return Proof(exchange=plan.exchange, memory=plan.memory, world_size=plan.world_size, faults=tuple(faults))


# ------------------------------------------------------------------ beside the exchange
def _after_agreement(plan: Plan, phase: Phase, faults: list[str]) -> Sequence[Run]:
    """Return the runs of the exchange itself; what is agreed or compared before it must be there, and right."""
    runs = plan.runs(phase)
    if plan.world_size == 1:
        return runs
    if phase == "forward" and plan.agrees:
        if not runs or runs[0] != Run(Collective("all_gather", 1, (SHAPES,)), 1):
            faults.append(f"shapes are agreed on by one all-gather before any block is sent; got {runs[:1]}")
        return runs[1:]
    if phase == "backward" and plan.compares and plan.text_grad:
        if not runs or not _compares(runs[0], plan.world_size):
            faults.append(f"upstream gradients are compared along one ring through all ranks; got {runs[:1]}")
        return runs[1:]
    return runs


def _compares(run: Run, world_size: int) -> bool:
    """Tell whether every rank sends its upstream gradient on, once, along one cycle of all ranks."""
    if isinstance(run.hop, Collective) or len(run.hop) != 1 or run.times != 1:
        return False
    (move,) = run.hop
    return move.carries == (UPSTREAM,) and math.gcd(move.offset, world_size) == 1


def _of_moves(runs: Iterable[Run], faults: list[str]) -> list[Run]:
    """Return the runs that are moves; no collective belongs to a ring."""
    others = [run for run in runs if isinstance(run.hop, Collective)]
    faults += [f"bidir and shift are made of moves alone; got {run.hop}" for run in others]
    return [run for run in runs if run not in others]


# ------------------------------------------------------------------ blocks that travel
def _prove_streams(plan: Plan, forward: Sequence[Run], backward: Sequence[Run], faults: list[str]) -> None:
    """Follow rank 0's block, and its gradient where they travel together; else see that backward is forward undone."""
    _follow(plan, "forward", forward, faults, brings_home=plan.text_grad and plan.memory == "constant")
    if not plan.text_grad or plan.memory == "constant":
        faults += [f"backward has {run.times} hops more than it needs: {run.hop}" for run in backward]
    elif plan.memory == "recompute":
        _follow(plan, "backward", backward, faults, brings_home=True)
    else:  # each hop undone, from the last to the first, gathers a share wherever the text was seen
        faults += _not_undone(forward, backward, plan.world_size)


def _follow(plan: Plan, phase: Phase, runs: Sequence[Run], faults: list[str], *, brings_home: bool) -> None:
    """See that a block comes everywhere once and, where it should, its gradient home once from each rank."""
    streams: dict[str, _Stream] = defaultdict(_Stream)
    home: list[Places] = []
    for move, times in ((move, run.times) for run in runs for move in _moves(run.hop)):
        if move.towards != "home":
            faults += streams[move.towards].go(move, times, lag=int(plan.overlap))
            continue
        arriving = [stream for stream in streams.values() if stream.comes_home(move.offset, plan.world_size)]
        if not arriving or times > 1 or move.carries != (GRADIENT,):
            faults.append(f"a gradient is sent {move.offset:+d} places, {times} times, and comes to no owner for it")
        for stream in arriving:
            home += stream.seen
            stream.is_home = True
    seen = [places for stream in streams.values() for places in stream.seen]
    others = range(1, plan.world_size)
    faults += _not_each_once(f"in {phase} a block is seen", seen, others, plan.world_size)
    expected = others if brings_home else range(0)
    faults += _not_each_once(f"in {phase} the gradient of a block comes home", home, expected, plan.world_size)
    if not brings_home and any(stream.followed for stream in streams.values()):
        faults.append(f"in {phase} a gradient travels that nobody asks for")


class _Stream:
    """Where rank 0's block has come in one direction, and how far its gradient has followed it."""

    def __init__(self) -> None:
        self.at = 0
        self.seen: list[Places] = []
        self.hops: list[tuple[int, int]] = []  # of the text: offset, times
        self.followed: list[tuple[int, int]] = []  # of the gradient
        self.is_home = False

    def go(self, move: Move, times: int, lag: int) -> Iterator[str]:
        """Make one move several times; say what of it cannot be.

        With a lag of 1 a hop leaves before anybody has looked at the texts that the hop before it brought.
        """
        if self.is_home or not {TEXT, GRADIENT, OWN_TEXT}.issuperset(move.carries):
            yield f"nothing asks for a hop of {move}"
        come = _length(self.hops)
        if GRADIENT in move.carries:
            self.followed.append((move.offset, times))
            behind = come - _length(self.followed) + (times - 1 if move.carries != (GRADIENT,) else 0)
            if behind < lag:
                yield f"a gradient leaves for {move.offset:+d} before the text that it is made of is looked at"
        if OWN_TEXT in move.carries:
            self.seen += [(move.offset, move.offset)] * min(times, 2)
            self.at = move.offset
        elif TEXT in move.carries:
            self.seen += _visited(self.at, move.offset, times)
            self.at += move.offset * times
        if move.carries != (GRADIENT,):
            self.hops.append((move.offset, times))

    def comes_home(self, offset: int, world_size: int) -> bool:
        """Tell whether the gradient has gone all the way of its text, and this move brings it to its owner."""
        if not self.hops or self.is_home or (self.at + offset) % world_size:
            return False
        return _way(self.followed, world_size) == _way(_without_first(self.hops), world_size)


def _length(hops: Iterable[tuple[int, int]]) -> int:
    return sum(times for _, times in hops)


def _without_first(hops: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    (offset, times), *others = hops
    return [(offset, times - 1), *others]


def _way(hops: Iterable[tuple[int, int]], world_size: int) -> list[tuple[int, int]]:
    """Return a way modulo W, equal hops in a row together."""
    way: list[tuple[int, int]] = []
    for offset, times in ((offset % world_size, times) for offset, times in hops if times):
        if way and way[-1][0] == offset:
            times += way.pop()[1]
        way.append((offset, times))
    return way


def _visited(start: int, offset: int, times: int) -> list[Places]:
    """Return the places that moves come to: an interval for steps of one, else the places one by one."""
    if abs(offset) == 1:
        ends = start + offset, start + offset * times
        return [(min(ends), max(ends))]
    return [(place, place) for place in (start + offset * (count + 1) for count in range(times))]


def _not_undone(forward: Sequence[Run], backward: Sequence[Run], world_size: int) -> Iterator[str]:
    """Say where backward is not forward undone: hop for hop from the last, a gradient back where its text came from."""
    there = [(run.hop, run.times) for run in reversed(forward)]
    back = [(run.hop, run.times) for run in backward]
    if sum(times for _, times in there) != sum(times for _, times in back):
        yield f"backward has {sum(t for _, t in back)} hops and forward {sum(t for _, t in there)}"
        return
    for hop, (came, goes) in _aligned(there, back):
        offsets = [-move.offset % world_size for move in _moves(came)]
        if offsets != [move.offset % world_size for move in _moves(goes)]:
            yield f"hop {hop} of backward does not send gradients back where their texts came from: {goes}"
        elif any(move.carries != (GRADIENT,) for move in _moves(goes)):
            yield f"hop {hop} of backward does not send gradients: {goes}"


def _aligned(one: Sequence[tuple[Hop, int]], other: Sequence[tuple[Hop, int]]) -> Iterator[tuple[int, tuple[Hop, Hop]]]:
    """Pair the hops of two lists of the same length, once for each piece in which neither changes."""
    ends = [list(accumulate(times for _, times in runs)) for runs in (one, other)]
    for first in sorted({0}.union(*ends))[:-1]:
        yield first, (one[bisect_right(ends[0], first)][0], other[bisect_right(ends[1], first)][0])


def _moves(hop: Hop) -> tuple[Move, ...]:
    assert not isinstance(hop, Collective), "collectives have been taken out"
    return hop


# ------------------------------------------------------------------ blocks in collectives
def _prove_collectives(plan: Plan, forward: Sequence[Run], backward: Sequence[Run], faults: list[str]) -> None:
    """Each rank's block is shown once (to the rank itself, too), and its gradient brought home once."""
    everyone = range(plan.world_size if plan.world_size > 1 else 0)  # one rank alone sends nothing
    asked_for = everyone if plan.text_grad else range(0)
    seen = _through_collectives(forward, TEXT, plan.world_size, faults)
    home = _through_collectives(backward, GRADIENT, plan.world_size, faults)
    faults += _not_each_once("a block is seen", seen, everyone, plan.world_size)
    faults += _not_each_once("the gradient of a block comes home", home, asked_for, plan.world_size)


def _through_collectives(runs: Sequence[Run], word: str, world_size: int, faults: list[str]) -> list[Places]:
    """Return whose blocks collectives show (or whose gradients they bring home), by the owner's rank.

    The i-th masked all-reduce is that of rank i's block: all give zeros but the owner, or keep nothing but the owner.
    """
    owners: list[Places] = []
    calls = 0
    for run in runs:
        hop = run.hop
        if not isinstance(hop, Collective) or hop.carries != (word,):
            faults.append(f"a collective that carries {word} is needed; got {hop}")
        elif hop.kind == "all_reduce" and hop.blocks == 1:
            owners.append((calls, calls + run.times - 1))
            calls += run.times
        elif hop.blocks == (1 if hop.kind == "all_gather" else world_size):
            owners += [(0, world_size - 1)] * run.times
        else:
            faults.append(f"{hop.kind} hands over {hop.blocks} blocks at W = {world_size}")
    return owners


# ------------------------------------------------------------------ each once, and nobody waits
def _not_each_once(what: str, found: Iterable[Places], expected: range, world_size: int) -> Iterator[str]:
    """Say which of the expected places are not among those found once exactly, and which others are."""
    wanted = [(expected.start, expected.stop - 1)] if expected else []
    changes: Counter[int] = Counter()
    for (first, last), by in [*((p, 1) for p in _modulo(found, world_size)), *((p, -1) for p in wanted)]:
        changes[first] += by
        changes[last + 1] -= by
    surplus = 0
    for place, following in pairwise(sorted(changes)):
        surplus += changes[place]
        if surplus:
            times = surplus + (place in expected)
            where = f"at the places {place}..{following - 1} of W = {world_size}"
            yield f"{what} {times} times, not {times - surplus}, {where}"


def _modulo(found: Iterable[Places], world_size: int) -> Iterator[Places]:
    """Wrap places around the ring: intervals within 0 .. W-1."""
    for first, last in found:
        while first <= last:
            end = min(last, first + world_size - 1 - first % world_size)
            yield first % world_size, end % world_size
            first = end + 1


def _waits(runs: Iterable[Run], posted: Callable[[Sequence[Move]], list[list[Post]]], world_size: int) -> list[str]:
    """Say which hops never end. All ranks stand at the same group, so it ends if its sends and receives match."""
    faults: list[str] = []
    hops = [run.hop for run in runs if not isinstance(run.hop, Collective)]
    for group in (group for hop in hops for group in posted(hop)):
        ends: dict[int, tuple[list[Move], list[Move]]] = defaultdict(lambda: ([], []))
        for post in group:
            places = post.peer if post.kind == "send" else -post.peer
            ends[places % world_size][post.kind == "recv"].append(post.move)
        for places, (sent, received) in ends.items():
            if places == 0:
                faults.append("a rank sends to itself")
            elif len(sent) != len(received):
                length = world_size // math.gcd(world_size, places)
                faults.append(
                    f"a cycle of {length} ranks waits for ever: each sends {len(sent)} messages {places} places on "
                    f"and posts {len(received)} receives for them"
                )
            elif sent != received:
                faults.append(f"messages to the rank {places} places on are taken for each other: {sent}")
    return faults
