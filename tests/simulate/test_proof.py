"""Proofs of schedules at any world size.

Oracle: a world of W ranks, each of which does what the plan says, message by message, with names of owners in place of
texts. On plans with faults planted anywhere, the proof, which follows one block through intervals, must say what that
world shows. Sees: a proof that cannot fail, and one that fails right schedules. Does not see what the loss sends.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import groupby, product

import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify.plan import (
    GRADIENT,
    SHAPES,
    TEXT,
    UPSTREAM,
    Collective,
    Hop,
    Move,
    Plan,
    Run,
    closed_form,
    has_form,
    lower_bound_bytes,
    plan,
)
from siglip_verify.simulate.proof import OWN_TEXT, Post, prove, together

FORMS = [
    (exchange, memory, overlap)
    for exchange in ("bidir", "shift", "reduce", "gather")
    for memory in ("autograd", "constant", "recompute")
    for overlap in (False, True)
    if has_form(exchange, memory=memory, overlap=overlap)
]
RINGS = [form for form in FORMS if form[0] in ("bidir", "shift")]
by_form = pytest.mark.parametrize(("exchange", "memory", "overlap"), FORMS)
by_ring = pytest.mark.parametrize(("exchange", "memory", "overlap"), RINGS)
DRAWN = random.Random(7)
BEYOND = sorted(
    {2**power + near for power in range(12, 17) for near in (-1, 0, 1)}
    | {DRAWN.randint(1, 1 << 16) for _ in range(500)}
)


# ------------------------------------------------------------------ the proofs
@by_form
def test_every_schedule_to_4096_ranks_is_proved(exchange: str, memory: str, overlap: bool) -> None:
    for world_size in range(1, 4097):
        proof = prove(plan(exchange, world_size, 1, 1, 1, memory=memory, overlap=overlap))
        assert proof.holds, proof


@by_form
def test_schedules_of_up_to_65536_ranks_are_proved(exchange: str, memory: str, overlap: bool) -> None:
    """With what ranks agree on and compare beside the exchange, too: all sizes in turn, few in every way."""
    ways = [(text_grad, agrees) for text_grad in (True, False) for agrees in (True, False)]
    for number, world_size in enumerate([*range(1, 34), *BEYOND]):
        for text_grad, agrees in ways if world_size < 34 else [ways[number % 4]]:
            planned = plan(
                *(exchange, world_size, 1, 1, 1),
                memory=memory,
                overlap=overlap,
                text_grad=text_grad,
                agrees=agrees,
                compares=agrees and memory == "constant",
            )
            assert prove(planned).holds, prove(planned)


@by_ring
def test_rings_send_no_more_than_must_be_sent(exchange: str, memory: str, overlap: bool) -> None:
    """Nothing twice: a block and a gradient for each other rank, which is the lower bound; texts again to recompute."""
    for world_size in [*range(2, 300), *BEYOND[::10]]:
        planned = plan(exchange, world_size, 3, 5, 4, memory=memory, overlap=overlap)
        sent = sum(closed_form(planned, phase).payload_bytes for phase in ("forward", "backward"))
        assert sent == (3 if memory == "recompute" else 2) * lower_bound_bytes(world_size, 3, 5, 4)


# ------------------------------------------------------------------ a world that does what the plan says
def shows_and_brings_home(planned: Plan) -> bool:
    """Run a plan on W ranks; return whether all saw all others once and every gradient came home once from each."""
    ranks = range(planned.world_size)
    others = {rank: Counter(other for other in ranks if other != rank) for rank in ranks}
    nothing = {rank: Counter[int]() for rank in ranks}
    backward = planned.hops("backward")
    try:
        seen, home, trail = _run(planned, "forward")
        if planned.memory == "autograd" and planned.text_grad:
            return seen == others and home == nothing and _undo(planned, trail) == others
        if planned.memory == "recompute" and planned.text_grad:
            return seen == others and home == nothing and _run(planned, "backward")[:2] == (others, others)
    except LookupError:  # something is sent that the sender does not have, or that nobody expects
        return False
    return seen == others and home == (others if planned.text_grad else nothing) and not backward


Counters = dict[int, Counter[int]]
Owners = defaultdict[int, list[int]]
Trail = tuple[Owners, Owners]  # of one hop: whose texts left each rank, and whose came, by move


@dataclasses.dataclass
class Waiting:
    """A text that a rank has not yet sent a gradient for: whose, in which hop it came, and the shares that came."""

    owner: int
    hop: int
    shares: Counter[int]


def _run(planned: Plan, phase: str) -> tuple[Counters, Counters, list[Trail]]:
    """Return, for each rank, whose blocks it saw, and whose shares of its own block's gradient it received."""
    size, lag = planned.world_size, int(planned.overlap)
    here = {(rank, way): rank for rank in range(size) for way in ("right", "left")}
    waiting: dict[tuple[int, str], list[Waiting]] = {place: [] for place in here}
    seen: Counters = {rank: Counter() for rank in range(size)}
    home: Counters = {rank: Counter() for rank in range(size)}
    trail: list[Trail] = []

    def added_up(rank: int, way: str, hop: int) -> tuple[int, Counter[int]]:
        """Take the gradient that has been here longest, with this rank's share."""
        if not waiting[rank, way] or waiting[rank, way][0].hop >= hop - lag:
            raise LookupError("a gradient is sent of a text that nobody has looked at")
        each = waiting[rank, way].pop(0)
        return each.owner, each.shares + Counter([rank])

    for number, hop in enumerate(planned.hops(phase)):
        left, arrived = Owners(list), Owners(list)
        mail = []
        for move in _moves(hop):  # in the order of the moves, as receives are posted
            for rank in range(size):
                dst = (rank + move.offset) % size
                if move.towards == "home":
                    ways = [w for w in ("right", "left") if waiting[rank, w] and waiting[rank, w][0].owner == dst]
                    if not ways:
                        raise LookupError("no gradient for that rank")
                    home[dst] += added_up(rank, ways[0], number + lag)[1]  # which waits until it is looked at
                    continue
                gradient = added_up(rank, move.towards, number) if GRADIENT in move.carries else None
                owner = None
                if move.carries != (GRADIENT,):
                    owner = rank if OWN_TEXT in move.carries else here[rank, move.towards]
                    left[rank].append(owner)
                mail.append((dst, move.towards, owner, gradient))
        for dst, way, owner, gradient in mail:
            if owner is not None:
                seen[dst][owner] += 1
                arrived[dst].append(owner)
                here[dst, way] = owner
                waiting[dst, way].append(Waiting(owner, number, Counter()))
            if gradient is not None:
                places = [each for each in waiting[dst, way] if each.owner == gradient[0]]
                if not places:
                    raise LookupError("a gradient comes of a text that is not here")
                places[0].shares += gradient[1]
        trail.append((left, arrived))
    return seen, home, trail


def _undo(planned: Plan, trail: list[Trail]) -> Counters:
    """Run backward: a hop sends the gradient of each text that came, and receives that of each text that left."""
    size = planned.world_size
    gradient: dict[tuple[int, int], Counter[int]] = {}
    for _, arrived in trail:
        for rank, owners in arrived.items():
            gradient |= {(rank, owner): Counter([rank]) for owner in owners}
    home: Counters = {rank: Counter() for rank in range(size)}
    for hop in planned.hops("backward"):
        left, arrived = trail.pop()
        mail = []
        for rank in range(size):
            if len(arrived[rank]) != len(_moves(hop)):
                raise LookupError("a gradient more or less than texts that came")
            for place, (owner, move) in enumerate(zip(arrived[rank], _moves(hop), strict=True)):
                dst = (rank + move.offset) % size
                if left[dst][place] != owner:
                    raise LookupError("autograd would take it for the gradient of another block")
                mail.append((dst, owner, gradient.pop((rank, owner))))
        for dst, owner, shares in mail:
            total = home[owner] if dst == owner else gradient[dst, owner]
            total += shares
    if trail or gradient:
        raise LookupError("gradients that nobody sent")
    return home


def _moves(hop: Hop) -> tuple[Move, ...]:
    assert not isinstance(hop, Collective)
    return hop


# ------------------------------------------------------------------ faults anywhere
@dataclasses.dataclass(frozen=True, kw_only=True)
class Altered(Plan):
    """A plan whose hops are given."""

    altered: dict[str, tuple[Hop, ...]]

    def runs(self, phase: str) -> tuple[Run, ...]:
        return tuple(Run(hop, len(list(equal))) for hop, equal in groupby(self.altered[phase]))


def altered(planned: Plan, phase: str, hops: Sequence[Hop]) -> Altered:
    fields = {field.name: getattr(planned, field.name) for field in dataclasses.fields(Plan)}
    both = {each: planned.hops(each) for each in ("forward", "backward")}
    return Altered(**fields, altered=both | {phase: tuple(hops)})


def moves_changed(**changes: object) -> Callable[[Hop], Hop]:
    return lambda hop: tuple(dataclasses.replace(move, **changes) for move in _moves(hop))


def turned(hop: Hop) -> Hop:
    return tuple(dataclasses.replace(move, offset=-move.offset) for move in _moves(hop))


def own_again(hop: Hop) -> Hop:
    return tuple(
        dataclasses.replace(move, carries=(OWN_TEXT, *move.carries[1:])) if TEXT in move.carries else move
        for move in _moves(hop)
    )


def gradient_forgotten(hop: Hop) -> Hop:
    return tuple(dataclasses.replace(m, carries=(TEXT,)) if TEXT in m.carries else m for m in _moves(hop))


CHANGES: dict[str, Callable[[Hop], list[Hop]]] = {
    "missing": lambda hop: [],
    "doubled": lambda hop: [hop, hop],
    "direction swapped": lambda hop: [turned(hop)],
    "two places on": lambda hop: [moves_changed(offset=2)(hop)],
    "one move missing": lambda hop: [_moves(hop)[1:]] if len(_moves(hop)) > 1 else [],
    "own text again": lambda hop: [own_again(hop)],
    "gradient left behind": lambda hop: [gradient_forgotten(hop)],
}


@examples(400)
@given(st.data(), st.sampled_from(RINGS), st.integers(2, 11), st.sampled_from([*CHANGES, "none"]))
def test_the_proof_says_what_a_world_of_ranks_shows(
    data: st.DataObject, form: tuple[str, str, bool], world_size: int, change: str
) -> None:
    planned = plan(form[0], world_size, 1, 1, 1, memory=form[1], overlap=form[2])
    phase = data.draw(st.sampled_from(["forward", "backward"] if form[1] != "constant" else ["forward"]))
    hops = list(planned.hops(phase))
    where = data.draw(st.integers(0, len(hops) - 1))
    if change in CHANGES:
        hops[where : where + 1] = CHANGES[change](hops[where])
    wrong = altered(planned, phase, hops)
    assert prove(wrong).holds == shows_and_brings_home(wrong), prove(wrong).faults


@by_ring
def test_a_planted_fault_in_a_middle_hop_is_refused(exchange: str, memory: str, overlap: bool) -> None:
    for world_size, (name, change) in product((6, 7, 4096), CHANGES.items()):
        planned = plan(exchange, world_size, 1, 1, 1, memory=memory, overlap=overlap)
        hops = list(planned.hops("forward"))
        middle = len(hops) // 2
        hops[middle : middle + 1] = change(hops[middle])
        wrong = altered(planned, "forward", hops)
        # Unchanged are texts that carry no gradient which could be forgotten.
        assert prove(wrong).holds == (wrong.hops("forward") == planned.hops("forward")), (world_size, name)


@pytest.mark.parametrize("exchange", ["bidir", "shift"])
@pytest.mark.parametrize(
    ("memory", "phase", "change"),
    [
        ("constant", "forward", lambda hops: hops[:-1]),
        ("autograd", "backward", lambda hops: hops[:-1]),
        ("autograd", "backward", lambda hops: ()),
        ("recompute", "backward", lambda hops: hops[:-1]),
        ("recompute", "backward", lambda hops: ()),
    ],
)
def test_a_gradient_that_is_not_sent_home_is_refused(
    exchange: str, memory: str, phase: str, change: Callable[[tuple[Hop, ...]], tuple[Hop, ...]]
) -> None:
    planned = plan(exchange, 8, 1, 1, 1, memory=memory)
    assert not prove(altered(planned, phase, change(planned.hops(phase)))).holds


@pytest.mark.parametrize(
    ("exchange", "phase", "hops"),
    [
        ("reduce", "forward", lambda hops: hops[1:]),
        ("reduce", "forward", lambda hops: (*hops, hops[0])),
        ("reduce", "backward", lambda hops: hops[1:]),
        ("reduce", "backward", lambda hops: (Collective("all_reduce", 1, (TEXT,)),) * 8),
        ("gather", "forward", lambda hops: hops * 2),
        ("gather", "forward", lambda hops: ()),
        ("gather", "backward", lambda hops: ()),
        ("gather", "backward", lambda hops: (Collective("all_to_all", 7, (GRADIENT,)),)),
    ],
)
def test_a_wrong_list_of_collectives_is_refused(
    exchange: str, phase: str, hops: Callable[[tuple[Hop, ...]], tuple[Hop, ...]]
) -> None:
    planned = plan(exchange, 8, 1, 1, 1)
    assert prove(planned).holds
    assert not prove(altered(planned, phase, hops(planned.hops(phase)))).holds


@by_form
def test_a_hop_that_nothing_asks_for_is_refused(exchange: str, memory: str, overlap: bool) -> None:
    """Such as one hop more in the backward of constant memory."""
    extras: list[Hop] = []
    for carries in ((GRADIENT,), (TEXT,), (UPSTREAM,), (SHAPES,)):
        extras += [(Move(1, "right", carries),), Collective("all_gather", 1, carries)]
    for text_grad, phase, extra in product((True, False), ("forward", "backward"), extras):
        planned = plan(exchange, 8, 1, 1, 1, memory=memory, overlap=overlap, text_grad=text_grad)
        for hops in ((*planned.hops(phase), extra), (extra, *planned.hops(phase))):
            assert not prove(altered(planned, phase, hops)).holds, (text_grad, phase, extra)


@by_form
def test_ranks_agree_first_and_compare_along_one_ring(exchange: str, memory: str, overlap: bool) -> None:
    compares = memory == "constant"
    planned = plan(exchange, 8, 1, 1, 1, memory=memory, overlap=overlap, agrees=True, compares=compares)
    assert prove(planned).holds
    first, *others = planned.hops("forward")
    for wrong in (others, [*others, first], [first, first, *others]):
        assert not prove(altered(planned, "forward", wrong)).holds
    for offset, holds in ((1, True), (3, True), (2, False), (4, False)) if compares else ():
        compared = (Move(offset, "right", (UPSTREAM,)),)
        assert prove(altered(planned, "backward", [compared])).holds == holds
        assert not prove(altered(planned, "backward", [compared, compared])).holds


@by_ring
def test_a_gradient_that_cannot_lag_is_refused_with_overlap(exchange: str, memory: str, overlap: bool) -> None:
    """The schedule without overlap is right, but lets no hop leave before the blocks of the last are looked at."""
    in_turn = plan(exchange, 9, 1, 1, 1, memory=memory)
    claimed = dataclasses.replace(in_turn, overlap=True)
    hops = {phase: in_turn.hops(phase) for phase in ("forward", "backward")}
    fields = {field.name: getattr(claimed, field.name) for field in dataclasses.fields(Plan)}
    assert prove(Altered(**fields, altered=hops)).holds == (memory == "autograd")


# ------------------------------------------------------------------ waiting
def blocking(hop: Sequence[Move]) -> list[list[Post]]:
    """Send, wait, then receive: what a ring of blocking calls does."""
    return [[post for post in together(hop)[0] if post.kind == kind] for kind in ("send", "recv")]


@by_ring
@pytest.mark.parametrize("world_size", [2, 3, 4096])
def test_a_blocking_ring_waits_for_ever(exchange: str, memory: str, overlap: bool, world_size: int) -> None:
    planned = plan(exchange, world_size, 1, 1, 1, memory=memory, overlap=overlap)
    assert prove(planned).holds
    faults = prove(planned, posted=blocking).faults
    assert any(f"a cycle of {world_size} ranks waits for ever" in fault for fault in faults)


def test_receives_in_another_order_than_sends_to_one_rank_are_refused() -> None:
    """At W = 4 one hop of bidir in constant memory sends two messages to the same rank, with overlap of one size."""

    def crossed(hop: Sequence[Move]) -> list[list[Post]]:
        posts = together(hop)[0]
        return [posts[: len(hop)] + posts[: len(hop) - 1 : -1]]

    for overlap in (False, True):
        assert prove(plan("bidir", 4, 1, 1, 1, memory="constant", overlap=overlap), posted=crossed).faults
    assert prove(plan("bidir", 5, 1, 1, 1, memory="constant"), posted=crossed).holds


def test_a_send_to_oneself_is_refused() -> None:
    planned = plan("shift", 4, 1, 1, 1)
    hops = (*planned.hops("forward")[:-1], (Move(4, "right", (TEXT,)),))
    assert "a rank sends to itself" in prove(altered(planned, "forward", hops)).faults


def test_a_fault_names_what_and_where() -> None:
    planned = plan("shift", 5, 1, 1, 1)
    faults = prove(altered(planned, "forward", planned.hops("forward")[:-1])).faults
    assert "in forward a block is seen 0 times, not 1, at the places 4..4 of W = 5" in faults
    assert "backward has 4 hops and forward 3" in faults
