"""Benchmarks: what something costs, as a ratio of two things measured in turn in one run on one machine.

One module a benchmark; a new one is a function that yields `Comparison`s and a line in `BENCHES`. Every benchmark makes
sure that what it times gives the same result. A timing on loopback is never that of a cluster.
"""

from siglip_verify.bench.measure import (
    BenchReport,
    Comparison,
    Contestant,
    Ratio,
    Requirement,
    Setup,
    Traffic,
    compare,
    in_turn,
)
from siglip_verify.bench.published import published
from siglip_verify.bench.whole import BENCHES, Bench, named, run_benches

__all__ = [
    "BENCHES",
    "Bench",
    "BenchReport",
    "Comparison",
    "Contestant",
    "Ratio",
    "Requirement",
    "Setup",
    "Traffic",
    "compare",
    "in_turn",
    "named",
    "published",
    "run_benches",
]
