"""Constant memory: loss and gradients of a block while it is here, and nothing kept of it.

Autograd keeps every block and its logits until backward. Here there is no graph: the gradients are known by formula
(`closed_form`) as soon as a block is, and when the last one has gone, backward has only to multiply the sums by what
reaches the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .closed_form import Needs, Sums


class Walk(NamedTuple):
    """How this rank comes to see all texts, and what becomes of it.

    Attributes:
        exchange: Given this rank's texts, shows it every rank's, takes its share of their gradients and returns the sum
            of all shares of its own (one of `exchanges.constant`); where texts need no gradient, it only shows them.
        rank: This rank; its texts alone match its images.
        needs: The gradients wanted.
        chunk_size: Rows of logits held at once; 0 leaves it to `closed_form`.
        normalizer: What this rank's sums are divided by, b.
    """

    exchange: Callable[[Tensor], Generator[tuple[int, Tensor], Any, Tensor | None]]
    rank: int
    needs: Needs
    chunk_size: int
    normalizer: float

    def sums(self, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> tuple[Sums, Tensor | None]:
        """Return this rank's sums over all texts, and all ranks' sum for its own texts."""
        sums = Sums(image, scale, bias, self.needs, self.chunk_size)
        exchange, share = self.exchange(text), None
        while True:
            try:
                src, texts = exchange.send(share)
            except StopIteration as end:
                return sums, end.value
            share = sums.add_block(texts, positives=src == self.rank)
            del texts  # the block is about to go


class ConstantMemoryLoss(torch.autograd.Function):
    """This rank's loss, its gradients computed in forward; nothing is sent in backward.

    What reaches the loss in backward must be the same on every rank, and so must the scale: neither is known when the
    ranks' shares of a text's gradient are added up.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, walk: Walk) -> Tensor:
        """Return the loss. Features [b, d], scale and bias 0-dim of the dtype in which all is added up."""
        sums, text_sum = walk.sums(image, text, scale, bias)
        ctx.kept = sums, text_sum, scale / walk.normalizer, walk.normalizer, image.dtype
        return sums.loss / walk.normalizer

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Multiply the sums, in place, by what reaches the loss.

        Raises:
            RuntimeError: Called a second time, or with create_graph=True.
        """
        _check_first_order(ctx.kept)
        (sums, text_sum, t_over_b, b, dtype), ctx.kept = ctx.kept, None
        upstream = grads[0]
        return (
            _times(sums.image, upstream * t_over_b, dtype),
            _times(text_sum, upstream * t_over_b, dtype),
            _times(sums.scale, upstream / b, upstream.dtype),
            _times(sums.bias, upstream / b, upstream.dtype),
            None,
        )


def _times(total: Tensor | None, factor: Tensor, dtype: torch.dtype) -> Tensor | None:
    return None if total is None else total.mul_(factor).to(dtype)


def _check_first_order(kept: object) -> None:
    if torch.is_grad_enabled():
        raise RuntimeError(
            "memory='constant' gives first derivatives only, and backward was called with create_graph=True: "
            "use memory='autograd' to differentiate twice"
        )
    if kept is None:
        raise RuntimeError(
            "memory='constant' keeps its gradients for one backward, and this is the second on the same loss: "
            "call the loss again, or use memory='autograd' with retain_graph=True"
        )
