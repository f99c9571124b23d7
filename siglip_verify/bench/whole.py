"""The whole benchmark: which comparisons there are, and one finished result of those asked for."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Iterator, Sequence

from siglip_verify.bench.measure import BenchReport, Comparison
from siglip_verify.bench.recording import recording
from siglip_verify.bench.warm_worlds import warm_worlds
from siglip_verify.errors import UsageError
from siglip_verify.run.whole import environment

BENCHES: dict[str, Callable[[int], Iterator[Comparison]]] = {
    "recording": recording,
    "warm-worlds": warm_worlds,
}
"""By name: a function that takes the number of turns."""


def run_benches(
    names: Sequence[str] = (), *, turns: int = 100, progress: Callable[[Comparison], object] | None = None
) -> BenchReport:
    """Run benchmarks one after the other.

    Args:
        names: Of `BENCHES`; none means all.
        turns: How often each contestant is measured.
        progress: Called with each comparison when it is made.

    Raises:
        UsageError: There is no such benchmark, or less than two turns.
    """
    for name in names:
        if name not in BENCHES:
            raise UsageError(f"a benchmark is one of {', '.join(BENCHES)}; got {name!r}")
    if turns < 2:
        raise UsageError(f"things are measured in turn at least twice each; got turns={turns}")
    started, started_at, load = time.perf_counter(), datetime.datetime.now(datetime.UTC), _load()
    comparisons: list[Comparison] = []
    for name in names or BENCHES:
        for comparison in BENCHES[name](turns):
            comparisons.append(comparison)
            if progress is not None:
                progress(comparison)
    load_after = _load()
    return BenchReport(
        started_at=started_at.isoformat(timespec="seconds"),
        elapsed_s=time.perf_counter() - started,
        turns=turns,
        load=None if load is None or load_after is None else (load, load_after),
        environment=environment(),
        comparisons=tuple(comparisons),
    )


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
