"""How ranks, blocks and numbers are named in a sentence.

Here: text. Not here: what is said.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from siglip_verify.checks.diagnosis.model import Array
from siglip_verify.checks.failures import listed, named

ROUND = ", and so on around the ring"
_CLAUSES = 2
_TIMES = {1.0: "once", 2.0: "twice", 3.0: "three times", 4.0: "four times", 5.0: "five times"}  # not: rank 3 3 times

__all__ = ["ROUND", "each_rank", "factor", "is_around_the_ring", "listed", "ranks", "row_weights", "times"]


def ranks(numbers: Iterable[int], world_size: int | None = None) -> str:
    """Write `rank 1`, `ranks 0, 2 and 3`, or `every rank` where all of a world size are meant."""
    return named(list(numbers), world_size)


def times(number: float) -> str:
    """Write `twice`, `three times` or `0.5 times`."""
    return _TIMES.get(number, f"{number:g} times")


def row_weights(weights: Iterable[float]) -> str:
    """Write what rows weigh, one after the other and those alike together: `row 0: 2, rows 1-31: 1`."""
    said: list[str] = []
    first = 0
    for weight, alike in itertools.groupby(weights):
        last = first + len(list(alike)) - 1
        said.append(f"{f'row {first}' if first == last else f'rows {first}-{last}'}: {weight:.4g}")
        first = last + 1
    return ", ".join(said)


def factor(value: float, world_size: int, batch: int, tolerance: float) -> str:
    """Name a factor by what it is made of, with its number: `1/W (0.25)`, `b (3)`, `1/2`, `-1`."""
    total = world_size * batch
    sizes = {"W": world_size, "b": batch, "N": total, "b*b": batch * batch}
    named = sizes | {f"1/{name if name != 'b*b' else '(b*b)'}": 1 / size for name, size in sizes.items()}
    for name, size in named.items():
        if size != 1 and abs(value - size) <= tolerance * size:
            return f"{name} ({size:.3g})"
    return f"1/{1 / value:g}" if 0 < value < 1 and (1 / value).is_integer() else f"{value:.6g}"


def is_around_the_ring(values: Array) -> bool:
    """Tell whether [W, W] numbers are alike for all ranks, each as seen from its own place in the ring."""
    from_own_place = np.stack([np.roll(row, -rank) for rank, row in enumerate(values)])
    return bool((from_own_place == from_own_place[0]).all())


def each_rank(clauses: Sequence[str], values: Array) -> str:
    """Say a clause of each rank; of the first alone where all are alike, and no more than a few."""
    said = [clause for clause in clauses if clause]
    if is_around_the_ring(values) and len(said) > 1:
        return said[0] + ROUND
    more = len(said) - _CLAUSES
    return "; ".join(said[:_CLAUSES]) + (f"; {more} more rank{'s' * (more > 1)} alike" if more > 0 else "")
