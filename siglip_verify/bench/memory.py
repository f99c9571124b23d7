"""The peak memory of one step of each form: what the kernel says a fresh process held at most, beyond what it had.

Every value is from a world of its own. Its ranks make their features, run one tiny step to have libraries loaded and
connections open, note what they hold (the baseline), run one step, and read the high-water mark. A value is the most
over ranks. One step only: what a process freed it may keep, so that a second step would look smaller.

glibc is told to map every large block by itself (mallopt), for all contestants alike. Otherwise the mark also shows the
holes in its heap: with glibc 2.36, where a hole cannot take an aligned block of its own size, 2 to 14 MiB more.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch.distributed as dist

from siglip_verify.bench.forms import Form, Step, open_clip_forms, our_forms
from siglip_verify.bench.measure import Comparison, Pair, Requirement, Setup, compare, in_turn
from siglip_verify.errors import UsageError
from siglip_verify.world import Worlds

REFERENCE = "open_clip bidir"
LARGE = (1024, 512)  # b and d at which something is required
TINY_BATCH, TINY_DIM = 2, 8
_MIB = 1 << 20
_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES = -3, 1 << 17  # malloc.h, and its own first choice
_LIMITS: dict[str, float] = {"ours bidir, constant": 40 * _MIB, "ours shift, constant": 30 * _MIB}
_SHARE_AT, _FLAT_FROM = 8, 4  # the W at which open_clip is five times as large, and from which on memory is flat
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_TIMEOUT_S = 600.0


def memory(
    batch: int, dim: int, world_sizes: Sequence[int], turns: int, chosen: Callable[[Form], bool] = lambda _: True
) -> Iterator[Comparison]:
    """Measure every form at one size, W by W, and then hold the largest W against the smallest from 4 on.

    Args:
        batch: Rows on each rank, b.
        dim: Feature dimension, d.
        world_sizes: W, ascending.
        turns: Fresh worlds for each form.
        chosen: Which forms, if not all; open_clip's bidir and the constant ones without overlap at least.

    Raises:
        UsageError: The system keeps no high-water mark that can be set back.
    """
    if not _RESET.exists():
        raise UsageError(f"peak memory is measured with Linux's {_RESET}, which is not there: run it on Linux")
    forms = [form for form in (*open_clip_forms(), *our_forms()) if chosen(form)]
    peaks: dict[int, dict[str, list[float]]] = {}
    with Worlds(timeout_s=_TIMEOUT_S) as worlds:
        for world_size in world_sizes:
            setup = Setup(world_size=world_size, batch=batch, dim=dim)
            peaks[world_size] = _peaks(worlds, forms, setup, turns)
            yield compare(
                f"memory/{batch}x{dim}/W{world_size}",
                f"peak memory of one step in a fresh world, W = {world_size}, b = {batch}, d = {dim}, float32",
                peaks[world_size],
                each="step",
                unit="B",
                ratios=_ratios(forms, setup),
                limits=_LIMITS if (batch, dim) == LARGE else None,
                setup=setup,
            )
    if len(grown := [size for size in world_sizes if size >= _FLAT_FROM]) > 1:
        yield flatness(batch, dim, peaks, grown)


def _peaks(worlds: Worlds, forms: Sequence[Form], setup: Setup, turns: int) -> dict[str, list[float]]:
    """Measure each form in fresh worlds, in turn."""

    def fresh(form: Form) -> Callable[[], float]:
        def once() -> float:
            worlds.discard(setup.world_size)
            return max(worlds.run(setup.world_size, peak_of_one_step, form, setup))

        return once

    return in_turn({form.name: fresh(form) for form in forms}, turns)


def _ratios(forms: Sequence[Form], setup: Setup) -> dict[Pair, Requirement | None]:
    """Hold every form of ours against open_clip's bidir."""
    is_judged = (setup.batch, setup.dim) == LARGE and setup.world_size == _SHARE_AT
    return {
        (form.name, REFERENCE): Requirement(bound="at most", ratio=0.2) if is_judged and form.name in _LIMITS else None
        for form in forms
        if not form.target
    }


def flatness(batch: int, dim: int, peaks: dict[int, dict[str, list[float]]], sizes: Sequence[int]) -> Comparison:
    """Hold what the constant forms need at the largest W against what they need at the smallest."""
    requirement = Requirement(bound="at most", ratio=1.2) if (batch, dim) == LARGE else None
    measured = {f"{name}, W = {size}": peaks[size][name] for name in _LIMITS for size in (sizes[0], sizes[-1])}
    return compare(
        f"memory/{batch}x{dim}/flat",
        f"the same at W = {sizes[-1]} and at W = {sizes[0]}",
        measured,
        each="step",
        unit="B",
        ratios={(f"{name}, W = {sizes[-1]}", f"{name}, W = {sizes[0]}"): requirement for name in _LIMITS},
    )


# ------------------------------------------------------------------ in the ranks
def peak_of_one_step(form: Form, setup: Setup) -> int:
    """Return how many bytes this rank held in one step, at most, beyond what it had before."""
    _map_large_blocks()
    step = Step(form, setup)
    Step(form, Setup(world_size=setup.world_size, batch=TINY_BATCH, dim=TINY_DIM))()
    dist.barrier()
    _RESET.write_text("5")  # the mark falls to what is held now
    baseline = high_water_bytes()
    step()
    return high_water_bytes() - baseline


def _map_large_blocks() -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have no such thing
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)


def high_water_bytes() -> int:
    """Return the most that this process has held resident since the mark was set back."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
