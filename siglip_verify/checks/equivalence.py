"""The equivalence check: do all ranks together compute what one device computes, to within rounding?

Here: the tolerance and the comparison, pure functions from records to shares. Not here: the reference and its
magnitudes (`oracle`), or what becomes of a share (up to 1 passes, more is a mismatch).

    bound = C sqrt(N) (eps magnitude + smallest subnormal * underflow),    C = 5

`magnitude` and `underflow` are the oracle's; eps and the smallest subnormal are those of the dtype that the quantity is
computed in; N is the global batch. The magnitude already weighs every error that a sound computation makes. C tells how
many such errors fall on one term, sqrt(N) how they add up over the rows: like a random walk, as long as the terms
differ. Equal terms added one by one drift in one direction instead: a partial sum is off by half an eps at most, so n
of them by n / 4 eps of the whole. That is within half the bound up to N = 100 and within all of it up to N = 400. Drawn
cases repeat a row seven times at most; a user's batch with more than 400 equal rows, in one matrix, may be refused.

C is measured: twice the worst error / (eps magnitude sqrt(N)) of right losses, rounded up, so that they use at most
half their bound. Over 50,000 cases: ten algebraic forms, chunks of one row and more, W = 1..8, b = 1..9, d = 1..64,
scale and bias (3.7, -0.6), (10, -10), (120, -60), (0, 0), (-2, 1), seven kinds of features, three of upstream; then N
up to 1024 and d up to 16384:

    dtype      feature gradients  scale  bias  loss   N = 256..1024, any quantity
    float64    2.00               1.54   1.54  0.92   2.3
    float32    1.23               1.66   0.78  0.71   2.0
    bfloat16   1.09               0.95   0.95  0.41   2.8
    float16    1.02               0.80   0.52  0.43   2.2

In float64 the oracle's own rounding is part of it. The other side: a float32 loss whose ring carries bfloat16, at
(3.7, -0.6), lands outside its bound by at least (5,000 cases up to N = 72, eight each above)

    N <= 72    41, unless every remote pair is saturated (z < -5): then no remote text shows, narrow or not
    N = 256    14
    N = 512    8 (d = 256), 29 (d = 16)
    N = 1024   4 (d = 256), 16 (d = 32)

The errors of a narrow wire average out over N and d: small cases show it best, and a bound linear in N would hide it
from N = 512 on.

Not covered, since it is not rounding: `softplus` of torch drops exp(-z) above its threshold of 20, an error of 2e-9
that float64 shows; the derivative of `logaddexp` in float16 is 0 below z = -11; a sum that overflows float16 is inf.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from siglip_verify.case import Case, DType
from siglip_verify.oracle import Estimate, Reference
from siglip_verify.records import Quantity, RankRecord, Share

_Array = NDArray[np.float64]
_FACTOR = 5.0


def judge(
    case: Case, records: Sequence[RankRecord], reference: Reference, *, row_wise: bool = True
) -> tuple[Share, ...]:
    """Compare what all ranks computed with the reference, every quantity, and return the worst element of each.

    A leaf that the case freezes needs no gradient, and its quantity gets no share when no rank has one; a gradient that
    is there all the same is judged like any other. Elsewhere a missing gradient reads as zero, which is a mismatch
    (share inf, observed None) unless the reference is zero throughout. So is inf or nan, and another shape.

    Args:
        case: The input; its dtype, scalars and frozen leaf decide what is judged and how closely.
        records: One of each rank, in any order.
        reference: The oracle's answer to the same input, with the same upstream and reduction.
        row_wise: Judge each rank's own loss and scalar gradients too; False for a loss that declares only their
            combination over ranks (such as one that averages both directions).

    Returns:
        Shares in the order loss, image_grad, text_grad, scale_grad, bias_grad, then the local ones.

    Raises:
        ValueError: The records are not one of each rank, or the reference is of another world size.
    """
    seen = _in_rank_order(case, records, reference)
    rows = sum(len(block.value) for block in reference.image_grad)
    rounding, scalar_rounding = _Rounding.of(case.dtype, rows), _Rounding.of(_scalar_dtype(case), rows)
    losses = [record.loss for record in seen]
    images, texts = [record.image_grad for record in seen], [record.text_grad for record in seen]
    scales, biases = [record.scale_grad for record in seen], [record.bias_grad for record in seen]

    shares = [_compare("loss", None, _combine(losses, reference.local_loss, reference), reference.loss, rounding)]
    if case.frozen != "image" or any(grad is not None for grad in images):
        shares.append(_worst("image_grad", images, reference.image_grad, rounding))
    if case.frozen != "text" or any(grad is not None for grad in texts):
        shares.append(_worst("text_grad", texts, reference.text_grad, rounding))
    scale = _combine(scales, reference.local_scale_grad, reference)
    bias = _combine(biases, reference.local_bias_grad, reference)
    shares.append(_compare("scale_grad", None, scale, reference.scale_grad, scalar_rounding))
    shares.append(_compare("bias_grad", None, bias, reference.bias_grad, scalar_rounding))
    if row_wise:
        shares.append(_worst("local_loss", losses, reference.local_loss, rounding))
        shares.append(_worst("local_scale_grad", scales, reference.local_scale_grad, scalar_rounding))
        shares.append(_worst("local_bias_grad", biases, reference.local_bias_grad, scalar_rounding))
    return tuple(shares)


def describe(share: Share, case: Case) -> str:
    """State a share in one line: the quantity, where it is worst, what was expected and seen, and the case."""
    place = "over all ranks" if share.rank is None else f"of rank {share.rank}"
    element = f" at {list(share.index)}" if share.index else ""
    observed = "nothing" if share.observed is None else f"{share.observed:.9g}"
    note = f" ({share.note})" if share.note else ""
    return (
        f"{share.quantity} {place}{element}: expected {share.expected:.9g}, observed {observed}{note}, "
        f"error {share.error:.3g}, bound {share.bound:.3g}, {share.share:.3g} x the bound; case: {case}"
    )


@dataclass(frozen=True)
class _Rounding:
    """How far one dtype's rounding may move a quantity: per unit of its magnitude, and of its underflow."""

    per_magnitude: float
    per_underflow: float

    @classmethod
    def of(cls, dtype: DType, rows: int) -> _Rounding:
        info = torch.finfo(getattr(torch, dtype))
        factor = _FACTOR * math.sqrt(rows)
        return cls(factor * info.eps, factor * info.smallest_normal * info.eps)

    def bound(self, estimate: Estimate) -> _Array:
        return self.per_magnitude * _array(estimate.magnitude) + self.per_underflow * _array(estimate.underflow)


def _scalar_dtype(case: Case) -> DType:
    """Return the coarser dtype of what the gradient of scale and bias is computed in and what it is held in."""
    return "float32" if case.scalars == "float32" and case.dtype == "float64" else case.dtype


def _in_rank_order(case: Case, records: Sequence[RankRecord], reference: Reference) -> list[RankRecord]:
    ranks = sorted(record.rank for record in records)
    if ranks != list(range(case.world_size)):
        raise ValueError(
            f"judge needs one record of each of {case.world_size} ranks; got ranks={ranks}; "
            "a case with a rank that gave no record is unknown and is not judged"
        )
    if len(reference.local_loss) != case.world_size:
        raise ValueError(
            f"the reference must be of the case's world size; got {len(reference.local_loss)} ranks in the reference "
            f"and world_size={case.world_size}; compute it from every rank's features"
        )
    return sorted(records, key=lambda record: record.rank)


def _combine(values: Sequence[float | None], local: Sequence[Estimate], reference: Reference) -> float | None:
    """Combine the ranks' values as the reference does; nothing where a value is missing that should not be zero."""
    if any(value is None and bool(part.value != 0) for value, part in zip(values, local, strict=True)):
        return None
    total = sum(value or 0.0 for value in values)
    return total / len(values) if reference.reduction == "mean" else total


def _worst(
    quantity: Quantity,
    observed: Sequence[float | _Array | None],
    expected: Sequence[Estimate],
    rounding: _Rounding,
) -> Share:
    """Compare each rank's own value and return the worst."""
    pairs = enumerate(zip(observed, expected, strict=True))
    shares = [_compare(quantity, rank, value, estimate, rounding) for rank, (value, estimate) in pairs]
    return max(shares, key=lambda share: share.share)


def _compare(
    quantity: Quantity,
    rank: int | None,
    observed: float | _Array | None,
    estimate: Estimate,
    rounding: _Rounding,
) -> Share:
    expected, bound = _array(estimate.value), rounding.bound(estimate)
    seen = np.zeros_like(expected) if observed is None else np.asarray(observed, dtype=np.float64)
    if seen.shape != expected.shape:
        note = f"shape {list(seen.shape)} where {list(expected.shape)} is due"
        return _unplaced(quantity, rank, math.inf, note)
    if expected.size == 0:
        return _unplaced(quantity, rank, 0.0)
    error, ratio = _ratio(seen, expected, bound)
    worst = np.unravel_index(int(ratio.argmax()), ratio.shape)
    missing = observed is None and bool(expected.any())
    return Share(
        quantity=quantity,
        share=math.inf if missing else float(ratio[worst]),
        rank=rank,
        index=tuple(map(int, worst)),
        expected=float(expected[worst]),
        observed=None if missing else float(seen[worst]),
        error=float(error[worst]),
        bound=float(bound[worst]),
        note="no gradient" if missing else "",
    )


def _unplaced(quantity: Quantity, rank: int | None, share: float, note: str = "") -> Share:
    """Return the share of a quantity that has no element to compare: no rows, or rows of another shape."""
    return Share(
        quantity=quantity,
        share=share,
        rank=rank,
        index=(),
        expected=0.0,
        observed=None,
        error=share,
        bound=0.0,
        note=note,
    )


def _ratio(seen: _Array, expected: _Array, bound: _Array) -> tuple[_Array, _Array]:
    """Return the errors and what share of their bound they are; inf wherever a number is not finite."""
    with np.errstate(all="ignore"):
        error = np.abs(seen - expected)
        ratio = np.where(error == 0, 0.0, error / bound)
    finite = np.isfinite(error) & np.isfinite(bound)
    return np.where(finite, error, math.inf), np.where(finite, ratio, math.inf)


def _array(tensor: torch.Tensor) -> _Array:
    return tensor.numpy()
