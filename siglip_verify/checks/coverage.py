"""The coverage probe: which rank counts, hears and labels whose texts, read off two runs of a loss.

All image rows of rank i are the unit vector e_i, all text rows of rank j are e_j, and t = 1. Then only rank j's texts
can put anything into component j of an image gradient, and only rank i's images into component i of a text gradient:

    rank i's image gradient at j  =  (n sigmoid(z) - p / b) b / normalizer         z = c, or 1 + c where i = j
    rank j's text gradient at i   =  the same, as rank j hears of it

where n is how often rank i counts rank j's texts, and p how many of those a row holds to be its match. A run with
c = 0 and one with c = 1 are two equations for the two. With one of them, and b = 2, a remote block whose diagonal is
labelled positive would read 0, as if it were lost; hence two runs, and b >= 3.

What both gradients contain is the sum over all ranks' losses, so a loss that averages both directions, which counts
every block half from either side, reads as whole. What cannot be seen: to which of rank i's remote blocks a text
gradient belongs, for here all of them look alike (`diagnosis.home` tells them apart).

Here: the two cases and the solution, pure functions. Not here: what it means for the loss (`diagnosis`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from siglip_verify.case import Case
from siglip_verify.records import Matrix, RankRecord

_Array = NDArray[np.float64]
_BIASES = (0.0, 1.0)
_LEAST_BATCH = 3


class Coverage(NamedTuple):
    """Four [W, W] arrays; row i is the rank whose images they are, column j the rank whose texts.

    A number is whole where it lies within the dtype's rounding of a whole one, and is kept as it is elsewhere.
    A missing gradient hears nothing: 0. One that is not finite tells nothing: nan.

    Attributes:
        counted: How often rank i's loss counts rank j's texts, as its image gradient tells; a right loss has ones.
        heard: How often rank j's text gradient hears of that; ones.
        positives_forward: How many of rank j's texts each image of rank i takes for its match; the identity.
        positives_backward: The same, as rank j's text gradient tells; the identity.
    """

    counted: _Array
    heard: _Array
    positives_forward: _Array
    positives_backward: _Array

    @property
    def is_right(self) -> bool:
        """Whether every block is counted and heard of once, and labelled as it should be."""
        return all(np.array_equal(matrix.values, matrix.expected) for matrix in self.matrices())

    def matrices(self) -> tuple[Matrix, ...]:
        """Return the four as pictures, with what a right loss has."""
        num_ranks = len(self.counted)
        ones, identity = np.ones((num_ranks, num_ranks)), np.eye(num_ranks)
        return (
            matrix("counted in forward", self.counted, ones),
            matrix("heard of in backward", self.heard, ones),
            matrix("positives in forward", self.positives_forward, identity),
            matrix("positives in backward", self.positives_backward, identity),
        )


def matrix(title: str, values: _Array, expected: _Array) -> Matrix:
    """Return [W, W] arrays, by the rank of the images and that of the texts, as one picture."""
    return Matrix(
        title=title,
        rows="images of rank",
        columns="texts of rank",
        values=tuple(map(tuple, values.tolist())),
        expected=tuple(map(tuple, expected.tolist())),
    )


def probe_cases(case: Case) -> tuple[Case, Case]:
    """Return the two cases of the probe, as near to a case as they can be: its exchange, W, dtype, layout, chunks."""
    first, second = (
        msgspec.structs.replace(
            case,
            features="one-hot-by-rank",
            source="",
            batch=max(case.batch, _LEAST_BATCH),
            dim=case.world_size,
            scale=1.0,
            bias=bias,
            frozen="none",
            upstream="one",
            rows="equal",
        )
        for bias in _BIASES
    )
    return first, second


def coverage(
    case: Case,
    at_zero: Sequence[RankRecord],
    at_one: Sequence[RankRecord],
    normalizers: Sequence[float],
) -> Coverage:
    """Solve the two runs of the probe.

    Args:
        case: Either case of the probe.
        at_zero: What each rank computed in the first, with c = 0.
        at_one: What each rank computed in the second, with c = 1.
        normalizers: What each rank's sum over its pairs is declared to be divided by.

    Raises:
        ValueError: The case is none of the probe's, or a record of some rank is missing.
    """
    if case.features != "one-hot-by-rank" or case.batch < _LEAST_BATCH or (case.scale, case.upstream) != (1.0, "one"):
        raise ValueError(f"the probe's cases are those of probe_cases; got case={case}")
    weight = np.asarray(normalizers)[:, None] / case.batch
    images = [
        weight * _by_rank(case, [record.image_grad for record in _in_order(case, run)]) for run in (at_zero, at_one)
    ]
    texts = [
        weight * _by_rank(case, [record.text_grad for record in _in_order(case, run)]).T for run in (at_zero, at_one)
    ]
    counted, positives_forward = _solve(case, *images)
    heard, positives_backward = _solve(case, *texts)
    return Coverage(counted, heard, positives_forward, positives_backward)


def _in_order(case: Case, records: Sequence[RankRecord]) -> list[RankRecord]:
    if sorted(record.rank for record in records) != list(range(case.world_size)):
        raise ValueError(f"the probe needs a record of each of {case.world_size} ranks; got {len(records)}")
    return sorted(records, key=lambda record: record.rank)


def _by_rank(case: Case, grads: Sequence[_Array | None]) -> _Array:
    """Return component j of rank i's gradient at [i, j], mean over rows: 0 without one, nan of another shape."""
    shape = (case.batch, case.dim)
    rows = [
        np.zeros(shape) if grad is None else grad if grad.shape == shape else np.full(shape, np.nan) for grad in grads
    ]
    return np.stack(rows).mean(1)[:, : case.world_size]


def _solve(case: Case, at_zero: _Array, at_one: _Array) -> tuple[_Array, _Array]:
    """Solve n sigmoid(z) - p / b at two values of z for n and p."""
    own = np.eye(case.world_size)
    sigmoid_0, sigmoid_1 = (1 / (1 + np.exp(-(own + bias))) for bias in _BIASES)
    n = (at_one - at_zero) / (sigmoid_1 - sigmoid_0)
    p = case.batch * (n * sigmoid_0 - at_zero)
    eps = torch.finfo(getattr(torch, case.dtype)).eps
    return _whole(n, 100 * eps), _whole(p, 100 * eps * case.batch)


def _whole(values: _Array, tolerance: float) -> _Array:
    nearest = np.round(values)
    return np.where(np.abs(values - nearest) <= min(tolerance, 0.2), nearest, values) + 0.0  # no negative zero
