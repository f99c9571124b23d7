"""Calibrating the simulator: measure on the ranks that are there, fit a cluster, simulate what was measured.

Here: what is measured, and in which order. Not here: timings in a rank (`timing`), the fit (`simulate.fit`), counts
(`validation`).
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from siglip_verify.case import DType, itemsize
from siglip_verify.errors import UsageError
from siglip_verify.run import timing
from siglip_verify.run.environment import environment
from siglip_verify.run.validation import FAKE_WORLD_SIZES, counted_on_fake_ranks, counted_on_ranks
from siglip_verify.simulate import Cluster, Setup, Uplinks, simulate
from siglip_verify.simulate.calibration import Calibration, Counted, Fit, StepTime
from siglip_verify.simulate.fit import BlockSample, LinkSample, Pattern, fit_compute, fit_link, fit_uplink
from siglip_verify.simulate.predict import forms_of
from siglip_verify.world import Worlds, context

LINK_BYTES = (1 << 10, 1 << 14, 1 << 17, 1 << 20)
BLOCKS = ((1, 1), (64, 64), (256, 64), (256, 512), (512, 128))
TIMEOUT_S = 900.0
VALIDATED_WORLD_SIZES = range(1, 9)
TIMED_FORMS = tuple(form for mode in ("autograd", "constant") for form in forms_of(mode))
"""With overlap a rank would compute and a back end's thread send at the same time, on processors that ranks share."""

_PATTERNS: tuple[tuple[Pattern, int], ...] = (
    ("hop", 1),
    ("double hop", 1),
    ("all_gather", 1),
    ("all_reduce", 1),
)

Tell = Callable[[str], None]


def calibrate(
    worlds: Worlds,
    world_sizes: Sequence[int],
    *,
    batch: int,
    dim: int,
    dtype: DType,
    turns: int,
    validate: bool,
    tell: Tell = lambda line: None,
) -> Calibration:
    """Fit a cluster at each of some world sizes, and hold the model against steps that are measured there.

    Args:
        worlds: Where the ranks are.
        world_sizes: Where to measure, W >= 2; on one host ranks share processors, so that costs depend on W.
        batch: Rows a rank of the steps that are measured and simulated.
        dim: Numbers in a row.
        dtype: Of the features.
        turns: How often everything is measured.
        validate: Whether to count, too, what is sent, at W = 1 .. 8 and as one rank of up to 1,024.
        tell: Called with a line before each piece of work.

    Raises:
        UsageError: There is no such world here, or less than two ranks or four turns.
        WorldError: A rank failed.
    """
    sizes = sorted(set(world_sizes))
    if not sizes or not 2 <= sizes[0] <= sizes[-1] <= worlds.most_ranks:
        raise UsageError(f"messages are measured at world sizes in 2..{worlds.most_ranks}; got {sizes}")
    if min(batch, dim) < 1:
        raise UsageError(f"steps are measured with at least one row and one column; got batch={batch}, dim={dim}")
    if turns < 4:
        raise UsageError(f"a median and its noise need 4 turns or more; got turns={turns}")
    started_s = time.perf_counter()
    fits, steps = list[Fit](), list[StepTime]()
    for size in sizes:
        tell(f"W = {size}: communication, blocks and whole steps, {turns} turns each")
        fits.append(_fit(worlds, size, dtype, turns))
        steps += _steps(worlds, fits[-1], batch, dim, dtype, turns)
    counted, notes = list[Counted](), list[str]()
    if validate:
        counted += _counted(worlds, tell, notes)
    return Calibration(
        batch=batch,
        dim=dim,
        dtype=dtype,
        turns=turns,
        fits=tuple(fits),
        steps=tuple(steps),
        counted=tuple(counted),
        notes=tuple(notes),
        environment=environment() | {"back end": worlds.back_end},
        elapsed_s=time.perf_counter() - started_s,
    )


# ------------------------------------------------------------------ the fit
def _fit(worlds: Worlds, world_size: int, dtype: DType, turns: int) -> Fit:
    """Measure and fit at one W: within a host on the ranks of one, between hosts on all."""
    ranks_per_host = min(world_size, worlds.ranks_per_host)
    inside = _links(worlds, max(2, ranks_per_host), dtype, turns, _PATTERNS)
    within = fit_link(inside)
    between, uplink_error, across = None, None, list[LinkSample]()
    if world_size > ranks_per_host:
        hops: list[tuple[Pattern, int]] = [("hop", offset) for offset in sorted({1, ranks_per_host})]
        across = _links(worlds, world_size, dtype, turns, hops)
        link, per_host, uplink_error = fit_uplink(across, within.call_us, ranks_per_host)
        between = Uplinks(latency_us=link.latency_us, gbytes_per_s=link.gbytes_per_s, per_host=per_host)
    blocks = _blocks(worlds, world_size, dtype, turns)
    compute, block_error = fit_compute(blocks, dtype)
    cluster = Cluster(
        name=f"{platform.node() or 'cluster'}-{world_size}",
        about=f"fitted at W = {world_size} by siglip-verify calibrate: {worlds.back_end}, torch {torch.__version__}",
        ranks_per_host=worlds.ranks_per_host,
        memory_gbytes=max(worlds.run(world_size, memory_of_rank)) / 1e9,
        call_us=within.call_us,
        message_us=within.message_us,
        collective_call_us=within.collective_call_us,
        gather_backward=worlds.gather_backward,
        within_host=within.link if ranks_per_host > 1 else between or within.link,
        between_hosts=between,
        compute=compute,
    )
    return Fit(
        world_size=world_size,
        cluster=cluster,
        links=(*inside, *across),
        blocks=tuple(blocks),
        link_error=within.error,
        uplink_error=uplink_error,
        block_error=block_error,
    )


def _links(
    worlds: Worlds, world_size: int, dtype: DType, turns: int, patterns: Sequence[tuple[Pattern, int]]
) -> list[LinkSample]:
    wanted: list[tuple[Pattern, int, int]] = [
        (pattern, num_bytes, offset) for num_bytes in LINK_BYTES for pattern, offset in patterns
    ]
    seconds = _slowest(worlds.run(world_size, timing.time_links, wanted, dtype, turns, timeout_s=TIMEOUT_S))
    rounded = itemsize(dtype) * world_size  # collectives cut what is handed over in W equal parts
    return [
        LinkSample(
            pattern=pattern,
            world_size=world_size,
            num_bytes=-(-num_bytes // rounded) * rounded,
            offset=offset,
            seconds=statistics.median(of_turns),
        )
        for (pattern, num_bytes, offset), of_turns in zip(wanted, seconds, strict=True)
    ]


def _blocks(worlds: Worlds, world_size: int, dtype: DType, turns: int) -> list[BlockSample]:
    seconds = _slowest(worlds.run(world_size, timing.time_blocks, BLOCKS, dtype, turns, timeout_s=TIMEOUT_S))
    medians = [statistics.median(of_turns) for of_turns in seconds]
    return [
        BlockSample(batch=batch, dim=dim, forward_s=forward_s, backward_s=backward_s)
        for (batch, dim), forward_s, backward_s in zip(BLOCKS, medians[::2], medians[1::2], strict=True)
    ]


def _steps(worlds: Worlds, fit: Fit, batch: int, dim: int, dtype: DType, turns: int) -> Iterator[StepTime]:
    """Measure whole steps, which nothing was fitted to, and simulate them; gloo's collectives go around rings."""
    size = fit.world_size
    measured = _slowest(worlds.run(size, timing.time_steps, TIMED_FORMS, batch, dim, dtype, turns, timeout_s=TIMEOUT_S))
    setup = Setup(cluster=fit.cluster, batch=batch, dim=dim, dtype=dtype, collective="ring")
    simulated = simulate(setup, [size])
    for form, seconds in zip(TIMED_FORMS, measured, strict=True):
        cost = simulated.cost(form, size)
        yield StepTime(form=form, world_size=size, seconds=tuple(seconds), simulated_s=cost.step_s)


def _slowest(of_ranks: Sequence[Sequence[Sequence[float]]]) -> list[list[float]]:
    """Return for each thing timed and each turn the slowest rank's seconds."""
    return [[max(turn) for turn in zip(*of_thing, strict=True)] for of_thing in zip(*of_ranks, strict=True)]


def memory_of_rank() -> float:
    """Return, in a rank, the bytes of its device, or its share of its host's memory."""
    if context().device.startswith("cuda"):
        return float(torch.cuda.get_device_properties(context().device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / context().world_size


# ------------------------------------------------------------------ the counts
def _counted(worlds: Worlds, tell: Tell, notes: list[str]) -> Iterator[Counted]:
    sizes = [size for size in VALIDATED_WORLD_SIZES if size <= worlds.most_ranks]
    if missing := [size for size in VALIDATED_WORLD_SIZES if size > worlds.most_ranks]:
        notes.append(
            f"what is sent at W = {', '.join(map(str, missing))} was left out: the launcher started "
            f"{worlds.most_ranks} ranks; start {missing[-1]} to count there too"
        )
    tell(f"what is sent at W = {sizes[0]} to {sizes[-1]}, recorded on real ranks")
    yield from counted_on_ranks(worlds, sizes)
    if torch.distributed.is_initialized():
        notes.append(
            "one rank of many was left out: this process is in a group, and the fake back end needs one without"
        )
        return
    for size in FAKE_WORLD_SIZES:
        tell(f"what one rank of {size:,} posts, on torch's fake back end")
        yield from counted_on_fake_ranks(size)
