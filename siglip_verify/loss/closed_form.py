"""The loss of a block and its gradients by formula, added up over the blocks as they come by.

With u_ij = -y_ij z_ij, a pair's loss is -log sigmoid(y z) = log(1 + exp(u)), and its derivative by z is
w_ij = -y_ij sigmoid(u_ij). All else is sums over the pairs of images i and texts j,

    loss      sum_ij log(1 + exp(u_ij))        scale    sum_ij w_ij <x_i, y_j> = sum_i <x_i, sum_j w_ij y_j>
    image i   sum_j w_ij y_j                   bias     sum_ij w_ij
    text j    sum_i w_ij x_i

to be divided by b and, for the features, multiplied by t: that is left to the end, when what reaches the loss is known
too. Until then the sums have the size of features, which half precision holds; tiny gradients it would not.
"""

from __future__ import annotations

from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .block import EXACT_FROM, scaled, scaled_logits

LOGITS_AT_ONCE = 1 << 19
"""How many logits are held at once when the caller does not say: 2 MiB in float32, about what a core's cache holds."""


class Needs(NamedTuple):
    """The leaves that need a gradient; for the others nothing is computed."""

    image: bool
    text: bool
    scale: bool
    bias: bool


class Totals(NamedTuple):
    """What was added up over all blocks, in the dtype of the scale; None where no gradient is needed.

    Attributes:
        loss: 0-dim.
        image: [b, d].
        scale: 0-dim.
        bias: 0-dim.
    """

    loss: Tensor
    image: Tensor | None
    scale: Tensor | None
    bias: Tensor | None


class Sums:
    """The sums over all blocks seen so far.

    Args:
        image_bd: This rank's images.
        scale: t, 0-dim.
        bias: c, 0-dim.
        needs: The gradients wanted.
        chunk_size: Rows of logits held at once; 0 is as many as make `LOGITS_AT_ONCE`.
    """

    def __init__(self, image_bd: Tensor, scale: Tensor, bias: Tensor, needs: Needs, chunk_size: int) -> None:
        self._image_bd, self._c, self._needs = image_bd, bias, needs
        self._loss = torch.zeros_like(scale)
        self._bias = torch.zeros_like(scale) if needs.bias else None
        # The scale's gradient comes out of the images' sum: b d products at the end, and no pass over the logits.
        self._image = scale.new_zeros(image_bd.shape) if needs.image or needs.scale else None
        self._num_rows = chunk_size or max(1, LOGITS_AT_ONCE // max(1, len(image_bd)))
        self._images, self._scaled = (each.split(self._num_rows) for each in (image_bd, scaled(image_bd, scale)))
        self._image_sums = repeat(None) if self._image is None else self._image.split(self._num_rows)

    def add_block(self, text_bd: Tensor, positives: bool) -> Tensor | None:
        """Add one rank's texts.

        Args:
            text_bd: The texts.
            positives: Whether image and text of the same row match; else no two do.

        Returns:
            What this rank's images give to the texts' sum, [b, d]; None if no gradient is needed there.
        """
        text_sum: Tensor | None = None
        rows = zip(self._images, self._scaled, self._image_sums, strict=False)
        for chunk, (image_bd, scaled_bd, image_sum) in enumerate(rows):
            w = self._weights(scaled_bd, text_bd, chunk * self._num_rows if positives else None)
            if w is None:
                continue
            if image_sum is not None:
                _add_product(image_sum, w, text_bd)
            if self._needs.text and text_sum is None:
                text_sum = (w.T @ image_bd).to(self._loss.dtype)
            elif text_sum is not None:
                _add_product(text_sum, w.T, image_bd)
        return text_sum

    def _weights(self, scaled_bd: Tensor, text_bd: Tensor, first_positive: int | None) -> Tensor | None:
        """Add some rows' part of loss and bias, and return their w in the features' dtype."""
        u = scaled_logits(scaled_bd, text_bd, self._c)  # z, which is -y z where y = -1
        if first_positive is not None:
            u.diagonal(first_positive).neg_()
        self._loss += functional.softplus(u, threshold=EXACT_FROM).sum()
        if not any(self._needs):
            return None
        w = u.sigmoid_()
        if first_positive is not None:
            w.diagonal(first_positive).neg_()
        if self._bias is not None:
            self._bias += w.sum()
        return w.to(scaled_bd.dtype)

    def totals(self) -> Totals:
        """Return the sums, when all blocks have been added."""
        scale = None
        if self._needs.scale and self._image is not None:
            scale = torch.vdot(self._image_bd.to(self._image.dtype).reshape(-1), self._image.view(-1))
        return Totals(self._loss, self._image if self._needs.image else None, scale, self._bias)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right; the total is wider than factors of half precision."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
