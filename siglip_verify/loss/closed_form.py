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

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .block import EXACT_FROM, scaled, scaled_logits

LOGITS_AT_ONCE = 1 << 20
"""How many logits are held at once when the caller does not say: 4 MiB in float32. Fewer make the products slower."""


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
        self._num_rows = chunk_size or max(1, LOGITS_AT_ONCE // max(1, image_bd.shape[0]))
        self._images, self._scaled = self._chunks(image_bd), self._chunks(scaled(image_bd, scale))
        self._image_sums: list[Tensor | None] = [None] * len(self._images)

    def add_block(self, text_bd: Tensor, positives: bool) -> Tensor | None:
        """Add one rank's texts.

        Args:
            text_bd: The texts.
            positives: Whether image and text of the same row match; else no two do.

        Returns:
            What this rank's images give to the texts' sum, [b, d]; None if no gradient is needed there.
        """
        text_sum: Tensor | None = None
        for chunk, (image_bd, scaled_bd) in enumerate(zip(self._images, self._scaled, strict=True)):
            w = self._weights(scaled_bd, text_bd, chunk * self._num_rows if positives else None)
            if w is None:
                continue
            if self._needs.image or self._needs.scale:
                self._image_sums[chunk] = self._plus(self._image_sums[chunk], w, text_bd)
            if self._needs.text:
                text_sum = self._plus(text_sum, w.T, image_bd)
        return text_sum

    def _chunks(self, rows_bd: Tensor) -> tuple[Tensor, ...]:
        return rows_bd.split(self._num_rows) if rows_bd.shape[0] > self._num_rows else (rows_bd,)

    def _plus(self, total: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
        """Return total + left @ right, in place if there is a total; it is wider than factors of half precision."""
        if total is None:
            return (left @ right).to(dtype=self._loss.dtype)
        if total.dtype == left.dtype:
            return total.addmm_(left, right)
        return total.add_(left @ right)

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
        return w.to(dtype=scaled_bd.dtype)

    def totals(self) -> Totals:
        """Return the sums, when all blocks have been added."""
        image = scale = None
        if self._needs.image or self._needs.scale:
            chunks = [chunk for chunk in self._image_sums if chunk is not None]
            image = chunks[0] if len(chunks) == 1 else torch.cat(chunks)
        if image is not None and self._needs.scale:  # b d products in place of a pass over all logits
            scale = (self._image_bd * image).sum()
        return Totals(self._loss, image if self._needs.image else None, scale, self._bias)
