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
from itertools import groupby

import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify.plan import Collective, Hop, Move, Plan, Run, closed_form, lower_bound_bytes, plan
from siglip_verify.simulate.proof import GRADIENT, OWN_TEXT, TEXT, Post, prove, together

FORMS = [
    ("bidir", "autograd"),
    ("shift", "autograd"),
    ("reduce", "autograd"),
    ("gather", "autograd"),
    ("bidir", "constant"),
    ("shift", "constant"),
]
RINGS = [form for form in FORMS if form[0] in ("bidir", "shift")]
by_form = pytest.mark.parametrize(("exchange", "memory"), FORMS)
DRAWN = random.Random(7)
BEYOND = sorted(
    {2**power + near for power in range(12, 17) for near in (-1, 0, 1)}
    | {DRAWN.randint(1, 1 << 16) for _ in range(500)}
)


# ------------------------------------------------------------------ the proofs
@by_form
def test_every_schedule_to_4096_ranks_is_proved(exchange: str, memory: str) -> None:
    for world_size in range(1, 4097):
        proof = prove(plan(exchange, world_size, 1, 1, 1, memory=memory))
        assert proof.holds, proof


@by_form
def test_schedules_of_up_to_65536_ranks_are_proved(exchange: str, memory: str) -> None:
    for world_size in BEYOND:
        for text_grad in (True, False):
            proof = prove(plan(exchange, world_size, 1, 1, 1, memory=memory, text_grad=text_grad))
            assert proof.holds, proof


@pytest.mark.parametrize(("exchange", "memory"), RINGS)
def test_rings_send_no_more_than_must_be_sent(exchange: str, memory: str) -> None:
    """Nothing twice: a block and a gradient for each other rank, which is the lower bound."""
    for world_size in [*range(2, 300), *BEYOND]:
        planned = plan(exchange, world_size, 3, 5, 4, memory=memory)
        sent = sum(closed_form(planned, phase).payload_bytes for phase in ("forward", "backward"))
        assert sent == 2 * lower_bound_bytes(world_size, 3, 5, 4)


# ------------------------------------------------------------------ a world that does what the plan says
def shows_and_brings_home(planned: Plan) -> bool:
    """Run a plan on W ranks; return whether all saw all others once and every gradient came home once from each."""
    ranks = range(planned.world_size)
    others = {rank: Counter(other for other in ranks if other != rank) for rank in ranks}
    try:
        seen, home = _run(planned)
    except LookupError:  # something is sent that the sender does not have, or that nobody expects
        return False
    return seen == others and (home == others or not planned.text_grad)


Counters = dict[int, Counter[int]]
Owners = defaultdict[int, list[int]]
Trail = tuple[Owners, Owners]  # of one hop: whose texts left each rank, and whose came, by move


def _run(planned: Plan) -> tuple[Counters, Counters]:
    """Return, for each rank, whose blocks it saw, and whose shares of its own block's gradient it received."""
    size = planned.world_size
    hand = {(rank, way): (rank, Counter[int]()) for rank in range(size) for way in ("right", "left")}
    seen: Counters = {rank: Counter() for rank in range(size)}
    home: Counters = {rank: Counter() for rank in range(size)}
    trail: list[Trail] = []
    for hop in planned.hops("forward"):
        left, arrived = Owners(list), Owners(list)
        mail = []
        for move in _moves(hop):  # in the order of the moves, as receives are posted
            for rank in range(size):
                dst = (rank + move.offset) % size
                if move.towards == "home":
                    way = next((w for w in ("right", "left") if hand[rank, w][0] == dst and hand[rank, w][1]), None)
                    if way is None:
                        raise LookupError("no gradient for that rank")
                    home[dst] += hand[rank, way][1]
                    hand[rank, way] = (dst, Counter())
                else:
                    owner, shares = hand[rank, move.towards]
                    owner = rank if OWN_TEXT in move.carries else owner
                    left[rank].append(owner)
                    mail.append((dst, move.towards, owner, shares if GRADIENT in move.carries else Counter[int]()))
        for dst, way, owner, shares in mail:
            seen[dst][owner] += 1
            arrived[dst].append(owner)
            hand[dst, way] = (owner, shares + Counter([dst]))
        trail.append((left, arrived))
    if planned.memory == "autograd" and planned.text_grad:
        home = _undo(planned, trail)
    return seen, home


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
    data: st.DataObject, form: tuple[str, str], world_size: int, change: str
) -> None:
    planned = plan(form[0], world_size, 1, 1, 1, memory=form[1])
    phase = data.draw(st.sampled_from(["forward", "backward"] if form[1] == "autograd" else ["forward"]))
    hops = list(planned.hops(phase))
    where = data.draw(st.integers(0, len(hops) - 1))
    if change in CHANGES:
        hops[where : where + 1] = CHANGES[change](hops[where])
    wrong = altered(planned, phase, hops)
    assert prove(wrong).holds == shows_and_brings_home(wrong), prove(wrong).faults


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("exchange", "memory"), RINGS)
@pytest.mark.parametrize("world_size", [6, 7, 4096])
def test_a_planted_fault_in_a_middle_hop_is_refused(change: str, exchange: str, memory: str, world_size: int) -> None:
    planned = plan(exchange, world_size, 1, 1, 1, memory=memory)
    hops = list(planned.hops("forward"))
    middle = len(hops) // 2
    hops[middle : middle + 1] = CHANGES[change](hops[middle])
    wrong = altered(planned, "forward", hops)
    proof = prove(wrong)
    if wrong.hops("forward") == planned.hops("forward"):  # autograd's texts carry no gradient that could be forgotten
        assert proof.holds
    else:
        assert not proof.holds


@pytest.mark.parametrize("exchange", ["bidir", "shift"])
@pytest.mark.parametrize(
    ("memory", "phase", "change"),
    [
        ("constant", "forward", lambda hops: hops[:-1]),
        ("autograd", "backward", lambda hops: hops[:-1]),
        ("autograd", "backward", lambda hops: ()),
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


# ------------------------------------------------------------------ waiting
def blocking(hop: Sequence[Move]) -> list[list[Post]]:
    """Send, wait, then receive: what a ring of blocking calls does."""
    return [[post for post in together(hop)[0] if post.kind == kind] for kind in ("send", "recv")]


@pytest.mark.parametrize(("exchange", "memory"), RINGS)
@pytest.mark.parametrize("world_size", [2, 3, 4096])
def test_a_blocking_ring_waits_for_ever(exchange: str, memory: str, world_size: int) -> None:
    planned = plan(exchange, world_size, 1, 1, 1, memory=memory)
    assert prove(planned).holds
    faults = prove(planned, posted=blocking).faults
    assert any(f"a cycle of {world_size} ranks waits for ever" in fault for fault in faults)


def test_receives_in_another_order_than_sends_to_one_rank_are_refused() -> None:
    """At W = 4 the second hop of bidir in constant memory sends two messages of two sizes to the same rank."""

    def crossed(hop: Sequence[Move]) -> list[list[Post]]:
        posts = together(hop)[0]
        return [posts[: len(hop)] + posts[: len(hop) - 1 : -1]]

    assert prove(plan("bidir", 4, 1, 1, 1, memory="constant"), posted=crossed).faults
    assert prove(plan("bidir", 5, 1, 1, 1, memory="constant"), posted=crossed).holds


def test_a_send_to_oneself_is_refused() -> None:
    planned = plan("shift", 4, 1, 1, 1)
    hops = (*planned.hops("forward")[:-1], (Move(4, "right", (TEXT,)),))
    assert "a rank sends to itself" in prove(altered(planned, "forward", hops)).faults


def test_a_fault_names_what_and_where() -> None:
    planned = plan("shift", 5, 1, 1, 1)
    faults = prove(altered(planned, "forward", planned.hops("forward")[:-1])).faults
    assert "a block is seen 0 times, not 1, at the places 4..4 of W = 5" in faults
    assert "backward has 4 hops and forward 3" in faults
