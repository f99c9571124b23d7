"""What a step of each exchange takes and keeps: timed on the warm ranks, counted tensor by tensor.

Times are those of gloo on loopback, for one exchange beside another on one machine, and never a cluster's. `bench` has
the careful timings. Here too: the same for a cluster, as `simulate` models it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch.distributed as dist

from siglip_verify.adapt import LossSpec, Traits
from siglip_verify.case import Case
from siglip_verify.result import Modelled, ModelledStep, StepCost
from siglip_verify.run.step import Prepared, prepare
from siglip_verify.simulate import PRESETS, Choice, Setup, Simulation, simulate
from siglip_verify.world import Worlds

TURNS = 3
LARGEST_WORLD_SIZE = 8  # beyond, so few processors are left to a rank that a time says nothing


class _RankCost(NamedTuple):
    """What one rank took and kept."""

    seconds: float
    kept_bytes: int


def timed_world_sizes(world_sizes: Sequence[int]) -> list[int]:
    """Choose where steps are timed: the powers of two, and the largest."""
    possible = [size for size in world_sizes if 2 <= size <= LARGEST_WORLD_SIZE]
    return [size for size in possible if size.bit_count() == 1 or size == possible[-1]]


def step_costs(worlds: Worlds, spec: LossSpec, traits: Traits, cases: Sequence[Case]) -> list[StepCost]:
    """Time a step of each case and count what it keeps, in turn, so that all see the same moods of the machine.

    Raises:
        WorldError: A rank failed.
    """
    turns = [[worlds.run(case.world_size, _costs, spec, traits, case) for case in cases] for _ in range(TURNS)]
    return [_joined(case, ranks) for case, ranks in zip(cases, zip(*turns, strict=True), strict=True)]


def _joined(case: Case, turns: Sequence[list[_RankCost]]) -> StepCost:
    return StepCost(
        exchange=case.exchange,
        world_size=case.world_size,
        batch=case.batch,
        dim=case.dim,
        dtype=case.dtype,
        seconds=tuple(max(rank.seconds for rank in ranks) for ranks in turns),
        kept_bytes=max(rank.kept_bytes for rank in turns[0]),
    )


# ------------------------------------------------------------------ in a rank
def _costs(spec: LossSpec, traits: Traits, case: Case) -> _RankCost:
    """Run a step to count what it keeps, and the same step again to time it, from one moment on all ranks."""
    kept_bytes = _kept(prepare(spec, traits, case))
    prepared = prepare(spec, traits, case)
    if case.world_size > 1:
        dist.barrier()
    started = time.perf_counter()
    prepared.forward().backward()  # type: ignore[no-untyped-call]
    return _RankCost(time.perf_counter() - started, kept_bytes)


def _kept(prepared: Prepared) -> int:
    """Count the bytes of tensors that are kept between forward and backward, wherever; inputs and loss are left out."""
    from siglip_verify.observe.held import Held  # a rank that measures nothing has no need of it

    held = Held(prepared.leaves)
    with held:
        value = prepared.forward()
    if dist.get_world_size() > 1:
        dist.barrier()  # the back end lets go of what it has sent
    kept_bytes = held.now() - value.untyped_storage().nbytes()
    value.backward()  # type: ignore[no-untyped-call]
    return kept_bytes


# ------------------------------------------------------------------ on a cluster
MODELLED_ON = "h100-ib"
MODELLED_SIZES = tuple(1 << power for power in range(3, 13))


@cache
def modelled() -> Modelled:
    """Model the exchanges on a cluster at the size of a large SigLIP training run."""
    setup = Setup(cluster=PRESETS[MODELLED_ON], batch=2048, dim=1152, dtype="bfloat16")
    simulation = simulate(setup, MODELLED_SIZES)
    return Modelled(
        cluster=f"{setup.cluster.name}: {setup.cluster.about}",
        batch=setup.batch,
        dim=setup.dim,
        dtype=setup.dtype,
        steps=tuple(_modelled_steps(simulation)),
        fastest="; ".join(map(_chosen, simulation.choices)),
    )


def _modelled_steps(simulation: Simulation) -> list[ModelledStep]:
    return [
        ModelledStep(
            form=str(cost.form),
            world_size=cost.world_size,
            calls=cost.sends + cost.collectives,
            sent_bytes=cost.sent_bytes,
            held_bytes=cost.memory.peak_bytes,
            step_s=cost.step_s,
            fits=cost.fits,
        )
        for cost in simulation.costs
    ]


def _chosen(choice: Choice) -> str:
    first, last = choice.world_sizes[0], choice.world_sizes[-1]
    at = f"{first:,}" if first == last else f"{first:,} to {last:,}"
    return f"{choice.form or 'none fits'} at W = {at}"
