"""Proofs that a schedule is right at any world size: what every rank sees, what comes home, and that nobody waits.

Why following one block is a proof for all ranks. A hop has no rank in it: every rank sends to the rank `offset` places
to its right. Turn the ring by one place and the schedule is the same, so what happens to rank r's block is what happens
to rank 0's, r places on. If rank 0's block comes to the places p1, p2, ..., then rank r sees the blocks of the ranks
r - p1, r - p2, ...: it sees every other block once exactly if the places are 1 .. W-1, each once. The same turn makes a
deadlock a matter of one hop: all ranks always stand at the same hop, so if what a rank waits for is posted in that hop,
all go on, and if it is not, nobody ever will. Equal hops in a row are one run, and where a block goes in a run is an
interval; that is why 65,536 ranks cost no more than four.

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

from siglip_verify.plan import Collective, Hop, Move, Plan, Run

TEXT, GRADIENT, OWN_TEXT = "text", "text gradient", "own text"
"""What a message carries. Nothing planned carries `own text`, a rank's own in place of the one that came; it is
understood so that a schedule which does not pass on can be refused for what it does."""

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
    """One operation that every rank posts: to or from the rank `peer` places to its right."""

    kind: str
    peer: int
    blocks: int


def together(hop: Sequence[Move]) -> list[list[Post]]:
    """Return what a rank posts for a hop, in groups that it waits for: here all sends and receives in one."""
    sends = [Post("send", move.offset, len(move.carries)) for move in hop]
    receives = [Post("recv", -move.offset, len(move.carries)) for move in hop]
    return [sends + receives]


def prove(plan: Plan, posted: Callable[[Sequence[Move]], list[list[Post]]] = together) -> Proof:
    """Prove that a schedule shows every rank every other block once, brings every gradient home, and never waits.

    Seen: in forward every rank's block comes to every other rank, once, and never back to its owner. Home: each
    rank's share of the gradient of every other rank's block reaches the owner, once, so that the owner holds the sum
    over all ranks; only where texts need a gradient. Waiting: sends are taken to be rendezvous sends, which end when
    the receive is there; if no rank waits in vain then, none does with buffers. The cost does not depend on W.

    Args:
        plan: The schedule.
        posted: How a hop is posted; give another to prove another way of posting than `together`.
    """
    forward, backward = plan.runs("forward"), plan.runs("backward")
    if plan.exchange in ("reduce", "gather"):
        first, faults = 0, []  # a collective shows a rank its own block too
        seen = _through_collectives(forward, TEXT, plan.world_size, faults)
        home = _through_collectives(backward, GRADIENT, plan.world_size, faults)
    else:
        first, faults = 1, _waits([*forward, *backward], posted, plan.world_size)
        seen, home = _along_streams(plan, forward, backward, faults)
    places = range(first if plan.world_size > 1 else plan.world_size, plan.world_size)  # one rank alone sends nothing
    faults += _not_each_once("a block is seen", seen, places, plan.world_size)
    if plan.text_grad:
        faults += _not_each_once("the gradient of a block comes home", home, places, plan.world_size)
    return Proof(exchange=plan.exchange, memory=plan.memory, world_size=plan.world_size, faults=tuple(faults))


# ------------------------------------------------------------------ blocks that travel
class _Stream:
    """Where rank 0's block has come in one direction, and the shares of its gradient that are with it."""

    def __init__(self) -> None:
        self.at = 0
        self.seen: list[Places] = []
        self.hand: list[Places] = []

    def go(self, move: Move, times: int, world_size: int) -> None:
        """Make one move several times: the text is seen wherever it comes, and each rank there adds its share."""
        if OWN_TEXT in move.carries:
            visited, self.hand = [(move.offset, move.offset)] * min(times, 2), []
        else:
            visited = _visited(self.at, move.offset, times, world_size)
        self.seen += visited
        if GRADIENT in move.carries:
            self.hand += visited
        else:  # what was added on the way stays where it was added
            last = visited[-1][1] if move.offset > 0 else visited[-1][0]
            self.hand = [(last, last)]
        self.at = move.offset if OWN_TEXT in move.carries else self.at + move.offset * times


def _visited(start: int, offset: int, times: int, world_size: int) -> list[Places]:
    """Return the places that moves come to: an interval for steps of one, else the places one by one."""
    if abs(offset) == 1:
        ends = start + offset, start + offset * times
        return [(min(ends), max(ends))]
    places = (start + offset * (count + 1) for count in range(min(times, world_size + 1)))
    return [(place, place) for place in places]


def _along_streams(
    plan: Plan, forward: Sequence[Run], backward: Sequence[Run], faults: list[str]
) -> tuple[list[Places], list[Places]]:
    """Follow rank 0's block through moves; return where it is seen, and from where shares of its gradient come home."""
    streams: dict[str, _Stream] = defaultdict(_Stream)
    home: list[Places] = []
    for move, times in ((move, run.times) for run in forward for move in _moves(run.hop)):
        if TEXT in move.carries or OWN_TEXT in move.carries:
            streams[move.towards].go(move, times, plan.world_size)
            continue
        arriving = [s for s in streams.values() if s.hand and (s.at + move.offset) % plan.world_size == 0]
        if not arriving or times > 1:
            faults.append(f"a gradient is sent {move.offset:+d} places, {times} times, and comes to no owner for it")
        for stream in arriving:
            home += stream.hand
            stream.hand = []
    seen = [places for stream in streams.values() for places in stream.seen]
    if plan.memory == "autograd" and plan.text_grad:
        faults += _not_undone(forward, backward, plan.world_size)
        home = seen  # each hop undone, from the last to the first, gathers a share wherever the text was seen
    return seen, home


def _not_undone(forward: Sequence[Run], backward: Sequence[Run], world_size: int) -> Iterator[str]:
    """Say where backward is not forward undone: hop for hop from the last, a gradient back where its text came from."""
    there = [(run.hop, run.times) for run in reversed(forward)]
    back = [(run.hop, run.times) for run in backward]
    if sum(times for _, times in there) != sum(times for _, times in back):
        yield f"backward has {sum(t for _, t in back)} hops and forward {sum(t for _, t in there)}"
        return
    for hop, (came, goes) in _aligned(there, back):
        offsets = [-move.offset % world_size for move in _moves(came) if move.towards != "home"]
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
    if isinstance(hop, Collective):
        raise ValueError(f"bidir and shift are made of moves alone; got {hop}: prove a mixed schedule hop by hop")
    return hop


# ------------------------------------------------------------------ blocks in collectives
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
    for group in (group for run in runs for group in posted(_moves(run.hop))):
        ends: dict[int, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for post in group:
            places = post.peer if post.kind == "send" else -post.peer
            ends[places % world_size][post.kind == "recv"].append(post.blocks)
        for places, (sent, received) in ends.items():
            if places == 0:
                faults.append("a rank sends to itself")
            elif sent != received:
                length = world_size // math.gcd(world_size, places)
                faults.append(
                    f"a cycle of {length} ranks waits for ever: each sends {len(sent)} messages {places} places on "
                    f"and posts {len(received)} receives for them"
                )
    return faults
