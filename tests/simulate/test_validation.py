"""What is simulated is what is sent.

Oracles: the plan; the recorder in real gloo processes at W = 1 .. 8; the recorder in one rank of 64 and 512 on torch's
fake backend, which sends nothing but is handed every operation of the real loss. Sees: a simulation of other messages
than ours.
"""

from __future__ import annotations

from collections import Counter

import pytest
import torch
import torch.distributed as dist
from counting import recorded

from siglip_verify.loss import SigLipLoss
from siglip_verify.observe import Recorder, log_bytes, read_log
from siglip_verify.plan import PHASES, Plan, has_form, plan
from siglip_verify.records import Event
from siglip_verify.simulate import PRESETS, Form, Setup, engine, simulate
from siglip_verify.simulate.compute import BlockTime
from siglip_verify.simulate.fabric import Fabric
from siglip_verify.simulate.program import phase_program
from siglip_verify.world import Worlds, context

FORMS = [
    (exchange, memory, overlap)
    for exchange in ("bidir", "shift", "reduce", "gather")
    for memory in ("autograd", "constant", "recompute")
    for overlap in (False, True)
    if has_form(exchange, memory=memory, overlap=overlap)
]
B, D = 3, 5
by_form = pytest.mark.parametrize(("exchange", "memory", "overlap"), FORMS)


def simulated(planned: Plan, phase: str) -> Counter[tuple[int, int, float]]:
    """Return the messages of all ranks that the engine lets through: (src, dst, bytes), how often."""
    trace = engine.Trace()
    program = phase_program(planned, phase, BlockTime(1e-6, 1e-6), posting_s=lambda messages: 0.0, collective_s={})
    engine.seconds(Fabric(PRESETS["loopback"], planned.world_size, every_rank=True), program, trace=trace)
    return Counter((sent.src, sent.dst, sent.num_bytes) for sent in trace.sent)


def sends(events: list[Event], phase: str) -> Counter[tuple[int, int, float]]:
    return Counter(
        (event.src, event.dst, float(event.payload_bytes))
        for event in events
        if event.kind == "send" and event.phase == phase
    )


def step_in_a_rank(exchange: str, memory: str, overlap: bool) -> list[Event]:
    """Run one step in a rank of a real world and return what it posted."""
    rank, world_size = context().rank, context().world_size
    buffer = bytearray(log_bytes(64))
    image, text = (torch.randn(B, D, requires_grad=True) for _ in range(2))
    loss = SigLipLoss(rank=rank, world_size=world_size, dist_impl=exchange, memory=memory, overlap=overlap)
    with Recorder(buffer, poison=False) as recorder:
        with recorder.phase("forward"):
            value = loss(image, text, torch.tensor(1.0), torch.tensor(0.0))
        with recorder.phase("backward"):
            value.backward()
    dist.barrier()
    return read_log(buffer, rank)


WORLD_SIZES = [*range(1, 5), *(pytest.param(size, marks=pytest.mark.long) for size in range(5, 9))]
"""`make verify` compares the same at W = 1..8 in its report."""


@by_form
@pytest.mark.parametrize("world_size", WORLD_SIZES)
@pytest.mark.xdist_group("simulate")
def test_simulated_messages_and_bytes_are_those_recorded_on_real_ranks(
    worlds: Worlds, exchange: str, memory: str, overlap: bool, world_size: int
) -> None:
    events = [
        event for of_rank in worlds.run(world_size, step_in_a_rank, exchange, memory, overlap) for event in of_rank
    ]
    setup = Setup(cluster=PRESETS["loopback"], batch=B, dim=D, dtype="float32")
    simulation = simulate(setup, [world_size], (memory,), overlap=overlap)
    cost = simulation.cost(Form(exchange, memory, overlap), world_size)
    for rank in range(world_size):
        mine = [event for event in events if event.rank == rank and event.kind != "recv"]
        assert cost.sends == sum(event.kind == "send" for event in mine)
        assert cost.collectives == sum(event.kind != "send" for event in mine)
        assert cost.payload_bytes == sum(event.payload_bytes for event in mine)
    if exchange in ("bidir", "shift"):
        planned = plan(exchange, world_size, B, D, 4, memory=memory, overlap=overlap)
        for phase in PHASES:
            assert simulated(planned, phase) == sends(events, phase)


@by_form
@pytest.mark.parametrize(("rank", "world_size"), [(0, 64), (37, 64), pytest.param(511, 512, marks=pytest.mark.long)])
def test_one_rank_of_many_posts_what_is_planned_and_simulated(
    exchange: str, memory: str, overlap: bool, rank: int, world_size: int
) -> None:
    """Event for event: kind, peer, bytes and phase. Hops are not seen: nothing is ever waited for there.

    The fake backend is none of gloo, so gather's gradients come home by a reduce-scatter, as on nccl.
    """
    events = recorded(rank, world_size, B, D, torch.float32, dist_impl=exchange, memory=memory, overlap=overlap)
    planned = plan(
        exchange, world_size, B, D, 4, memory=memory, overlap=overlap, gather_backward="reduce_scatter"
    ).events(rank)
    posted, expected = (
        [(event.kind, event.src, event.dst, event.payload_bytes, event.phase) for event in each]
        for each in (events, planned)
    )
    assert posted == expected
    setup = Setup(cluster=PRESETS["h100-ib"], batch=B, dim=D, dtype="float32")
    simulation = simulate(setup, [world_size], (memory,), overlap=overlap)
    cost = simulation.cost(Form(exchange, memory, overlap), world_size)
    handed_over = [event for event in events if event.kind != "recv"]
    assert cost.payload_bytes == sum(event.payload_bytes for event in handed_over)
    assert cost.sends == sum(event.kind == "send" for event in handed_over)
    assert cost.collectives == sum(event.kind != "send" for event in handed_over)
