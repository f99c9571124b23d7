"""What is simulated, held against what the loss posts: on real ranks, and as one rank of many on torch's fake back end.

The fake back end sends nothing and its values are wrong, but it is handed every operation of the real loss. Nothing is
ever waited for there, so hops are not seen.

Here: running the loss and comparing counts, exactly. Not here: times (`calibration`).
"""

from __future__ import annotations

import typing
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import torch
import torch.distributed as dist

from siglip_verify.observe import Recorder, log_bytes, read_log
from siglip_verify.plan import PHASES, Memory, Phase, Plan
from siglip_verify.records import Event
from siglip_verify.run.timing import loss_of
from siglip_verify.simulate import PRESETS, Cost, Form, Setup, engine
from siglip_verify.simulate.calibration import Counted
from siglip_verify.simulate.compute import BlockTime
from siglip_verify.simulate.fabric import Fabric
from siglip_verify.simulate.predict import cost_of, forms_of, planned_step
from siglip_verify.simulate.program import phase_program
from siglip_verify.world import Worlds, context

FORMS = tuple(form for mode in typing.get_args(Memory) for form in forms_of(mode, overlap=True))
FAKE_WORLD_SIZES = (64, 512, 1024)
_BATCH, _DIM = 3, 5
_AT_ONCE = BlockTime(1e-6, 1e-6)


def counted_on_ranks(worlds: Worlds, world_sizes: Iterable[int]) -> Iterator[Counted]:
    """Run a step of every form at some W and hold what all ranks recorded against the simulation."""
    cluster = msgspec.structs.replace(PRESETS["loopback"], gather_backward=worlds.gather_backward)
    setup = Setup(cluster=cluster, batch=_BATCH, dim=_DIM, dtype="float32")
    for size in world_sizes:
        for form in FORMS:
            of_ranks = worlds.run(size, record_step, form)
            cost = cost_of(setup, form, planned_step(setup, form, size))
            equal = all(_handed_over(events) == _simulated(cost) for events in of_ranks)
            events = [event for of_rank in of_ranks for event in of_rank]
            if form.exchange in ("bidir", "shift"):
                equal = equal and _messages_are_equal(setup, form, size, events)
            yield _counted(form, size, events, ranks=size, is_equal=equal)


def counted_on_fake_ranks(world_size: int) -> Iterator[Counted]:
    """Run a step of every form as the last rank of many, and hold what it posts against plan and simulation.

    The fake back end is not gloo, so gather's gradients come home by a reduce-scatter, as on NCCL.
    """
    cluster = msgspec.structs.replace(PRESETS["h100-ib"], gather_backward="reduce_scatter")
    setup = Setup(cluster=cluster, batch=_BATCH, dim=_DIM, dtype="float32")
    for form in FORMS:
        rank = world_size - 1
        events = record_fake_step(form, rank, world_size)
        planned = planned_step(setup, form, world_size)
        cost = cost_of(setup, form, planned)
        equal = _posted(events) == _posted(planned.events(rank)) and _handed_over(events) == _simulated(cost)
        yield _counted(form, world_size, events, ranks=1, is_equal=equal)


# ------------------------------------------------------------------ running the loss
def record_step(form: Form) -> list[Event]:
    """Run one step in a rank of a real world and return what it posted."""
    rank, world_size = context().rank, context().world_size
    events = _recorded(form, rank, world_size, context().device)
    dist.barrier()
    return events


def record_fake_step(form: Form, rank: int, world_size: int) -> list[Event]:
    """Run one step as one rank of a group whose other ranks do not exist, and return what it posted."""
    from torch.testing._internal.distributed.fake_pg import FakeStore  # registers the back end "fake"

    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world_size)
    try:
        return _recorded(form, rank, world_size, "cpu")
    finally:
        dist.destroy_process_group()


def _recorded(form: Form, rank: int, world_size: int, device: str) -> list[Event]:
    buffer = bytearray(log_bytes(12 * world_size + 64))
    features = [torch.full((_BATCH, _DIM), 0.1, device=device, requires_grad=True) for _ in range(2)]
    scalars = [torch.tensor(value, device=device) for value in (1.0, 0.0)]
    loss = loss_of(form, rank, world_size)
    with Recorder(buffer, poison=False) as recorder:
        with recorder.phase("forward"):
            value: Any = loss(*features, *scalars)
        with recorder.phase("backward"):
            value.backward()
    return read_log(buffer, rank)


# ------------------------------------------------------------------ comparing
def _handed_over(events: Sequence[Event]) -> tuple[int, int, int]:
    """Total what one rank hands over: messages, collectives, bytes."""
    mine = [event for event in events if event.kind != "recv"]
    sends = sum(event.kind == "send" for event in mine)
    return sends, len(mine) - sends, sum(event.payload_bytes for event in mine)


def _simulated(cost: Cost) -> tuple[int, int, int]:
    return cost.sends, cost.collectives, cost.payload_bytes


def _posted(events: Iterable[Any]) -> list[tuple[Any, ...]]:
    return [(event.kind, event.src, event.dst, event.payload_bytes, event.phase) for event in events]


def _messages_are_equal(setup: Setup, form: Form, world_size: int, events: Sequence[Event]) -> bool:
    """Tell whether the engine lets through the very messages that were recorded: from whom, to whom, how large."""
    planned = planned_step(setup, form, world_size)
    return all(_let_through(setup, planned, phase) == _sent(events, phase) for phase in PHASES)


def _let_through(setup: Setup, planned: Plan, phase: Phase) -> Counter[tuple[int, int, float]]:
    trace = engine.Trace()
    program = phase_program(planned, phase, _AT_ONCE, posting_s=lambda messages: 0.0, collective_s={})
    engine.seconds(Fabric(setup.cluster, planned.world_size, every_rank=True), program, trace=trace)
    return Counter((sent.src, sent.dst, sent.num_bytes) for sent in trace.sent)


def _sent(events: Sequence[Event], phase: Phase) -> Counter[tuple[int, int, float]]:
    return Counter(
        (event.src or 0, event.dst or 0, float(event.payload_bytes))
        for event in events
        if event.kind == "send" and event.phase == phase
    )


def _counted(form: Form, world_size: int, events: Sequence[Event], *, ranks: int, is_equal: bool) -> Counted:
    return Counted(
        form=form,
        world_size=world_size,
        ranks=ranks,
        operations=len(events),
        payload_bytes=sum(event.payload_bytes for event in events if event.kind != "recv"),
        where="real ranks" if ranks == world_size else "fake back end",
        is_equal=is_equal,
    )
