"""The whole benchmark: which there are, and one finished result of those asked for."""

from __future__ import annotations

import datetime
import functools
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from siglip_verify.bench.local_block import local_block
from siglip_verify.bench.measure import BenchReport, Comparison, Setup
from siglip_verify.bench.memory import memory
from siglip_verify.bench.recording import recording
from siglip_verify.bench.steps import steps
from siglip_verify.bench.warm_worlds import warm_worlds
from siglip_verify.errors import UsageError
from siglip_verify.run.environment import environment

WORLD_SIZES = (2, 4, 8, 16)
SMALL, LARGE = (8, 64), (1024, 512)
SIZES = (SMALL, (256, 256), LARGE)


class Bench(NamedTuple):
    """One benchmark.

    Attributes:
        run: Takes the number of turns.
        turns: How often each contestant is measured if nobody says.
        is_short: Whether it is run if nobody says which.
    """

    run: Callable[[int], Iterator[Comparison]]
    turns: int
    is_short: bool


def _steps() -> Iterator[tuple[str, Bench]]:
    for (batch, dim), world_size in itertools.product(SIZES, WORLD_SIZES):
        setup = Setup(world_size=world_size, batch=batch, dim=dim)
        turns = 15 if (batch, dim) == LARGE else 25
        yield f"steps/{batch}x{dim}/W{world_size}", Bench(functools.partial(steps, setup), turns, (batch, dim) == SMALL)


def _memory() -> Iterator[tuple[str, Bench]]:
    for batch, dim in SIZES:
        yield f"memory/{batch}x{dim}", Bench(functools.partial(memory, batch, dim, WORLD_SIZES), 3, False)


BENCHES: dict[str, Bench] = {
    "recording": Bench(recording, 100, True),
    "warm-worlds": Bench(warm_worlds, 4, True),
    "local-block": Bench(local_block, 15, True),
    **dict(_steps()),
    **dict(_memory()),
}
"""By name. What stands before a slash of a name means all that begin so: `steps`, `steps/8x64`, `steps/8x64/W4`."""


def named(words: Sequence[str]) -> dict[str, Bench]:
    """Return the benchmarks that these words mean.

    Raises:
        UsageError: A word means none.
    """
    for word in words:
        if not any(_means(word, name) for name in BENCHES):
            families = dict.fromkeys(name.split("/")[0] for name in BENCHES)
            raise UsageError(
                f"a benchmark is one of {', '.join(families)}, or a part such as steps/8x64/W4; got {word!r}"
            )
    return {name: bench for name, bench in BENCHES.items() if any(_means(word, name) for word in words)}


def _means(word: str, name: str) -> bool:
    return f"{name}/".startswith(f"{word}/")


def run_benches(
    benches: Mapping[str, Bench],
    *,
    turns: int | None = None,
    progress: Callable[[str | Comparison], object] = lambda _: None,
) -> BenchReport:
    """Run benchmarks one after the other.

    Args:
        benches: By name.
        turns: How often each contestant is measured; None leaves it to each benchmark.
        progress: Called with each name before it is run, and with each comparison when it is made.

    Raises:
        UsageError: Less than two turns.
    """
    least = min((bench.turns for bench in benches.values()), default=2) if turns is None else turns
    if least < 2:
        raise UsageError(f"things are measured in turn at least twice each; got turns={least}")
    started, started_at, load = time.perf_counter(), datetime.datetime.now(datetime.UTC), _load()
    comparisons: list[Comparison] = []
    for name, bench in benches.items():
        progress(name)
        for comparison in bench.run(turns or bench.turns):
            comparisons.append(comparison)
            progress(comparison)
    load_after = _load()
    return BenchReport(
        started_at=started_at.isoformat(timespec="seconds"),
        elapsed_s=time.perf_counter() - started,
        load=None if load is None or load_after is None else (load, load_after),
        environment=environment(),
        comparisons=tuple(comparisons),
    )


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
