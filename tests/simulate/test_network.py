"""Messages on links: shares, events, closed forms, symmetry, skipping.

Oracles: formulas written down here; the definition of a max-min fair share; and runs that follow every rank of every
host and every round, against those that follow one host and skip. Sees: a wrong share or sum, a symmetry that does not
hold, a repetition that is none. Does not see whether a real network shares as fairly.
"""

from __future__ import annotations

import math
from collections import Counter

import msgspec
import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify.plan import PHASES, plan
from siglip_verify.simulate import Cluster, Compute, Link, Uplinks, engine, lockstep
from siglip_verify.simulate.compute import BlockTime
from siglip_verify.simulate.fabric import Fabric
from siglip_verify.simulate.program import phase_program
from siglip_verify.simulate.rounds import Loop, Program, Round, Transfer, computing_s
from siglip_verify.simulate.sharing import Links

EXACT = 1e-9
RINGS = [(exchange, memory) for exchange in ("bidir", "shift") for memory in ("autograd", "constant", "recompute")]
COMPUTE = Compute(tflops_per_s={"float32": 1.0}, memory_gbytes_per_s=1.0, operation_us=1.0)


def cluster(
    ranks_per_host: int = 4,
    *,
    within: tuple[float, float] = (3.0, 100.0),
    between: tuple[float, float] = (12.0, 10.0),
    uplinks: int = 1,
    duplex: str = "full",
    call_us: float = 2.0,
) -> Cluster:
    return Cluster(
        name="test",
        ranks_per_host=ranks_per_host,
        memory_gbytes=1.0,
        call_us=call_us,
        within_host=Link(latency_us=within[0], gbytes_per_s=within[1], duplex=duplex),
        between_hosts=Uplinks(latency_us=between[0], gbytes_per_s=between[1], duplex=duplex, per_host=uplinks),
        compute=COMPUTE,
    )


def posting_s(messages: int) -> float:
    """A hop takes 2 us to post, and 0.7 us for each message beside the first."""
    return (2.0 + 0.7 * (messages - 1)) * 1e-6


def ring_program(
    exchange: str, memory: str, world_size: int, phase: str, block: BlockTime, *, overlap: bool = False
) -> Program:
    planned = plan(exchange, world_size, 100, 50, 4, memory=memory, overlap=overlap)
    return phase_program(planned, phase, block, posting_s=posting_s, collective_s={})


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    ranks_per_host, uplinks = draw(st.sampled_from([(2, 1), (2, 2), (3, 1), (4, 1), (4, 2), (4, 4), (6, 3)]))
    latency, speed = st.floats(0.0, 50.0), st.floats(0.5, 500.0)
    return cluster(
        ranks_per_host,
        within=(draw(latency), draw(speed)),
        between=(draw(latency), draw(speed)),
        uplinks=uplinks,
        duplex=draw(st.sampled_from(["full", "half"])),
    )


SECONDS = st.sampled_from([0.0, 1e-6, 7e-6, 3e-5])


# ------------------------------------------------------------------ shares of links
@given(clusters(), st.lists(st.tuples(st.integers(1, 11), st.integers(1, 3)), min_size=1, max_size=4))
def test_shares_are_max_min_fair(on: Cluster, moves: list[tuple[int, int]]) -> None:
    """No link carries more than it can, and every message is held back by a full link on which none is faster."""
    world_size = 2 * on.ranks_per_host
    fabric = Fabric(on, world_size, every_rank=True)
    flows = fabric.flows([Transfer(1e6, offset=offset % (world_size - 1) + 1) for offset, _ in moves])
    links = Links(fabric)
    rates = links._fair_shares(Counter(flow.path for flow in flows))
    load: Counter[object] = Counter()
    for flow in flows:
        for link in flow.path:
            load[link] += rates[flow.path]
    assert all(load[link] <= fabric.bytes_per_s(link) * (1 + EXACT) for link in load)
    for flow in flows:
        full = [link for link in flow.path if load[link] >= fabric.bytes_per_s(link) * (1 - EXACT)]
        assert any(
            all(rates[flow.path] >= rates[other.path] * (1 - EXACT) for other in flows if link in other.path)
            for link in full
        )


@pytest.mark.parametrize(
    ("world_size", "uplinks", "duplex", "transfers", "expected_us"),
    [
        (4, 1, "full", [Transfer(1e6, 1)], 3 + 10),  # within a host: 1 MB at 100 GB/s
        (4, 1, "full", [Transfer(1e6, 1), Transfer(1e6, -1)], 3 + 20),  # both ways leave by the same port
        (4, 1, "half", [Transfer(1e6, 1)], 3 + 20),  # what comes in takes its part
        (8, 1, "full", [Transfer(1e6, 1)], 12 + 100),  # one rank a host crosses, at 10 GB/s
        (8, 1, "full", [Transfer(1e6, 4)], 12 + 400),  # four cross by one uplink
        (8, 2, "full", [Transfer(1e6, 4)], 12 + 200),  # by two
        (8, 2, "full", [Transfer(1e6, 2)], 12 + 200),  # the two that cross are neighbours, which share one of the two
        (8, 4, "full", [Transfer(1e6, 4)], 12 + 100),  # by one each
        (8, 1, "half", [Transfer(1e6, 4)], 12 + 800),  # and as much comes in
        (8, 1, "full", [Transfer(1e6, 1), Transfer(1e6, -1)], 12 + 200),  # two messages leave a host
        (8, 4, "full", [Transfer(1e6, 1), Transfer(1e6, -1)], 12 + 100),  # by different uplinks
        (8, 1, "full", [Transfer(1e6, flip=1)], 3 + 10),  # partners in the host
        (8, 1, "full", [Transfer(1e6, flip=4)], 12 + 400),  # partners in the other
        (8, 4, "full", [Transfer(1e6, 1), Transfer(1e6, 1, turn=1)], 12 + 100),  # two rings cross by two uplinks
        (8, 1, "full", [Transfer(0.0, 1)], 12),
    ],
)
def test_a_round_takes_what_its_busiest_link_takes(
    world_size: int, uplinks: int, duplex: str, transfers: list[Transfer], expected_us: float
) -> None:
    fabric = Fabric(cluster(uplinks=uplinks, duplex=duplex), world_size)
    program = (Loop((Round(tuple(transfers), call_s=2e-6, after_s=5e-6),)),)
    for seconds in (lockstep.seconds(fabric, program), engine.seconds(fabric, program)):
        assert seconds == pytest.approx((expected_us + 2 + 5) * 1e-6, rel=EXACT)


def test_a_message_that_ends_leaves_its_share_to_the_others() -> None:
    """1 MB and 3 MB by one port of 100 GB/s: 2 MB pass in 20 us shared, the other 2 MB in 20 us alone."""
    fabric = Fabric(cluster(), 4)
    trace = engine.Trace()
    program = (
        Loop(
            (
                Round(
                    (Transfer(1e6, 1), Transfer(3e6, 2)),
                ),
            )
        ),
    )
    assert engine.seconds(fabric, program, trace=trace) == pytest.approx(43e-6, rel=EXACT)
    assert Counter((sent.src, sent.num_bytes) for sent in trace.sent) == Counter(
        (rank, size) for rank in range(4) for size in (1e6, 3e6)
    )


# ------------------------------------------------------------------ closed forms
@pytest.mark.parametrize("exchange", ["bidir", "shift"])
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("world_size", [*range(2, 10), 33])
def test_autograd_rings_on_one_host_take_what_the_formulas_say(exchange: str, overlap: bool, world_size: int) -> None:
    """Hops of one or two blocks, W blocks to compute; in forward overlap hides what the longer of the two hides."""
    block = BlockTime(forward=7e-6, backward=9e-6)
    one, two = (posting_s(blocks) + 3e-6 + blocks * 100 * 50 * 4 / 100e9 for blocks in (1, 2))
    for phase, seconds in zip(PHASES, block, strict=True):
        if exchange == "shift":
            single, double = world_size - 1, 0
        else:
            single, double = (world_size - 1) % 2, (world_size - 1) // 2
        if overlap and phase == "forward":
            brings = [2] * double + [1] * single
            hops = [two] * double + [one] * single
            beside = [1, *brings[:-1]]
            expected = sum(max(hop, blocks * seconds) for hop, blocks in zip(hops, beside, strict=True))
            expected += brings[-1] * seconds
        else:
            expected = single * one + double * two + world_size * seconds
        fabric = Fabric(cluster(ranks_per_host=64), world_size)
        program = ring_program(exchange, "autograd", world_size, phase, block, overlap=overlap)
        assert lockstep.is_exact(fabric, program)
        assert lockstep.seconds(fabric, program) == pytest.approx(expected, rel=EXACT)
        assert engine.seconds(fabric, program) == pytest.approx(expected, rel=EXACT)
        assert computing_s(program) == pytest.approx(world_size * seconds, rel=EXACT)


@pytest.mark.parametrize("exchange", ["bidir", "shift"])
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("world_size", [*range(2, 10), 33, 34])
@pytest.mark.parametrize("seconds", [0.0, 1e-6, 7e-6, 3e-5])
def test_gradients_that_travel_with_their_texts_take_what_the_formula_says(
    exchange: str, overlap: bool, world_size: int, seconds: float
) -> None:
    """Written down from `loss/stream.py`, hop for hop: a text goes n places, a gradient one or two hops behind it.

    Hop k sends the text if k <= n and the gradient if k > 1 (2 with overlap); the last brings it home. The blocks that
    hop k - 1 brought are computed before it leaves, with overlap while it is under way; the own one during the first.
    """
    lag = int(overlap)
    streams = [world_size - 1] if exchange == "shift" else [world_size // 2, (world_size - 1) // 2]
    expected, arrived = 0.0, 1
    for k in range(1, max(streams) + lag + 2):
        under_way = [n for n in streams if n and k <= n + lag + 1]
        carried = [(k <= n) + (k > 1 + lag) for n in under_way]
        messages = sum(blocks > 0 for blocks in carried)
        hop = posting_s(messages) + 3e-6 + sum(carried) * 100 * 50 * 4 / 100e9 if messages else 0.0
        expected += max(hop, arrived * seconds) if overlap or k == 1 else arrived * seconds + hop
        arrived = sum(k <= n for n in under_way)
    fabric = Fabric(cluster(ranks_per_host=64), world_size)
    for memory, phase in (("constant", "forward"), ("recompute", "backward")):
        program = ring_program(exchange, memory, world_size, phase, BlockTime(seconds, seconds), overlap=overlap)
        assert lockstep.seconds(fabric, program) == pytest.approx(expected, rel=EXACT)
        assert engine.seconds(fabric, program) == pytest.approx(expected, rel=EXACT)
        assert computing_s(program) == pytest.approx(world_size * seconds, rel=EXACT)


def test_backward_of_overlapped_autograd_begins_with_the_blocks_of_two_hops() -> None:
    """As torch undoes it (seen in the order of the loss's operations): the hop of the last block leaves after both."""

    def after(overlap: bool) -> list[float]:
        program = ring_program("shift", "autograd", 4, "backward", BlockTime(0.0, 1.0), overlap=overlap)
        rounds = [each for loop in program for each in loop.rounds * loop.times]
        first_hop = next(place for place, each in enumerate(rounds) if each.transfers)
        return [sum(each.after_s for each in rounds[:first_hop]), *(each.after_s for each in rounds[first_hop:])]

    assert after(overlap=False) == [1, 1, 1, 1]
    assert after(overlap=True) == [2, 1, 1, 0]


@examples(60)
@given(
    st.sampled_from(RINGS), st.integers(1, 14), st.sampled_from(["full", "half"]), SECONDS, SECONDS,
    st.booleans(), st.sampled_from(PHASES), st.booleans(),
)  # fmt: skip
def test_events_equal_the_closed_form_where_all_ranks_are_alike(
    form: tuple[str, str],
    world_size: int,
    duplex: str,
    forward: float,
    backward: float,
    overlap: bool,
    phase: str,
    one_rank_a_host: bool,
) -> None:
    on = cluster(1 if one_rank_a_host else 16, duplex=duplex)
    block = BlockTime(forward, 0.0 if form[1] == "constant" else backward)
    program = ring_program(*form, world_size, phase, block, overlap=overlap)
    closed = lockstep.seconds(Fabric(on, world_size), program)
    for skip in (True, False):
        assert engine.seconds(Fabric(on, world_size, every_rank=True), program, skip=skip) == pytest.approx(
            closed, rel=EXACT, abs=1e-18
        )


# ------------------------------------------------------------------ one host for all, and skipping
def pairwise(world_size: int) -> Program:
    return tuple(Loop((Round((Transfer(3e4, offset=step),)),)) for step in range(1, world_size))


@examples(60)
@given(
    clusters(), st.integers(1, 4), st.sampled_from([*RINGS, ("pairwise", "")]), SECONDS, st.booleans(),
    st.sampled_from(PHASES),
)  # fmt: skip
def test_one_host_stands_for_all_and_skipping_changes_nothing(
    on: Cluster, hosts: int, form: tuple[str, str], computing: float, overlap: bool, phase: str
) -> None:
    world_size = hosts * on.ranks_per_host
    block = BlockTime(computing, computing if form[1] != "constant" else 0.0)
    program = (
        pairwise(world_size)
        if form[0] == "pairwise"
        else ring_program(*form, world_size, phase, block, overlap=overlap)
    )
    every = engine.seconds(Fabric(on, world_size, every_rank=True), program, skip=False)
    one = Fabric(on, world_size)
    assert engine.seconds(one, program, skip=False) == pytest.approx(every, rel=EXACT, abs=1e-18)
    assert engine.seconds(one, program) == pytest.approx(every, rel=EXACT, abs=1e-18)


ROUNDS = st.builds(
    Round,
    st.lists(
        st.builds(Transfer, st.floats(1e3, 1e6), offset=st.sampled_from([-5, -3, -2, -1, 1, 2, 3, 4, 7])),
        min_size=1,
        max_size=2,
    ).map(tuple),
    during_s=SECONDS,
    after_s=SECONDS,
)
PROGRAMS = st.lists(
    st.builds(Loop, st.lists(ROUNDS, min_size=1, max_size=3).map(tuple), st.integers(1, 40)), min_size=1, max_size=3
).map(tuple)


@examples(150)
@given(clusters(), st.integers(2, 6), PROGRAMS)
def test_skipping_changes_nothing_whatever_is_repeated(on: Cluster, hosts: int, program: Program) -> None:
    fabric = Fabric(on, hosts * on.ranks_per_host)
    assert engine.seconds(fabric, program) == pytest.approx(engine.seconds(fabric, program, skip=False), rel=EXACT)


@examples(40)
@given(clusters(), st.integers(2, 4), PROGRAMS)
def test_one_host_stands_for_all_whatever_is_sent(on: Cluster, hosts: int, program: Program) -> None:
    short = tuple(Loop(loop.rounds, 1 + loop.times % 3) for loop in program)
    world_size = hosts * on.ranks_per_host
    every = engine.seconds(Fabric(on, world_size, every_rank=True), short, skip=False)
    assert engine.seconds(Fabric(on, world_size), short) == pytest.approx(every, rel=EXACT)


@given(clusters(), st.integers(2, 5), st.sampled_from(["autograd", "constant"]), SECONDS)
def test_where_no_link_is_shared_waiting_for_all_at_every_round_is_never_faster(
    on: Cluster, hosts: int, memory: str, computing: float
) -> None:
    """One ring, full duplex: a link carries one message at a time, and a rank only ever waits for its neighbour."""
    on = msgspec.structs.replace(
        on,
        within_host=msgspec.structs.replace(on.within_host, duplex="full"),
        between_hosts=msgspec.structs.replace(on.between_hosts, duplex="full"),
    )
    world_size = hosts * on.ranks_per_host
    program = ring_program("shift", memory, world_size, "forward", BlockTime(computing, 0.0))
    fabric = Fabric(on, world_size)
    assert engine.seconds(fabric, program) <= lockstep.seconds(fabric, program) * (1 + EXACT)


def test_where_a_link_is_shared_waiting_for_all_can_be_faster() -> None:
    """Out of step, a message can meet another's on a link that it had for itself in step: no theorem there."""
    on = cluster(6, within=(0.0, 1.0), between=(0.0, 1.0), uplinks=3)
    program = ring_program("bidir", "constant", 18, "forward", BlockTime(0.0, 0.0))
    fabric = Fabric(on, 18)
    assert engine.seconds(fabric, program) > lockstep.seconds(fabric, program) * 1.01


def test_a_long_ring_is_skipped_through() -> None:
    """At W = 65,536 no more than some hundred events are simulated; without skipping it would be half a million."""
    on = cluster(8, uplinks=8)
    program = ring_program("shift", "autograd", 1 << 16, "forward", BlockTime(1e-6, 0.0))
    run = engine._Run(Fabric(on, 1 << 16), program, True, None)
    advances = 0
    advance = run._advance

    def counted() -> None:
        nonlocal advances
        advances += 1
        advance()

    run._advance = counted  # type: ignore[method-assign]
    hop = 2e-6 + 12e-6 + 100 * 50 * 4 / 10e9
    assert run.finished_s() == pytest.approx(((1 << 16) - 1) * (hop + 1e-6) + 1e-6, rel=EXACT)
    assert advances < 2000


def test_the_trace_shows_every_message_and_all_computing() -> None:
    trace = engine.Trace()
    program = ring_program("bidir", "autograd", 8, "forward", BlockTime(5e-6, 0.0))
    end = engine.seconds(Fabric(cluster(), 8, every_rank=True), program, trace=trace)
    assert Counter(sent.src for sent in trace.sent) == dict.fromkeys(range(8), 7)
    assert sum(sent.crosses for sent in trace.sent) == 14, "a message each way over each of the two borders, 3.5 hops"
    for rank in range(8):
        mine = [span for span in trace.spans if span.rank == rank]
        computing = math.fsum(span.end_s - span.begin_s for span in mine if span.kind == "compute")
        assert computing == pytest.approx(8 * 5e-6, rel=EXACT)
        assert max(span.end_s for span in mine) <= end
        assert all(span.begin_s < span.end_s for span in mine)


# ------------------------------------------------------------------ worlds that cannot be
@pytest.mark.parametrize(
    ("world_size", "between", "message"),
    [
        (10, True, "W is a multiple of 4 on 'test'; got W = 10: take 8, or change ranks_per_host"),
        (8, False, "W = 8 needs more than one host of 4 ranks, and 'test' has no \\[between_hosts\\]"),
    ],
)
def test_a_world_that_a_cluster_cannot_have_is_refused(world_size: int, between: bool, message: str) -> None:
    on = cluster()
    if not between:
        on = Cluster(name="test", ranks_per_host=4, memory_gbytes=1, within_host=on.within_host, compute=COMPUTE)
    with pytest.raises(ValueError, match=message):
        Fabric(on, world_size)
