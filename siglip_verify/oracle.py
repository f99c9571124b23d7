"""The single-device reference: loss and gradients of SigLIP in float64, and what rounding can do to them.

Written from the paper (Zhai et al. 2023, arXiv:2303.15343, equation 1), not from a loss, so that it can judge one: it
imports torch and nothing of this package, calls neither autograd nor a loss of torch, and never communicates.
Not here: tolerances (`checks.equivalence`).

Image i of rank r and text j of any rank, rows x and y, t = scale, c = bias, n = normalizer of r, g = upstream of r:

    z = t <x, y> + c                            logit
    l = softplus(-z) if positive else softplus(z)
    p = sigmoid(z) - [positive]                 dl/dz, as sigmoid(z) or -sigmoid(-z): no cancellation at any z
    local loss = (1/n) sum l
    gradients  = (g/n) sum p * dz               dz/dx = t y, dz/dy = t x, dz/dt = <x, y>, dz/dc = 1

The magnitude of a quantity is first-order error propagation: an error of one eps in an intermediate v moves a
quantity q by eps |v dq/dv|, and the magnitude sums |v dq/dv| over the intermediates of every sound way to compute q:
labels in the log-sigmoid, softplus less the logits on the diagonal, features scaled before or after the product, a
narrow product finished in a wider dtype. With A = sum_k |x_k y_k|, one eps in <x, y>, t x, t <x, y>, t, c or z moves z
by at most a = |t| A + |c| of them. So a pair weighs m for a gradient, and e for the loss (softplus and the logit, which
some forms compute and subtract, and what the error of either z does to them):

    m = sigmoid(z) + [positive] + sigmoid(z) sigmoid(-z) a
    e = softplus(z) + sigmoid(z) a + [positive] (|z| + a)

and m goes on as p does, with every factor and term made positive. Underflow is told in the same way: in the subnormal
range an intermediate is off by a constant instead of by a share, so a third sum, of |dq/dv|, says what an error of one
in p, in p g/n and in the result can do (in z it is lost beside eps a).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["mean", "sum"]

_TILE = 64  # rows and texts met at a time: few logits in memory, and short sums, so that float64 itself errs little


@dataclass(frozen=True, eq=False)
class Estimate:
    """A quantity of the reference and how far rounding can move it; three float64 tensors of one shape.

    Attributes:
        value: What it is.
        magnitude: What an error of one eps in each intermediate result can do to it, in units of eps.
        underflow: What an absolute error of one in each product can do to it, in units of that error.
    """

    value: Tensor
    magnitude: Tensor
    underflow: Tensor


@dataclass(frozen=True, eq=False)
class Reference:
    """What each rank, and all together, should see. Index r of a tuple is rank r, with b_r rows of dimension d.

    Attributes:
        local_loss: Scalars: rank r's images against the texts of all ranks, divided by its normalizer.
        image_grad: [b_r, d], of the sum over ranks of upstream x local loss.
        text_grad: [b_r, d], of the same sum: every rank's images contribute.
        local_scale_grad: Scalars, of rank r's own upstream x local loss.
        local_bias_grad: Scalars, of the same.
        loss: The local losses combined over ranks, whatever the upstream.
        scale_grad: The local scale gradients combined over ranks.
        bias_grad: The local bias gradients combined over ranks.
        reduction: How they are combined: mean or sum.
    """

    local_loss: tuple[Estimate, ...]
    image_grad: tuple[Estimate, ...]
    text_grad: tuple[Estimate, ...]
    local_scale_grad: tuple[Estimate, ...]
    local_bias_grad: tuple[Estimate, ...]
    loss: Estimate
    scale_grad: Estimate
    bias_grad: Estimate
    reduction: Reduction = "mean"


def reference(
    images: Sequence[Tensor],
    texts: Sequence[Tensor],
    scale: float,
    bias: float,
    *,
    normalizers: Sequence[float] | None = None,
    upstream: Sequence[float] | None = None,
    reduction: Reduction = "mean",
) -> Reference:
    """Compute the loss and every gradient of all ranks on one device, in float64.

    A pair is positive where rank and row are the same; all others are negative. Ranks may differ in rows and may have
    none. Time is O(N^2 d), memory O(N d).

    Args:
        images: [b_r, d] of each rank, any float dtype, as the loss under test reads them (already rounded).
        texts: [b_r, d] of each rank, matching the images row by row.
        scale: logit_scale, already exponentiated; any sign.
        bias: logit_bias.
        normalizers: What each rank's sum is divided by. Default: that with which the combination of the local losses
            is the mean over all N images, N / W for the mean (b for equal batches) and N for the sum.
        upstream: The gradient that reaches each rank's local loss. Default: 1.
        reduction: How local losses and scalar gradients are combined over ranks.

    Raises:
        ValueError: Shapes that do not match, values that are not finite, or a normalizer that is not positive.

    Source:
        arXiv:2303.15343, equation 1 (there one device, with 1/N in front of the sum).
    """
    _check_features(images, texts)
    sizes = [len(image) for image in images]
    num_ranks, num_rows = len(sizes), sum(sizes)
    num_parts = num_ranks if reduction == "mean" else 1
    normalizers = [num_rows / num_parts] * num_ranks if normalizers is None else normalizers
    upstream = [1.0] * num_ranks if upstream is None else upstream
    _check_scalars(num_ranks, scale, bias, normalizers, upstream)

    image, text = _float64(images), _float64(texts)
    loss, scale_grad, bias_grad = (_zeros(num_ranks) for _ in range(3))
    image_grad, text_grad = _zeros(*image.shape), _zeros(*text.shape)
    for rank, rows, columns in _tiles(sizes):
        pairs = _pairs(image[rows], text[columns], rows.start - columns.start, scale, bias)
        grad = _weigh(pairs.grad, upstream[rank] / normalizers[rank])
        loss[:, rank] += _weigh(pairs.loss, 1 / normalizers[rank]).sum((1, 2))
        scale_grad[:, rank] += (grad * pairs.product).sum((1, 2))
        bias_grad[:, rank] += grad.sum((1, 2))
        image_grad[:, rows] += grad @ _triple(scale * text[columns])
        text_grad[:, columns] += grad.mT @ _triple(scale * image[rows])
    for features_grad in (image_grad, text_grad):
        features_grad[2] += 1 + abs(scale)  # underflow of the result itself, before and after it is multiplied by t

    return Reference(
        local_loss=tuple(map(_estimate, loss.T)),
        image_grad=tuple(map(_estimate, image_grad.split(sizes, dim=1))),
        text_grad=tuple(map(_estimate, text_grad.split(sizes, dim=1))),
        local_scale_grad=tuple(map(_estimate, scale_grad.T)),
        local_bias_grad=tuple(map(_estimate, bias_grad.T)),
        loss=_estimate(loss.sum(1) / num_parts),
        scale_grad=_estimate(scale_grad.sum(1) / num_parts),
        bias_grad=_estimate(bias_grad.sum(1) / num_parts),
        reduction=reduction,
    )


# Below, dimension 0 of a "triple" holds the three readings of an Estimate: value, magnitude, underflow.


@dataclass(frozen=True, eq=False)
class _Pairs:
    """What each pair of some images and some texts weighs; triples [3, images, texts]."""

    loss: Tensor  # l, e, 1
    grad: Tensor  # p, m, 1
    product: Tensor  # <x, y>, A, A + 1: p <x, y> may be rounded pair by pair


def _pairs(image: Tensor, text: Tensor, ahead: int, scale: float, bias: float) -> _Pairs:
    """Meet [n, d] images with [m, d] texts; image i and text i + ahead are a positive pair."""
    product, size = image @ text.T, image.abs() @ text.abs().T
    positive = torch.arange(len(text)) == torch.arange(len(image))[:, None] + ahead
    z = scale * product + bias
    reach = abs(scale) * size + abs(bias)  # a: an eps in what z is made of moves z by this many eps
    up, down = torch.sigmoid(z), torch.sigmoid(-z)
    ones = torch.ones_like(z)
    loss = torch.where(positive, _softplus(-z), _softplus(z))
    loss_magnitude = _softplus(z) + up * reach + positive * (z.abs() + reach)
    grad = torch.where(positive, -down, up)
    grad_magnitude = up + positive + up * down * reach
    return _Pairs(
        loss=torch.stack([loss, loss_magnitude, ones]),
        grad=torch.stack([grad, grad_magnitude, ones]),
        product=torch.stack([product, size, size + 1]),
    )


def _softplus(z: Tensor) -> Tensor:
    """Return log(1 + exp(z)), exact to rounding at any z; torch's own drops exp(-z) above 20."""
    return z.clamp(min=0) + torch.log1p(torch.exp(-z.abs()))


def _weigh(triple: Tensor, weight: float) -> Tensor:
    """Multiply by a weight: as it is, by its size, and with one more product that can underflow."""
    return triple * torch.tensor([weight, abs(weight), abs(weight) + 1], dtype=torch.float64)[:, None, None]


def _triple(factor: Tensor) -> Tensor:
    """Return a factor as it is for the value, and its size for magnitude and underflow."""
    return torch.stack([factor, factor.abs(), factor.abs()])


def _estimate(triple: Tensor) -> Estimate:
    value, magnitude, underflow = triple.clone()
    return Estimate(value, magnitude, underflow)


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(3, *shape, dtype=torch.float64)


def _float64(blocks: Sequence[Tensor]) -> Tensor:
    return torch.cat([block.detach().to("cpu", torch.float64) for block in blocks])


def _tiles(sizes: Sequence[int]) -> Iterator[tuple[int, slice, slice]]:
    """Yield (rank, its rows in the global batch, columns) until every image row has met every text once."""
    num_rows = sum(sizes)
    for rank, end in enumerate(itertools.accumulate(sizes)):
        for row in range(end - sizes[rank], end, _TILE):
            for column in range(0, num_rows, _TILE):
                yield rank, slice(row, min(row + _TILE, end)), slice(column, min(column + _TILE, num_rows))


def _check_features(images: Sequence[Tensor], texts: Sequence[Tensor]) -> None:
    shapes = [tuple(image.shape) for image in images]
    if not shapes or shapes != [tuple(text.shape) for text in texts] or any(len(shape) != 2 for shape in shapes):
        raise ValueError(
            f"images and texts must be [b_r, d] and alike on each of one or more ranks; got images of {shapes} and "
            f"texts of {[tuple(text.shape) for text in texts]}; give every rank's two blocks in rank order"
        )
    if len({shape[1] for shape in shapes}) > 1:
        raise ValueError(f"all ranks must have one feature dimension; got shapes={shapes}; project them to the same d")
    for name, blocks in (("images", images), ("texts", texts)):
        for rank, block in enumerate(blocks):
            if not block.isfinite().all():
                raise ValueError(f"features must be finite; got {name}[{rank}] with inf or nan; draw them smaller")


def _check_scalars(
    num_ranks: int, scale: float, bias: float, normalizers: Sequence[float], upstream: Sequence[float]
) -> None:
    if len(normalizers) != num_ranks or len(upstream) != num_ranks:
        raise ValueError(
            f"normalizers and upstream must have one number for each of {num_ranks} ranks; "
            f"got normalizers={list(normalizers)}, upstream={list(upstream)}; leave one out for its default"
        )
    if not all(map(math.isfinite, (scale, bias, *upstream))):
        raise ValueError(
            f"scale, bias and upstream must be finite; got scale={scale}, bias={bias}, upstream={list(upstream)}; "
            "clamp the scale before it overflows"
        )
    if not all(0 < normalizer < math.inf for normalizer in normalizers):
        raise ValueError(
            f"normalizers must be positive and finite; got normalizers={list(normalizers)}; "
            "a batch without any row has no mean: give its normalizers"
        )
