"""Benchmarks: what something costs, as a ratio of two things measured in turn in one run on one machine.

One module a benchmark; a new one is a function that yields `Comparison`s and a line in `BENCHES`. Every benchmark makes
sure that what it times gives the same result. A timing on loopback is never that of a cluster.

Nothing is imported here: ranks import single modules (`steps`, `memory`), and need no Hypothesis for that.
"""
