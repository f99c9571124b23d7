"""Every message of our exchanges, on real gloo ranks: recorded, planned, and on the wire.

Oracle: the plan, which shares no code with the loss, and formulas written here by hand (hops, sends by direction, bytes
on the wire). Sees: an operation too many, too few, of another size, in another hop or to another rank; bytes on the
wire that no operation explains, by peer and phase. Cannot see: which tensor was in a message of the right size.
"""

from __future__ import annotations

from collections import Counter

import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify.adapt import LossSpec, Traits
from siglip_verify.case import DTYPES, EXCHANGES, Case, Exchange, itemsize
from siglip_verify.plan import gloo_wire_bytes, plan
from siglip_verify.records import Event
from siglip_verify.result import StepMessages
from siglip_verify.run import step
from siglip_verify.run.counting import count_step
from siglip_verify.run.gather_backward import gather_backward
from siglip_verify.run.limits import load_traits
from siglip_verify.run.logs import read_logs
from siglip_verify.world import Worlds

OURS = LossSpec()


@pytest.fixture(scope="module")
def traits(worlds: Worlds) -> Traits:
    return load_traits(worlds, OURS)


def record(worlds: Worlds, traits: Traits, case: Case) -> list[Event]:
    """Run one step of our loss and return what every rank posted."""
    worlds.run(case.world_size, step.step, OURS, traits, case)
    logs = read_logs(worlds.logs(case.world_size))
    assert not logs.overflowed
    return logs.events


def planned_events(case: Case, rank: int) -> list[tuple[object, ...]]:
    planned = plan(
        case.exchange,
        case.world_size,
        case.batch,
        case.dim,
        itemsize(case.dtype),
        image_grad=case.frozen != "image",
        text_grad=case.frozen != "text",
    )
    return [(e.sequence, e.phase, e.hop, e.kind, e.src, e.dst, e.payload_bytes) for e in planned.events(rank)]


def steps(exchange: Exchange) -> st.SearchStrategy[Case]:
    return st.builds(
        Case,
        exchange=st.just(exchange),
        world_size=st.integers(1, 8),
        batch=st.integers(1, 9),
        dim=st.integers(1, 17),
        dtype=st.sampled_from(DTYPES),
        frozen=st.sampled_from(["none", "image", "text"]),
        layout=st.sampled_from(["contiguous", "transposed", "strided"]),
        chunk_size=st.sampled_from([0, 2]),
        seed=st.integers(0, 1000),
    )


# ------------------------------------------------------------------ recorded == planned
@pytest.mark.parametrize("exchange", EXCHANGES)
@examples(15)
@given(data=st.data())
def test_what_is_recorded_is_what_is_planned_event_for_event(
    worlds: Worlds, traits: Traits, exchange: Exchange, data: st.DataObject
) -> None:
    case = data.draw(steps(exchange))
    events = record(worlds, traits, case)
    assert {event.dtype for event in events} <= {case.dtype}
    for rank in range(case.world_size):
        own = [event for event in events if event.rank == rank]
        posted = [(e.sequence, e.phase, e.hop, e.kind, e.src, e.dst, e.payload_bytes) for e in own]
        assert posted == planned_events(case, rank)


@pytest.mark.parametrize("world_size", range(1, 9))
def test_bidir_sends_half_of_the_blocks_each_way_and_their_gradients_back(
    worlds: Worlds, traits: Traits, world_size: int
) -> None:
    w = world_size
    events = record(worlds, traits, Case(exchange="bidir", world_size=w, batch=2, dim=3))
    hops = {phase: len({e.hop for e in events if e.phase == phase}) for phase in ("forward", "backward")}
    assert hops == {"forward": -(-(w - 1) // 2), "backward": -(-(w - 1) // 2)}
    for rank in range(w):
        sent = {
            phase: Counter(e.dst for e in events if (e.rank, e.kind, e.phase) == (rank, "send", phase))
            for phase in ("forward", "backward")
        }
        right, left = (rank + 1) % w, (rank - 1) % w
        assert sent["forward"] == Counter({right: w // 2}) + Counter({left: (w - 1) // 2})
        assert sent["backward"] == Counter({left: w // 2}) + Counter({right: (w - 1) // 2})
        assert sent["forward"].total() == sent["backward"].total() == w - 1


# ------------------------------------------------------------------ on the wire
def wire_by_peer(counted: StepMessages) -> Counter[tuple[str, int, int]]:
    if counted.wire is None:
        pytest.skip("this system does not count the bytes of each socket")
    return Counter({(c.phase, c.rank, c.peer): c.wire_bytes for c in counted.wire if c.wire_bytes})


def modelled_by_peer(case: Case) -> Counter[tuple[str, int, int]]:
    modelled: Counter[tuple[str, int, int]] = Counter()
    planned = plan(case.exchange, case.world_size, case.batch, case.dim, itemsize(case.dtype))
    for rank in range(case.world_size):
        for event in planned.events(rank):
            for peer, num_bytes in gloo_wire_bytes(event, case.world_size).items():
                modelled[event.phase, rank, peer] += num_bytes
    return modelled


@pytest.mark.parametrize("world_size", range(2, 9))
@pytest.mark.parametrize("exchange", EXCHANGES)
def test_the_wire_carries_what_the_planned_operations_cost_on_gloo_by_phase_and_peer(
    worlds: Worlds, traits: Traits, exchange: Exchange, world_size: int
) -> None:
    dim = 4 * world_size  # gloo cuts an all-reduce into 2 W parts of multiples of 16 bytes; others take any size
    case = Case(exchange=exchange, world_size=world_size, batch=8, dim=dim, dtype="float32")
    counted = count_step(worlds, OURS, traits, case)
    assert counted.verdict == "pass"
    assert wire_by_peer(counted) == modelled_by_peer(case)


@examples(15)
@given(
    exchange=st.sampled_from(["bidir", "shift", "gather"]),
    world_size=st.integers(2, 5),
    batch=st.integers(1, 40),
    dim=st.integers(1, 70),
    dtype=st.sampled_from(DTYPES),
)
def test_messages_all_gather_and_all_to_all_of_any_size_cost_exactly_this(
    worlds: Worlds, traits: Traits, exchange: Exchange, world_size: int, batch: int, dim: int, dtype: str
) -> None:
    w, case = world_size, Case(exchange=exchange, world_size=world_size, batch=batch, dim=dim, dtype=dtype)
    counted = count_step(worlds, OURS, traits, case)
    wire, block = wire_by_peer(counted), batch * dim * itemsize(case.dtype)
    for rank in range(w):
        sent = {
            p: sum(n for (phase, r, _), n in wire.items() if (phase, r) == (p, rank)) for p in ("forward", "backward")
        }
        if exchange == "gather":
            assert sent == {"forward": (w - 1) * (block + 288), "backward": (w - 1) * (block + 144)}
        else:  # W-1 sends and W-1 receives a phase
            assert sent == dict.fromkeys(("forward", "backward"), (w - 1) * (block + 96 + 48))
    if exchange != "gather":
        assert wire == by_hand(counted)


@pytest.mark.parametrize("world_size", range(2, 6))
def test_a_reduce_scatter_costs_twice_what_it_must_on_gloo_and_the_other_ways_no_more_than_they_must(
    worlds: Worlds, world_size: int
) -> None:
    w, block = world_size, 8 * 8 * world_size * 4
    case = Case(exchange="gather", world_size=w, batch=8, dim=8 * w, dtype="float32")
    costs = {cost.collective.split()[0]: cost for cost in gather_backward(worlds, case)}
    if costs["reduce_scatter"].wire_bytes is None:
        pytest.skip("this system does not count the bytes of each socket")
    assert {name: cost.wire_bytes for name, cost in costs.items()} == {
        "all_to_all": (w - 1) * (block + 144),
        "reduce_scatter": 2 * (w - 1) * block + 576 * (w - 1),
        "W": (w - 1) * (block + 144),
    }
    assert all(cost.wire_bytes == cost.modelled_wire_bytes for cost in costs.values())
    assert {(cost.ring_bytes, cost.payload_bytes) for cost in costs.values()} == {((w - 1) * block, w * block)}
    assert {name: cost.calls for name, cost in costs.items()} == {"all_to_all": 1, "reduce_scatter": 1, "W": w}


def test_with_one_rank_no_gradient_has_to_come_home(worlds: Worlds) -> None:
    assert gather_backward(worlds, Case(world_size=1)) == ()


def by_hand(counted: StepMessages) -> Counter[tuple[str, int, int]]:
    """Payload and 96 from the sender of each message, 48 from its receiver."""
    cost: Counter[tuple[str, int, int]] = Counter()
    for event in counted.events:
        assert event.src is not None
        assert event.dst is not None
        if event.kind == "send":
            cost[event.phase, event.rank, event.dst] += event.payload_bytes + 96
        else:
            cost[event.phase, event.rank, event.src] += 48
    return cost
