"""Simulate: every form of every exchange at some world sizes on a cluster, as one result."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from siglip_verify.case import EXCHANGES, itemsize
from siglip_verify.errors import UsageError
from siglip_verify.plan import PHASES, Collective, Phase, Plan, closed_form, has_form, plan
from siglip_verify.simulate import engine, lockstep
from siglip_verify.simulate.collectives import CollectiveCost, collective_cost
from siglip_verify.simulate.compute import BlockTime, MemoryMode, block_time, rows_at_once
from siglip_verify.simulate.fabric import Fabric
from siglip_verify.simulate.memory import memory_cost
from siglip_verify.simulate.program import phase_program, transfers_of
from siglip_verify.simulate.proof import prove
from siglip_verify.simulate.result import Cost, Form, PhaseCost, Setup, Simulation
from siglip_verify.simulate.rounds import Program, computing_s

MAX_WORLD_SIZE = 1 << 16
_NOTABLE = 1.1

Calls = dict[Collective, CollectiveCost]
"""What each collective of a plan costs a call."""


def simulate(
    setup: Setup,
    world_sizes: Iterable[int],
    memory: Sequence[MemoryMode] = ("autograd", "constant"),
    *,
    overlap: bool = False,
) -> Simulation:
    """Model one step of every exchange at some world sizes.

    Args:
        setup: What is simulated.
        world_sizes: Which W.
        memory: What is kept until backward: a form of each exchange for each of these, where there is one.
        overlap: Also simulate each form with overlap, where there is one.

    Raises:
        UsageError: A world size is not possible, or the cluster says nothing of the dtype.
    """
    sizes = sorted(set(world_sizes))
    if not sizes or not 1 <= sizes[0] <= sizes[-1] <= MAX_WORLD_SIZE:
        raise UsageError(f"world sizes are numbers in 1..{MAX_WORLD_SIZE}; got {', '.join(map(str, sizes)) or 'none'}")
    forms = [form for mode in dict.fromkeys(memory) for form in forms_of(mode, overlap=overlap)]
    costs: list[Cost] = []
    took_s: dict[int, float] = {}
    proved = True
    for world_size in sizes:
        begun = time.perf_counter()
        for form in forms:
            planned = planned_step(setup, form, world_size)
            proved &= prove(planned).holds
            costs.append(cost_of(setup, form, planned))
        took_s[world_size] = time.perf_counter() - begun
    return Simulation(
        setup=setup,
        world_sizes=tuple(sizes),
        proved=proved,
        costs=tuple(costs),
        took_s=took_s,
        notes=tuple(_notes(setup)) if "constant" in memory else (),
    )


def forms_of(mode: MemoryMode, *, overlap: bool = False) -> list[Form]:
    """List the forms of all exchanges with one memory, without overlap and, if asked for, with."""
    forms = [Form(exchange, mode, lag) for lag in (False, True)[: 1 + overlap] for exchange in EXCHANGES]
    return [form for form in forms if has_form(form.exchange, memory=form.kept, overlap=form.overlap)]


def planned_step(setup: Setup, form: Form, world_size: int) -> Plan:
    """Return the plan of a form on a cluster."""
    return plan(
        form.exchange,
        world_size,
        setup.batch,
        setup.dim,
        itemsize(setup.dtype),
        memory=form.kept,
        gather_backward=setup.cluster.gather_backward,
        overlap=form.overlap,
    )


def program_of(
    setup: Setup, form: Form, planned: Plan, phase: Phase, calls: Calls, *, computing: bool = True
) -> Program:
    """Return the rounds of one phase of a form; without computing, those of its communication alone."""
    block = block_time(
        setup.cluster, form.memory, setup.batch, setup.dim, setup.dtype, setup.chunk_size, overlap=form.overlap
    )
    return phase_program(
        planned,
        phase,
        block if computing else BlockTime(0.0, 0.0),
        posting_s=setup.cluster.posting_s,
        collective_s={hop: call.seconds for hop, call in calls.items()},
    )


def calls_of(setup: Setup, planned: Plan) -> Calls:
    """Return what each collective of a plan costs."""
    fabric = Fabric(setup.cluster, planned.world_size)
    hops = dict.fromkeys(run.hop for phase in PHASES for run in planned.runs(phase) if isinstance(run.hop, Collective))
    return {hop: collective_cost(fabric, hop.kind, hop.blocks * planned.block_bytes, setup.collective) for hop in hops}


def cost_of(setup: Setup, form: Form, planned: Plan) -> Cost:
    """Return what one step of a form costs.

    Raises:
        UsageError: The cluster has no such world, or the collective's algorithm none of that size.
    """
    fabric = Fabric(setup.cluster, planned.world_size)
    calls = calls_of(setup, planned)
    forward, backward = (_phase(fabric, setup, form, planned, phase, calls) for phase in PHASES)
    counts = [closed_form(planned, phase) for phase in PHASES]
    memory = memory_cost(planned, form.memory, setup.dtype, setup.chunk_size)
    sent = list(_sent(fabric, planned, calls))
    return Cost(
        form=form,
        world_size=planned.world_size,
        forward=forward,
        backward=backward,
        sends=sum(count.sends for count in counts),
        collectives=sum(count.collectives for count in counts),
        payload_bytes=sum(count.payload_bytes for count in counts),
        sent_bytes=sum(sent_bytes for sent_bytes, _ in sent),
        host_bytes=sum(host_bytes for _, host_bytes in sent),
        algorithms={hop.kind: call.algorithm for hop, call in calls.items()},
        memory=memory,
        fits=memory.peak_bytes <= setup.cluster.memory_gbytes * 1e9,
    )


def _notes(setup: Setup) -> Iterator[str]:
    """Say where small chunks cost more than they need to."""
    now, whole = (
        sum(block_time(setup.cluster, "constant", setup.batch, setup.dim, setup.dtype, rows))
        for rows in (setup.chunk_size, setup.batch)
    )
    if now > _NOTABLE * whole:
        rows = rows_at_once("constant", setup.batch, setup.chunk_size)
        yield (
            f"constant: with {rows} rows of logits at once a block takes {now * 1e3:.3g} ms, as its operations are too "
            f"short to keep the device busy; with --chunk-size {setup.batch} it takes {whole * 1e3:.3g} ms"
        )


def _phase(fabric: Fabric, setup: Setup, form: Form, planned: Plan, phase: Phase, calls: Calls) -> PhaseCost:
    whole = program_of(setup, form, planned, phase, calls)
    bare = program_of(setup, form, planned, phase, calls, computing=False)
    how = lockstep if calls or lockstep.is_exact(fabric, whole) else engine
    return PhaseCost(
        seconds=how.seconds(fabric, whole),
        compute_s=computing_s(whole),
        communication_s=how.seconds(fabric, bare),
        how="closed form" if how is lockstep else "events",
    )


def _sent(fabric: Fabric, planned: Plan, calls: Calls) -> Iterator[tuple[float, float]]:
    """Give what a rank sends, and what a host sends to others, for each run of hops in a step."""
    for run in (run for phase in PHASES for run in planned.runs(phase)):
        if isinstance(run.hop, Collective):
            call = calls[run.hop]
            yield run.times * call.sent_bytes, run.times * call.host_bytes
        else:
            sent_bytes, host_bytes = fabric.sent_bytes(transfers_of(run.hop, planned))
            yield run.times * sent_bytes, run.times * host_bytes
