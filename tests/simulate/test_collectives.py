"""What collectives cost, by algorithm.

Oracles: the textbook's formulas, written down here; events on every rank; and the bytes that a collective must move
whatever the algorithm. Sees: a step too many, a wrong size of a step, a wrong way over hosts.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify.errors import UsageError
from siglip_verify.simulate import PRESETS, Cluster, Compute, Link, Uplinks, engine, lockstep
from siglip_verify.simulate.collectives import KINDS, _doubling, collective_cost
from siglip_verify.simulate.fabric import Fabric
from siglip_verify.simulate.rounds import Loop, Round, Transfer

EXACT = 1e-9
ALPHA, BETA, CALL, MESSAGE = 3e-6, 1e-11, 2e-6, 0.5e-6


def cluster(ranks_per_host: int, uplinks: int = 1, duplex: str = "full") -> Cluster:
    return Cluster(
        name="test",
        ranks_per_host=ranks_per_host,
        memory_gbytes=1,
        call_us=CALL * 1e6,
        message_us=MESSAGE * 1e6,
        within_host=Link(latency_us=ALPHA * 1e6, gbytes_per_s=1e-9 / BETA, duplex=duplex),
        between_hosts=Uplinks(latency_us=20, gbytes_per_s=10, per_host=uplinks, duplex=duplex),
        compute=Compute(tflops_per_s={"float32": 1}, memory_gbytes_per_s=1, operation_us=1),
    )


PAYLOAD = 1 << 20


@pytest.mark.parametrize("world_size", [2, 4, 8, 64])
@pytest.mark.parametrize(
    ("kind", "algorithm", "steps", "bytes_of_payload"),
    [
        ("all_gather", "ring", lambda w: w - 1, lambda w: w - 1),
        ("reduce_scatter", "ring", lambda w: w - 1, lambda w: (w - 1) / w),
        ("all_reduce", "ring", lambda w: 2 * (w - 1), lambda w: 2 * (w - 1) / w),
        ("all_to_all", "ring", lambda w: 1 + (w - 2) * MESSAGE / ALPHA, lambda w: (w - 1) / w),
        ("all_gather", "recursive-doubling", math.log2, lambda w: w - 1),
        ("reduce_scatter", "recursive-doubling", math.log2, lambda w: (w - 1) / w),
        ("all_reduce", "recursive-doubling", lambda w: 2 * math.log2(w), lambda w: 2 * (w - 1) / w),
        ("all_to_all", "recursive-doubling", math.log2, lambda w: math.log2(w) / 2),
        ("all_reduce", "tree", lambda w: 2 * (w - 1), lambda w: 2),  # within one host a tree is a chain
    ],
)
def test_on_one_host_a_collective_takes_what_the_textbook_says(
    kind: str, algorithm: str, steps: object, bytes_of_payload: object, world_size: int
) -> None:
    cost = collective_cost(Fabric(cluster(64), world_size), kind, PAYLOAD, algorithm)
    moved = PAYLOAD * bytes_of_payload(world_size)
    assert cost.seconds == pytest.approx(CALL + steps(world_size) * ALPHA + moved * BETA, rel=EXACT)
    assert cost.host_bytes == 0
    if algorithm != "tree":  # whose root sends nothing up and whose leaves nothing down
        assert cost.sent_bytes == pytest.approx(moved, rel=EXACT)


@pytest.mark.parametrize("world_size", [4, 16])
def test_between_hosts_a_tree_has_a_logarithm_of_latencies(world_size: int) -> None:
    """One rank a host: up and down two binary trees, 2 ceil(log2 W) steps, and the payload twice by each uplink."""
    cost = collective_cost(Fabric(cluster(1), world_size), "all_reduce", PAYLOAD, "tree")
    assert cost.seconds == pytest.approx(CALL + 2 * math.log2(world_size) * 20e-6 + 2 * PAYLOAD / 10e9, rel=EXACT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("algorithm", ["ring", "recursive-doubling", "tree"])
@pytest.mark.parametrize("world_size", [8, 32])
def test_what_must_leave_a_host_leaves_it(kind: str, algorithm: str, world_size: int) -> None:
    """The least that must leave a host: its ranks' blocks to gather, sums of all others' parts to reduce."""
    least = {
        "all_gather": PAYLOAD * 4,  # its own blocks, once
        "reduce_scatter": PAYLOAD / world_size * (world_size - 4),  # one sum for each rank elsewhere
        "all_reduce": PAYLOAD,
        "all_to_all": 4 * PAYLOAD / world_size * (world_size - 4),  # every part for a rank elsewhere
    }
    cost = collective_cost(Fabric(cluster(4, uplinks=4), world_size), kind, PAYLOAD, algorithm)
    assert cost.host_bytes >= least[kind] * (1 - EXACT)


@pytest.mark.parametrize("uplinks", [1, 2, 4])
@pytest.mark.parametrize("duplex", ["full", "half"])
@pytest.mark.parametrize("kind", KINDS)
def test_recursive_doubling_by_events_on_every_rank_is_the_closed_form(kind: str, duplex: str, uplinks: int) -> None:
    on = cluster(4, uplinks, duplex)
    program = _doubling(kind, 16, float(PAYLOAD))
    cost = collective_cost(Fabric(on, 16), kind, PAYLOAD, "recursive-doubling")
    every = engine.seconds(Fabric(on, 16, every_rank=True), program)
    assert cost.seconds == pytest.approx(CALL + every, rel=EXACT)


@pytest.mark.parametrize("uplinks", [1, 2, 4])
@pytest.mark.parametrize("duplex", ["full", "half"])
@pytest.mark.parametrize("world_size", [4, 8, 12, 24])
def test_all_to_all_at_once_takes_what_events_on_every_rank_take(world_size: int, duplex: str, uplinks: int) -> None:
    on = cluster(4, uplinks, duplex)
    to_others = tuple(Transfer(PAYLOAD / world_size, offset=places) for places in range(1, world_size))
    every = engine.seconds(Fabric(on, world_size, every_rank=True), (Loop((Round(to_others),)),))
    cost = collective_cost(Fabric(on, world_size), "all_to_all", PAYLOAD, "ring")
    assert cost.seconds == pytest.approx(CALL + (world_size - 2) * MESSAGE + every, rel=EXACT)
    assert cost.sent_bytes == pytest.approx(PAYLOAD * (world_size - 1) / world_size, rel=EXACT)
    assert cost.host_bytes == pytest.approx(4 * PAYLOAD * (world_size - 4) / world_size, rel=EXACT)


@given(
    st.sampled_from([(2, 1), (2, 2), (4, 1), (4, 2), (4, 4), (8, 8)]),
    st.integers(2, 8),
    st.sampled_from(["all_gather", "reduce_scatter", "all_reduce"]),
    st.sampled_from(["full", "half"]),
    st.integers(1, 1 << 24),
)
def test_rings_over_hosts_lie_between_their_bounds(
    layout: tuple[int, int], hosts: int, kind: str, duplex: str, payload: int
) -> None:
    """Not below what the busiest link needs, nor the latencies of the way; not above rings that wait at every step."""
    on = cluster(*layout, duplex=duplex)
    world_size = hosts * layout[0]
    fabric = Fabric(on, world_size)
    cost = collective_cost(fabric, kind, payload, "ring")
    steps = (world_size - 1) * (2 if kind == "all_reduce" else 1)
    size = payload if kind == "all_gather" else payload / world_size
    turns = [ring * layout[0] // layout[1] for ring in range(layout[1])]
    each = Round(tuple(Transfer(size / layout[1], offset=1, turn=turn) for turn in turns))
    every = Fabric(on, world_size, every_rank=True)
    busiest = max(lockstep.busy_seconds(every, every.flows(each.transfers)).values())
    assert cost.seconds >= CALL + steps * busiest
    assert cost.seconds >= CALL + (hosts - 1) * 20e-6
    assert cost.seconds <= CALL + steps * lockstep.communication_s(every, each) * (1 + EXACT)
    assert cost.host_bytes == pytest.approx(steps * size, rel=EXACT), "all rings together leave a host once a step"


def test_the_fastest_is_chosen_and_named() -> None:
    fabric = Fabric(PRESETS["h100-ib"], 512)
    for kind in KINDS:
        costs = [collective_cost(fabric, kind, PAYLOAD, each) for each in ("ring", "tree", "recursive-doubling")]
        best = collective_cost(fabric, kind, PAYLOAD)
        assert best.seconds == min(cost.seconds for cost in costs)
        assert best.algorithm in {cost.algorithm for cost in costs}


def test_many_uplinks_speed_up_a_gather_and_not_a_ring_of_single_messages() -> None:
    """Why gather beats bidir where every rank has its own network card: its rings use all of them."""
    one, eight = (Fabric(cluster(8, uplinks), 64) for uplinks in (1, 8))
    gathers = [collective_cost(fabric, "all_gather", 1 << 26, "ring").seconds for fabric in (one, eight)]
    hops = [lockstep.communication_s(fabric, Round((Transfer(1 << 26, offset=1),))) for fabric in (one, eight)]
    assert gathers[0] / gathers[1] > 7
    assert hops[0] == hops[1]


# ------------------------------------------------------------------ what cannot be
def test_recursive_doubling_of_other_than_powers_of_two_is_refused_and_never_chosen() -> None:
    fabric = Fabric(cluster(4), 12)
    with pytest.raises(UsageError, match="got W = 12 with 4 ranks a host: take ring or tree, or powers of two"):
        collective_cost(fabric, "all_gather", PAYLOAD, "recursive-doubling")
    assert collective_cost(fabric, "all_gather", PAYLOAD).algorithm == "ring"


def test_an_unknown_collective_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a collective is one of all_reduce, .*; got 'broadcast'"):
        collective_cost(Fabric(cluster(4), 4), "broadcast", PAYLOAD)
