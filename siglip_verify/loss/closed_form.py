"""The loss of a block and its gradients by formula, added up over the blocks as they come by.

With u_ij = -y_ij z_ij, a pair's loss is -log sigmoid(y z) = log(1 + exp(u)), and its derivative by z is
w_ij = -y_ij sigmoid(u_ij). All else is sums over the pairs of images i and texts j,

    loss      sum_ij log(1 + exp(u_ij))        scale    sum_ij w_ij <x_i, y_j>
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

LOGITS_AT_ONCE = 1 << 18
"""How many logits are held at once when the caller does not say: 1 MiB in float32, about what a core's cache holds."""

EXACT_FROM = 40.0
"""Where log(1 + exp(u)) is u to the last bit of a float64; torch's own choice, 20, is so for a float32 only."""


class Needs(NamedTuple):
    """The leaves that need a gradient; for the others nothing is computed."""

    image: bool
    text: bool
    scale: bool
    bias: bool


class Sums:
    """The sums over all blocks seen so far, in the dtype of the scale; None where no gradient is needed.

    Args:
        image_bd: This rank's images.
        scale: t, 0-dim or [1].
        bias: c, likewise.
        needs: The gradients wanted.
        chunk_size: Rows of logits held at once; 0 is as many as make `LOGITS_AT_ONCE`.

    Attributes:
        loss: 0-dim.
        image: [b, d].
        scale: 0-dim.
        bias: 0-dim.
    """

    def __init__(self, image_bd: Tensor, scale: Tensor, bias: Tensor, needs: Needs, chunk_size: int) -> None:
        self._image_bd, self._t, self._c, self._needs, self._chunk_size = image_bd, scale, bias, needs, chunk_size
        self.loss = scale.new_zeros(())
        self.image = scale.new_zeros(image_bd.shape) if needs.image else None
        self.scale = scale.new_zeros(()) if needs.scale else None
        self.bias = scale.new_zeros(()) if needs.bias else None

    def add_block(self, text_bd: Tensor, positives: bool) -> Tensor | None:
        """Add one rank's texts.

        Args:
            text_bd: The texts.
            positives: Whether image and text of the same row match; else no two do.

        Returns:
            What this rank's images give to the texts' sum, [b, d]; None if no gradient is needed there.
        """
        text_sum = self.loss.new_zeros(text_bd.shape) if self._needs.text else None
        num_rows = self._chunk_size or max(1, LOGITS_AT_ONCE // max(1, len(text_bd)))
        for first_row in range(0, len(self._image_bd), num_rows):
            self._add_rows(slice(first_row, first_row + num_rows), text_bd, text_sum, positives)
        return text_sum

    def _add_rows(self, rows: slice, text_bd: Tensor, text_sum: Tensor | None, positives: bool) -> None:
        image_bd = self._image_bd[rows]
        products = (image_bd @ text_bd.T).to(self.loss.dtype)
        u = torch.addcmul(self._c, self._t, products)  # z, which is -y z where y = -1
        if positives:
            u.diagonal(rows.start).neg_()
        self.loss += functional.softplus(u, threshold=EXACT_FROM).sum()
        if not any(self._needs):
            return
        w = u.sigmoid_()
        if positives:
            w.diagonal(rows.start).neg_()
        if self.bias is not None:
            self.bias += w.sum()
        if self.scale is not None:
            self.scale += torch.vdot(w.flatten(), products.flatten())
        w = w.to(image_bd.dtype)
        if self.image is not None:
            _add_product(self.image[rows], w, text_bd)
        if text_sum is not None:
            _add_product(text_sum, w.T, image_bd)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right; the total is wider than factors of half precision."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
