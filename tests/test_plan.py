"""The plan of each exchange.

Oracles, none of which is the plan's own code: a ring on which the planned messages carry owners' names instead of
texts (which must end with every rank having seen every other rank's block once, and every block's gradient at home
with every rank's part once); the closed forms against the list; the operations that the loss itself posts under
torch's fake backend; and gloo's socket counters as measured, written down here. They see a missing, surplus,
misdirected or misordered message, and a wrong size. They do not see what the messages of the loss contain: the
equivalence tests do.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

import siglip_verify.plan
from siglip_verify.loss import SigLipLoss
from siglip_verify.plan import (
    PHASES,
    Counts,
    Move,
    Plan,
    PlannedEvent,
    closed_form,
    gloo_wire_bytes,
    has_form,
    least_payload_bytes,
    lower_bound_bytes,
    modelled_messages,
    plan,
)

FORMS = [
    ("bidir", "autograd"),
    ("shift", "autograd"),
    ("reduce", "autograd"),
    ("gather", "autograd"),
    ("bidir", "constant"),
    ("shift", "constant"),
    ("bidir", "recompute"),
    ("shift", "recompute"),
]
RINGS = [form for form in FORMS if form[0] in ("bidir", "shift")]
by_form = pytest.mark.parametrize(("exchange", "memory"), FORMS)
by_ring = pytest.mark.parametrize(("exchange", "memory"), RINGS)


@st.composite
def plans(draw: st.DrawFn, max_world_size: int = 64) -> Plan:
    exchange, memory = draw(st.sampled_from(FORMS))
    itemsize = draw(st.sampled_from([1, 2, 4, 8]))
    wider = [None, *(size for size in (2, 4, 8) if size >= itemsize)]
    return plan(
        exchange,
        draw(st.integers(1, max_world_size)),
        draw(st.integers(1, 300)),
        draw(st.integers(1, 1024)),
        itemsize,
        overlap=exchange in ("bidir", "shift") and draw(st.booleans()),
        grad_itemsize=None if memory == "autograd" else draw(st.sampled_from(wider)),
        agrees=draw(st.booleans()),
        compares=memory == "constant" and draw(st.booleans()),
        image_grad=draw(st.booleans()),
        text_grad=draw(st.booleans()),
        memory=memory,
        gather_backward=draw(st.sampled_from(["all_to_all", "reduce_scatter"])),
    )


# ------------------------------------------------------------------ the list against the closed forms
def counted(events: tuple[PlannedEvent, ...], phase: str) -> Counts:
    """Count what the list says, knowing nothing of the exchange."""
    here = [event for event in events if event.phase == phase]
    sends = Counter(event.towards for event in here if event.kind == "send")
    collectives = [event for event in here if event.kind not in ("send", "recv")]
    return Counts(
        hops=len({event.hop for event in here}),
        sends_right=sends["right"],
        sends_left=sends["left"],
        sends_home=sends["home"],
        collectives=len(collectives),
        payload_bytes=sum(event.payload_bytes for event in here if event.kind != "recv"),
    )


@by_form
@pytest.mark.parametrize("text_grad", [True, False])
@pytest.mark.parametrize("overlap", [True, False])
def test_list_and_closed_form_agree_for_every_world_size_to_64(
    exchange: str, memory: str, text_grad: bool, overlap: bool
) -> None:
    for world_size in range(1, 65):
        planned = plan(
            exchange,
            world_size,
            3,
            5,
            4,
            text_grad=text_grad,
            memory=memory,
            overlap=overlap and exchange in ("bidir", "shift"),
            agrees=world_size % 2 == 0,
            compares=memory == "constant" and world_size % 3 == 0,
        )
        for phase in PHASES:
            assert counted(planned.events(world_size - 1), phase) == closed_form(planned, phase), (world_size, phase)


@given(st.data(), plans(max_world_size=5000))
@examples(40)
def test_list_and_closed_form_agree_at_thousands_of_ranks(data: st.DataObject, planned: Plan) -> None:
    rank = data.draw(st.integers(0, planned.world_size - 1))
    for phase in PHASES:
        assert counted(planned.events(rank), phase) == closed_form(planned, phase)


@pytest.mark.parametrize("world_size", range(2, 17))
def test_bidir_takes_half_the_hops_and_the_words_of_the_readme_are_true(world_size: int) -> None:
    """Numbers from the issue, not from the formulas: they would see both written down wrong in the same way."""
    forward, backward = (closed_form(plan("bidir", world_size, 8, 64, 4), phase) for phase in PHASES)
    assert forward.hops == backward.hops == -(-(world_size - 1) // 2)
    assert forward.sends == backward.sends == world_size - 1
    assert (forward.sends_right, forward.sends_left) == (world_size // 2, (world_size - 1) // 2)
    assert (backward.sends_right, backward.sends_left) == ((world_size - 1) // 2, world_size // 2)
    shift = closed_form(plan("shift", world_size, 8, 64, 4, memory="constant"), "forward")
    bidir = closed_form(plan("bidir", world_size, 8, 64, 4, memory="constant"), "forward")
    assert shift.sends == world_size
    assert bidir.sends == (2 if world_size == 2 else world_size + 1)
    assert bidir.hops == world_size // 2 + 1
    assert shift.payload_bytes == bidir.payload_bytes == 2 * (world_size - 1) * 8 * 64 * 4


@pytest.mark.parametrize("world_size", range(2, 17))
def test_overlap_sends_the_numbers_that_the_issue_states(world_size: int) -> None:
    shift, bidir = (
        closed_form(plan(exchange, world_size, 8, 64, 4, memory="constant", overlap=True), "forward")
        for exchange in ("shift", "bidir")
    )
    assert shift.sends == shift.hops == (2 if world_size == 2 else world_size + 1)
    assert bidir.sends == {2: 2, 3: 4, 4: 6}.get(world_size, world_size + 3)
    assert bidir.hops == {2: 2, 3: 2}.get(world_size, world_size // 2 + 2)
    assert shift.payload_bytes == bidir.payload_bytes == 2 * (world_size - 1) * 8 * 64 * 4


def test_messages_say_in_words_what_they_carry() -> None:
    """The first hop of the constant form carries text alone, the last the gradient alone; both of reduce's phases."""
    sends = [event for event in plan("shift", 3, 8, 64, 4, memory="constant").events(0) if event.kind == "send"]
    assert [event.carries for event in sends] == ["text", "text and text gradient", "text gradient"]
    reduced = plan("reduce", 2, 8, 64, 4).events(0)
    assert [(event.phase, event.carries) for event in reduced] == [
        *[("forward", "text")] * 2,
        *[("backward", "text gradient")] * 2,
    ]


def test_wide_gradients_ride_in_the_messages_of_their_texts() -> None:
    """No second message a hop: G bytes a number beside T, in as many messages; 4 where nobody asks for less."""
    narrow, wide = (plan("shift", 5, 8, 64, 2, memory="constant", grad_itemsize=size) for size in (2, None))
    sizes = [event.payload_bytes for event in wide.events(0) if event.kind == "send"]
    assert sizes == [8 * 64 * 2, *[8 * 64 * 6] * 3, 8 * 64 * 4]
    assert closed_form(wide, "forward").payload_bytes == 4 * 8 * 64 * 6
    assert closed_form(wide, "forward").sends == closed_form(narrow, "forward").sends
    narrow_sizes = [event.payload_bytes for event in narrow.events(0) if event.kind == "send"]
    assert narrow_sizes == [8 * 64 * 2, *[8 * 64 * 4] * 3, 8 * 64 * 2]


@by_ring
@pytest.mark.parametrize(("itemsize", "gradient_itemsize"), [(1, 4), (2, 4), (4, 4), (8, 8)])
def test_gradients_that_travel_along_are_of_float32_or_wider_and_autograds_of_the_features(
    exchange: str, memory: str, itemsize: int, gradient_itemsize: int
) -> None:
    planned = plan(exchange, 2, 3, 5, itemsize, memory=memory)
    (gradient,) = (event for event in planned.events(0) if event.kind == "send" and event.carries == "text gradient")
    assert gradient.payload_bytes == 3 * 5 * (itemsize if memory == "autograd" else gradient_itemsize)


@given(plans(max_world_size=40))
@settings(deadline=None)
def test_what_ranks_tell_each_other_beside_comes_first_and_adds_one_hop(planned: Plan) -> None:
    plain = dataclasses.replace(planned, agrees=False, compares=False)
    first = {
        "forward": [("all_gather", 32, "shapes")] * (planned.agrees and planned.world_size > 1),
        "backward": [("send", 8, "upstream gradient"), ("recv", 8, "upstream gradient")]
        * (planned.compares and planned.text_grad and planned.world_size > 1),
    }
    for phase in PHASES:
        beside, alone = (
            [(e.kind, e.payload_bytes, e.carries) for e in each.events(0) if e.phase == phase]
            for each in (planned, plain)
        )
        assert beside == first[phase] + alone
        assert len(planned.hops(phase)) == len(plain.hops(phase)) + bool(first[phase])


@given(plans(max_world_size=40))
@settings(deadline=None)
def test_recompute_shows_texts_first_and_then_sends_what_constant_does(planned: Plan) -> None:
    if planned.memory != "recompute":
        return
    constant, frozen = (
        dataclasses.replace(planned, memory="constant", text_grad=grad, agrees=False) for grad in (True, False)
    )
    assert planned.hops("forward")[planned.agrees and planned.world_size > 1 :] == frozen.hops("forward")
    assert planned.hops("backward") == (constant.hops("forward") if planned.text_grad else ())


@given(plans(max_world_size=5000))
@examples(40)
def test_runs_are_the_hops_in_at_most_six_pieces(planned: Plan) -> None:
    for phase in PHASES:
        runs, hops = planned.runs(phase), planned.hops(phase)
        assert len(runs) <= 6
        assert [run.hop for run in runs for _ in range(run.times)] == list(hops)
        assert len(hops) == closed_form(planned, phase).hops


# ------------------------------------------------------------------ the list as a schedule
@given(plans(max_world_size=12))
@settings(deadline=None)
def test_every_send_has_its_receive_in_the_same_hop_and_of_the_same_size(planned: Plan) -> None:
    sends: Counter[tuple[object, ...]] = Counter()
    receives: Counter[tuple[object, ...]] = Counter()
    for rank in range(planned.world_size):
        for event in planned.events(rank):
            if event.kind in ("send", "recv"):
                assert rank == (event.src if event.kind == "send" else event.dst)
                assert event.src != event.dst
                end = sends if event.kind == "send" else receives
                end[event.phase, event.hop, event.src, event.dst, event.payload_bytes, event.carries] += 1
    assert sends == receives


@given(plans(max_world_size=12))
@settings(deadline=None)
def test_a_rank_posts_all_sends_of_a_hop_before_its_receives_and_hops_in_order(planned: Plan) -> None:
    for rank in range(planned.world_size):
        events = planned.events(rank)
        assert [event.sequence for event in events] == list(range(len(events)))
        order = [(PHASES.index(event.phase), event.hop, event.kind == "recv") for event in events]
        assert order == sorted(order)


@pytest.mark.parametrize(
    ("exchange", "form", "expected"),
    [
        ("shift", {}, "s1 r3 s1 r3 s1 r3 | s3 r1 s3 r1 s3 r1"),
        ("bidir", {}, "s1 s3 r3 r1 s1 r3 | s3 r1 s3 s1 r1 r3"),
        ("bidir", {"overlap": True}, "s1 s3 r3 r1 s1 r3 | s3 r1 s3 s1 r1 r3"),
        ("shift", {"memory": "constant"}, "s1 r3 s1 r3 s1 r3 s1 r3 |"),
        ("bidir", {"memory": "constant"}, "s1 s3 r3 r1 s1 s1 r3 r3 s2 r2 |"),
        ("bidir", {"memory": "constant", "compares": True}, "s1 s3 r3 r1 s1 s1 r3 r3 s2 r2 | s1 r3"),
        ("shift", {"memory": "constant", "overlap": True}, "s1 r3 s1 r3 s1 r3 s1 r3 s1 r3 |"),
        ("bidir", {"memory": "constant", "overlap": True}, "s1 s3 r3 r1 s1 r3 s1 s1 r3 r3 s2 r2 |"),
        ("bidir", {"memory": "recompute"}, "s1 s3 r3 r1 s1 r3 | s1 s3 r3 r1 s1 s1 r3 r3 s2 r2"),
    ],
)
def test_rank_0_of_4_posts_exactly_this(exchange: str, form: dict[str, object], expected: str) -> None:
    words: dict[str, list[str]] = {phase: [] for phase in PHASES}
    for event in plan(exchange, 4, 2, 3, 4, **form).events(0):
        words[event.phase].append(f"s{event.dst}" if event.kind == "send" else f"r{event.src}")
    assert " | ".join(" ".join(words[phase]) for phase in PHASES).strip() == expected


class Parcel(NamedTuple):
    """What a message carries: whose text, if any; and whose gradient, with the ranks whose part it has so far."""

    text: int | None
    gradient: tuple[int, Counter[int]] | None


class Ring:
    """Ranks that do what their planned messages say.

    A rank holds the text of the stream to the right in one hand, that of the stream to the left in the other. Of each
    block that came it has a part of the gradient; gradients go on in the order in which their texts came.
    """

    def __init__(self, planned: Plan) -> None:
        ranks = range(planned.world_size)
        self.events = {rank: planned.events(rank) for rank in ranks}
        self.hand = {(rank, way): rank for rank in ranks for way in ("right", "left")}
        self.waiting: dict[tuple[int, str], deque[int]] = defaultdict(deque)  # whose gradient goes on next
        self.held: dict[tuple[int, int], Counter[int]] = {}  # by (rank, owner): the gradient of a block that came
        self.trail: dict[int, list[list[int]]] = {rank: [] for rank in ranks}  # owners of what came, by hop
        self.seen: dict[int, Counter[int]] = {rank: Counter() for rank in ranks}
        self.at_home: dict[int, Counter[int]] = {rank: Counter() for rank in ranks}

    def hops(self, phase: str) -> Iterator[list[PlannedEvent]]:
        """List the operations of all ranks, hop by hop."""
        events = [event for events in self.events.values() for event in events if event.phase == phase]
        for hop in sorted({event.hop for event in events}):
            yield [event for event in events if event.hop == hop]

    def go_round(self, phase: str) -> None:
        """Texts go round, alone or with their gradients."""
        for events in self.hops(phase):
            mail: dict[tuple[int, int], deque[Parcel]] = defaultdict(deque)
            for send in (event for event in events if event.kind == "send"):
                mail[send.src, send.dst].append(self.take(send))
            for rank in self.trail:
                self.trail[rank].append([])
            for receive in (event for event in events if event.kind == "recv"):
                self.put(receive, mail[receive.src, receive.dst].popleft())
            assert not any(mail.values()), "a message that nobody receives"

    def take(self, send: PlannedEvent) -> Parcel:
        stream = send.src, send.towards
        owner = None
        if "gradient" in send.carries:
            owner = send.dst if send.towards == "home" else self.waiting[stream].popleft()
        return Parcel(
            text=None if send.carries == "text gradient" else self.hand[stream],
            gradient=None if owner is None else (owner, self.held.pop((send.src, owner))),
        )

    def put(self, receive: PlannedEvent, parcel: Parcel) -> None:
        rank = receive.dst
        if parcel.text is not None:
            self.seen[rank][parcel.text] += 1
            self.trail[rank][-1].append(parcel.text)
            self.hand[rank, receive.towards] = parcel.text
            self.waiting[rank, receive.towards].append(parcel.text)
            self.held[rank, parcel.text] = Counter([rank])
        if parcel.gradient is not None:
            owner, part = parcel.gradient
            if receive.towards == "home":
                assert owner == rank
                self.at_home[rank] += part
            else:
                self.held[rank, owner] += part

    def backward(self) -> None:
        """Each hop undone, the last first: what came as text goes back as gradient, and gathers each rank's part."""
        gradient = {(rank, owner): Counter([rank]) for rank in self.seen for owner in self.seen[rank]}
        for events in self.hops("backward"):
            mail: dict[tuple[int, int], deque[Parcel]] = defaultdict(deque)
            undone = {rank: deque(trail.pop()) for rank, trail in self.trail.items()}
            for send in (event for event in events if event.kind == "send"):
                owner = undone[send.src].popleft()
                mail[send.src, send.dst].append(Parcel(owner, gradient.pop((send.src, owner))))
            for receive in (event for event in events if event.kind == "recv"):
                owner, part = mail[receive.src, receive.dst].popleft()
                total = self.at_home[owner] if owner == receive.dst else gradient[receive.dst, owner]
                total.update(part)
        assert not gradient, "a gradient that nobody sent home"


def the_others(planned: Plan) -> dict[int, Counter[int]]:
    ranks = range(planned.world_size)
    return {rank: Counter(other for other in ranks if other != rank) for rank in ranks}


def travel(planned: Plan) -> None:
    """Run the planned messages; assert that texts and gradients came where they belong."""
    ring = Ring(planned)
    ring.go_round("forward")
    assert ring.seen == the_others(planned)
    if planned.memory == "autograd":
        ring.backward()
    elif planned.memory == "recompute":
        ring = Ring(planned)
        ring.go_round("backward")
        assert ring.seen == the_others(planned)
    assert ring.at_home == the_others(planned)


@by_ring
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("world_size", range(2, 14))
def test_every_text_is_seen_once_and_every_gradient_comes_home_once(
    exchange: str, memory: str, overlap: bool, world_size: int
) -> None:
    travel(plan(exchange, world_size, 1, 1, 1, memory=memory, overlap=overlap))


@given(st.sampled_from(RINGS), st.booleans(), st.integers(14, 60))
@examples(15)
def test_the_same_holds_in_larger_worlds(form: tuple[str, str], overlap: bool, world_size: int) -> None:
    exchange, memory = form
    travel(plan(exchange, world_size, 1, 1, 1, memory=memory, overlap=overlap))


@dataclasses.dataclass(frozen=True, kw_only=True)
class WrongPlan(Plan):
    """A plan with a fault planted in its hops."""

    fault: str = ""

    def hops(self, phase: str) -> tuple[tuple[Move, ...], ...]:
        hops = Plan.hops(self, phase)
        return FAULTS[self.fault](hops, phase)


def reverse(hops: tuple[tuple[Move, ...], ...], phase: str) -> tuple[tuple[Move, ...], ...]:
    turned = {"right": "left", "left": "right", "home": "home"}
    flip = [tuple(Move(-move.offset, turned[move.towards], move.carries) for move in hop) for hop in hops]
    return hops if phase == "forward" else tuple(flip)


FAULTS = {
    "no last hop": lambda hops, phase: hops[:-1] if phase == "forward" else hops[1:],
    "last hop twice": lambda hops, phase: (*hops, hops[-1]) if phase == "forward" and hops else hops,
    "backward goes the forward way": reverse,
    "backward in the order of forward": lambda hops, phase: hops if phase == "forward" else hops[::-1],
    "one hop two places on": lambda hops, phase: (
        (*hops[:-1], tuple(dataclasses.replace(move, offset=2) for move in hops[-1])) if hops else hops
    ),
}


@pytest.mark.parametrize(
    ("exchange", "memory", "fault"),
    [
        *((exchange, memory, fault) for exchange, memory in RINGS for fault in ("no last hop", "last hop twice")),
        ("shift", "autograd", "backward goes the forward way"),
        ("bidir", "autograd", "backward goes the forward way"),
        ("bidir", "autograd", "backward in the order of forward"),
        ("shift", "autograd", "one hop two places on"),
        ("shift", "constant", "one hop two places on"),
    ],
)
def test_the_ring_catches_a_wrong_schedule(exchange: str, memory: str, fault: str) -> None:
    right = plan(exchange, 6, 1, 1, 1, memory=memory)
    wrong = WrongPlan(**{field.name: getattr(right, field.name) for field in dataclasses.fields(Plan)}, fault=fault)
    travel(right)
    with pytest.raises((AssertionError, LookupError)):
        travel(wrong)


def test_shifts_backward_is_a_palindrome_so_its_order_alone_cannot_be_wrong() -> None:
    """Why "backward in the order of forward" is planted in bidir alone: there the single hop comes first."""
    back = plan("shift", 6, 1, 1, 1).hops("backward")
    assert back == back[::-1]
    assert plan("bidir", 6, 1, 1, 1).hops("backward") != plan("bidir", 6, 1, 1, 1).hops("backward")[::-1]


# ------------------------------------------------------------------ what needs no gradient, and what is one rank
@given(plans(max_world_size=20))
@settings(deadline=None)
def test_without_a_text_gradient_backward_is_empty_and_forward_carries_text_alone(planned: Plan) -> None:
    frozen = dataclasses.replace(planned, text_grad=False, agrees=False)
    assert {event.phase for event in frozen.events(0)} <= {"forward"}
    assert {event.carries for event in frozen.events(0)} <= {"text"}


@given(plans(max_world_size=20))
@settings(deadline=None)
def test_frozen_images_change_nothing(planned: Plan) -> None:
    frozen, learned = (dataclasses.replace(planned, image_grad=value) for value in (False, True))
    assert frozen.events(0) == learned.events(0)


@by_form
def test_one_rank_alone_sends_nothing(exchange: str, memory: str) -> None:
    alone = plan(exchange, 1, 4, 4, 4, memory=memory)
    assert alone.events(0) == ()
    assert closed_form(alone, "forward") == closed_form(alone, "backward") == Counts()


@pytest.mark.parametrize("kind", ["all_to_all", "reduce_scatter"])
def test_gathers_backward_is_the_collective_that_was_asked_for(kind: str) -> None:
    last = plan("gather", 3, 2, 5, 4, gather_backward=kind).events(1)[-1]
    assert (last.kind, last.phase, last.payload_bytes) == (kind, "backward", 3 * 2 * 5 * 4)


# ------------------------------------------------------------------ the lower bound
@given(plans(max_world_size=64))
@settings(deadline=None)
def test_no_exchange_is_planned_below_the_lower_bound(planned: Plan) -> None:
    """Both ends of the bound: what a rank receives of texts, what it sends of gradients, rings for collectives."""
    for phase in PHASES:
        moved = sum(
            modelled_messages(event.kind, planned.world_size, event.payload_bytes).sent_bytes
            for event in planned.events(0)
            if event.phase == phase
        )
        assert moved >= least_payload_bytes(planned, phase) * (1 - 1e-12)


@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_rings_reach_the_lower_bound_and_reduce_needs_twice_that(world_size: int) -> None:
    bound = (world_size - 1) * 8 * 64 * 4
    assert lower_bound_bytes(world_size, 8, 64, 4) == bound
    for exchange, factor in (("bidir", 1), ("shift", 1), ("gather", 1), ("reduce", 2)):
        sent = dict.fromkeys(PHASES, 0.0)
        for event in plan(exchange, world_size, 8, 64, 4).events(0):
            sent[event.phase] += modelled_messages(event.kind, world_size, event.payload_bytes).sent_bytes
        assert sent == pytest.approx({"forward": factor * bound, "backward": factor * bound})


def test_the_bound_of_the_constant_form_is_all_in_forward() -> None:
    constant = plan("shift", 4, 2, 3, 4, memory="constant")
    assert [least_payload_bytes(constant, phase) for phase in PHASES] == [2 * 3 * 24, 0]
    assert [least_payload_bytes(plan("shift", 4, 2, 3, 4), phase) for phase in PHASES] == [3 * 24, 3 * 24]
    assert least_payload_bytes(plan("shift", 4, 2, 3, 4, text_grad=False), "backward") == 0


# ------------------------------------------------------------------ modelled
@pytest.mark.parametrize(
    ("kind", "messages", "message_bytes"),
    [
        ("send", 1, 96),
        ("recv", 0, 0),
        ("all_reduce", 6, 24),
        ("all_gather", 3, 96),
        ("reduce_scatter", 3, 24),
        ("all_to_all", 3, 24),
    ],
)
def test_ring_messages_of_96_bytes_at_4_ranks(kind: str, messages: int, message_bytes: int) -> None:
    model = modelled_messages(kind, 4, 96)
    assert (model.messages, model.message_bytes) == (messages, message_bytes)


def test_a_rooted_collective_has_no_ring_and_says_so() -> None:
    known = "send, recv, all_reduce, all_gather, reduce_scatter, all_to_all"
    with pytest.raises(ValueError, match=f"^a ring is modelled for {known}; got kind='scatter'. Show its count and"):
        modelled_messages("scatter", 4, 96)
    with pytest.raises(ValueError, match="got kind='scatter'"):
        gloo_wire_bytes(operation("scatter", 96), 4)


@pytest.mark.parametrize(("root", "sent"), [(1, {0: 120, 2: 120, 3: 120}), (3, {3: 48})])
def test_a_scatter_goes_from_its_root_to_each_other_rank_in_whole_bytes(root: int, sent: dict[int, int]) -> None:
    """24 of 96 bytes and two preambles to each; a rank that receives sends its root one preamble."""
    wire = gloo_wire_bytes(dataclasses.replace(operation("scatter", 96), src=root), 4)
    assert wire == sent
    assert all(type(num_bytes) is int for num_bytes in wire.values())


def operation(kind: str, payload_bytes: int) -> PlannedEvent:
    src, dst = {"send": (1, 2), "recv": (0, 1)}.get(kind, (None, None))
    return PlannedEvent(
        rank=1,
        sequence=0,
        phase="forward",
        hop=0,
        kind=kind,
        src=src,
        dst=dst,
        payload_bytes=payload_bytes,
        carries="text",
        towards=None,
    )


# torch 2.13, gloo over loopback, tcpi_bytes_sent less retransmissions: what rank 1's sockets sent, by peer.
MEASURED = [
    (2, "all_gather", 256, {0: 544}),
    (2, "all_to_all", 2 * 256, {0: 400}),
    (2, "all_reduce", 256, {0: 832}),
    (2, "reduce_scatter", 2 * 256, {0: 1088}),
    (2, "all_reduce", 12 << 20, {0: 12584640}),
    (3, "all_gather", 60, {2: 504, 0: 192}),
    (3, "all_to_all", 3 * 60, {2: 204, 0: 204}),
    (3, "all_to_all", 0, {2: 144, 0: 144}),
    (3, "all_gather", 0, {}),
    (3, "all_reduce", 0, {}),
    (3, "reduce_scatter", 3 * 256, {2: 384, 0: 1792}),
    (3, "reduce_scatter", 3 * (4 << 20), {2: 768, 0: 16778752}),
    (3, "reduce_scatter", 3 * (12 << 20), {2: 2304, 0: 50336256}),
    (3, "send", 256, {2: 352}),
    (3, "send", 0, {2: 96}),
    (3, "recv", 256, {0: 48}),
    (4, "all_gather", 4096, {2: 12864, 0: 288}),
    (4, "all_to_all", 4 * 4096, {2: 4240, 3: 4240, 0: 4240}),
    (4, "all_reduce", 4096, {2: 576, 0: 7296}),
    (4, "reduce_scatter", 4 * 4096, {2: 576, 0: 25728}),
]


@pytest.mark.parametrize(("world_size", "kind", "payload_bytes", "sockets"), MEASURED)
def test_gloo_wire_bytes_are_those_measured(
    world_size: int, kind: str, payload_bytes: int, sockets: dict[int, int]
) -> None:
    assert gloo_wire_bytes(operation(kind, payload_bytes), world_size) == sockets


def test_gloos_reduce_scatter_costs_twice_an_all_to_all() -> None:
    """Why gather's backward is an all-to-all on gloo."""
    sent = {
        kind: sum(gloo_wire_bytes(operation(kind, 8 << 20), 8).values()) for kind in ("reduce_scatter", "all_to_all")
    }
    assert sent["reduce_scatter"] / sent["all_to_all"] == pytest.approx(2, rel=1e-2)


# ------------------------------------------------------------------ the loss itself
C10D_KINDS = {
    "c10d::send": "send",
    "c10d::recv_": "recv",
    "c10d::allreduce_": "all_reduce",
    "c10d::_allgather_base_": "all_gather",
    "c10d::_reduce_scatter_base_": "reduce_scatter",
}


class Posted(TorchDispatchMode):
    """What this process hands to c10d: (kind, peer, bytes), in order."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[str, int | None, int]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func.namespace == "c10d":
            kind = C10D_KINDS[func._schema.name]
            peer = args[2] if kind in ("send", "recv") else None
            handed_over = args[1] if kind in ("all_gather", "reduce_scatter") else args[0][0]
            self.operations.append((kind, peer, handed_over.nbytes))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def one_rank_of():  # type: ignore[no-untyped-def]
    def start(rank: int, world_size: int) -> None:
        dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world_size)

    yield start
    dist.destroy_process_group()


@pytest.mark.parametrize("exchange", ["bidir", "shift", "reduce", "gather"])
@pytest.mark.parametrize(("rank", "world_size"), [(1, 2), (2, 3), (0, 4), (3, 5), (17, 32), (20, 33)])
@pytest.mark.parametrize("text_grad", [True, False])
def test_the_loss_posts_what_is_planned(one_rank_of, exchange, rank, world_size, text_grad) -> None:  # type: ignore[no-untyped-def]
    one_rank_of(rank, world_size)
    image = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    text = torch.ones(2, 3, dtype=torch.float64, requires_grad=text_grad)
    loss = SigLipLoss(rank=rank, world_size=world_size, dist_impl=exchange)
    with Posted() as posted:
        value = loss(image, text, torch.tensor(1.0), torch.tensor(0.0))
        num_forward = len(posted.operations)
        value.backward()
    planned = plan(exchange, world_size, 2, 3, 8, text_grad=text_grad, gather_backward="reduce_scatter").events(rank)
    peers = [event.dst if event.kind == "send" else event.src for event in planned]
    expected = [(event.kind, peer, event.payload_bytes) for event, peer in zip(planned, peers, strict=True)]
    assert posted.operations == expected
    assert num_forward == sum(event.phase == "forward" for event in planned)


# ------------------------------------------------------------------ arguments
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ring", 2, 1, 1, 4), "exchange must be one of bidir, shift, reduce, gather; got exchange='ring'"),
        (("shift", 0, 1, 1, 4), "got world_size=0"),
        (("shift", 2, 0, 1, 4), "got batch=0"),
        (("shift", 2, 1, 0, 4), "got dim=0"),
        (("shift", 2, 1, 1, 0), "got itemsize=0"),
    ],
)
def test_a_wrong_argument_is_named(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(*arguments)


@pytest.mark.parametrize("exchange", ["reduce", "gather"])
@pytest.mark.parametrize("form", [{"memory": "constant"}, {"memory": "recompute"}, {"overlap": True}], ids=str)
def test_a_collective_exchange_has_no_travelling_form_and_says_why(exchange: str, form: dict[str, object]) -> None:
    assert not has_form(exchange, **form)
    ((option, value),) = form.items()
    words = (
        f"{option}={value!r} needs blocks that travel from rank to rank, so that a gradient can go along or a block "
        f"ahead; got exchange='{exchange}', whose collectives leave no such journey. Use 'bidir' or 'shift'."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        plan(exchange, 2, 1, 1, 4, **form)


def test_a_form_is_autograd_without_overlap_unless_another_is_asked_for() -> None:
    assert has_form("gather")
    assert has_form("gather", memory="autograd", overlap=False)
    usual = plan("shift", 2, 1, 1, 4)
    assert (usual.image_grad, usual.text_grad, usual.memory, usual.overlap) == (True, True, "autograd", False)
    assert (usual.gather_backward, usual.grad_itemsize, usual.agrees, usual.compares) == (
        "all_to_all",
        None,
        False,
        False,
    )


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"memory": "flat"}, "memory must be one of autograd, constant, recompute; got memory='flat'"),
        (
            {"gather_backward": "scatter"},
            "gather_backward must be one of all_to_all, reduce_scatter; got gather_backward='scatter'",
        ),
        ({"grad_itemsize": 8}, "got grad_itemsize=8 with itemsize=4, memory='autograd'"),
        ({"grad_itemsize": 2, "memory": "constant"}, "in at least as many bytes; got grad_itemsize=2 with itemsize=4"),
        ({"compares": True, "memory": "recompute"}, "with memory='constant' alone; got memory='recompute'"),
    ],
)
def test_options_that_do_not_go_together_are_named(form: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan("shift", 2, 1, 1, 4, **form)


def test_a_rank_out_of_range_is_named() -> None:
    with pytest.raises(ValueError, match=r"one of 0 \.\. 2; got rank=3"):
        plan("shift", 3, 1, 1, 4).events(3)


def test_the_plan_imports_the_standard_library_alone() -> None:
    """In a fresh interpreter, and from its own folder, as the package around it loads torch."""
    names = "('torch', 'numpy', 'msgspec', 'siglip_verify')"
    code = f"import sys, plan; print([name for name in {names} if name in sys.modules])"
    folder = Path(siglip_verify.plan.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
