"""The loss of one rank's images against one rank's texts, in the words of the paper.

Shapes: image_bd [b, d], text_bd [b, d], logits and labels [rows, b], with rows <= b when chunked.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

EXACT_FROM = 40.0
"""Where log(1 + exp(u)) is u to the last bit of a float64; torch's own choice, 20, is so for a float32 only."""


def scaled(image_bd: Tensor, logit_scale: Tensor) -> Tensor:
    """Return t x_i for every image, in the images' dtype.

    <t x_i, y_j> is t <x_i, y_j>: multiplied in here, t goes once into b d numbers and not into every rank's b b logits.
    """
    return (logit_scale * image_bd.to(dtype=logit_scale.dtype)).to(dtype=image_bd.dtype)


def scaled_logits(scaled_bd: Tensor, text_bd: Tensor, logit_bias: Tensor) -> Tensor:
    """Return <t x_i, y_j> + c for every image i, already scaled, and text j, in float32 or better.

    The products are taken in the features' dtype; from there on half precision would cost more than it saves: at the
    usual start, t = 10 and c = -10, bfloat16 cannot tell logits apart that differ by 0.03.
    """
    return (scaled_bd @ text_bd.T).to(dtype=logit_bias.dtype).add_(logit_bias)


def logits(image_bd: Tensor, text_bd: Tensor, logit_scale: Tensor, logit_bias: Tensor) -> Tensor:
    """Return t <x_i, y_j> + c for every image i and text j, in float32 or better."""
    return scaled_logits(scaled(image_bd, logit_scale), text_bd, logit_bias)


def ground_truth(rows: int, columns: int, first_row: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return +1 where image first_row + i meets text j of the same number, and -1 elsewhere: [rows, columns]."""
    labels = torch.full((rows, columns), -1.0, device=device, dtype=dtype)
    labels.diagonal(first_row).fill_(1.0)
    return labels


Labels = Callable[[int, int, int, torch.device, torch.dtype], Tensor]
"""`ground_truth`, or something that remembers what it returned."""


def sum_of_losses(
    scaled_bd: Tensor, text_bd: Tensor, logit_bias: Tensor, labels: Labels | None, chunk_size: int = 0
) -> Tensor:
    """Return -sum_ij log sigmoid(y_ij z_ij) over one block, as sum_ij log(1 + exp(-y_ij z_ij)).

    Where y = -1 that is log(1 + exp(z)), with nothing to be multiplied: of a block of negatives autograd keeps z alone.

    Args:
        scaled_bd: Images of this rank times t, see `scaled`.
        text_bd: Texts of one rank.
        logit_bias: c, 0-dim or [1], of the dtype that the sum is accumulated in.
        labels: Gives y; None for a block of negatives alone.
        chunk_size: Hold at most so many rows of logits at once, in forward and (by computing them again) in
            backward; 0 is all of them.

    Returns:
        0-dim, of logit_bias's dtype.
    """

    def of_rows(rows_bd: Tensor, first_row: int) -> Tensor:
        u = scaled_logits(rows_bd, text_bd, logit_bias)
        if labels is not None:
            u = -labels(u.shape[0], u.shape[1], first_row, u.device, u.dtype) * u
        return functional.softplus(u, threshold=EXACT_FROM).sum()

    if not 0 < chunk_size < scaled_bd.shape[0]:
        return of_rows(scaled_bd, 0)
    chunks = [
        checkpoint(of_rows, rows_bd, index * chunk_size, use_reentrant=False, preserve_rng_state=False)
        for index, rows_bd in enumerate(scaled_bd.split(chunk_size))
    ]
    return torch.stack(chunks).sum()  # type: ignore[arg-type]


def block_loss(
    image_bd: Tensor,
    text_bd: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    labels: Labels | None,
    chunk_size: int = 0,
) -> Tensor:
    """Return -(1/b) sum_ij log sigmoid(y_ij z_ij): what one block adds to the loss; see `sum_of_losses`."""
    return sum_of_losses(scaled(image_bd, logit_scale), text_bd, logit_bias, labels, chunk_size) / len(image_bd)
