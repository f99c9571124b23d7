"""Constant memory: loss and gradients of a block while it is here, and nothing kept of it.

Autograd keeps every block and its logits until backward. Here there is no graph: the gradients are known by formula
(`closed_form`) as soon as a block is, and when the last one has gone, backward has only to multiply the sums by what
reaches the loss.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .closed_form import Needs
from .ranks import Ranks
from .ring import post, rightward
from .walk import Walk, times


class ConstantMemoryLoss(torch.autograd.Function):
    """This rank's loss, with its gradients computed in forward.

    What reaches the loss in backward must be the same on every rank, and so must the scale: neither is multiplied in
    before the ranks' shares of a text's gradient are added up.
    """

    @staticmethod
    def forward(
        ctx: Any, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, walk: Walk, needs: Needs, compare: bool
    ) -> Tensor:
        """Return the loss; features [b, d], scale and bias 0-dim of the dtype in which all is added up."""
        sums, text_sum = walk.sums(image, text, scale, bias, needs)
        ctx.kept = sums, text_sum, scale / walk.normalizer, image.dtype
        ctx.walk, ctx.compare = walk, compare and needs.text
        return sums.loss / walk.normalizer

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Multiply the sums by what reaches the loss. Sends nothing, except to compare that with the neighbours.

        Raises:
            RuntimeError: Called a second time or with create_graph=True, or the left neighbour has another gradient.
        """
        check_first_order("constant")
        if ctx.kept is None:
            raise RuntimeError(
                "memory='constant' keeps its gradients for one backward, and this is the second on the same loss: "
                "call the loss again, or use memory='recompute' or memory='autograd'"
            )
        if ctx.compare:
            compare_with_left(grads[0], ctx.walk.ranks)
        (sums, text_sum, t_over_b, dtype), ctx.kept = ctx.kept, None
        by_logit, by_bias = grads[0] * t_over_b, grads[0] / ctx.walk.normalizer
        return (
            times(sums.image, by_logit, dtype),
            times(text_sum, by_logit, dtype),
            times(sums.scale, by_bias, by_bias.dtype),
            times(sums.bias, by_bias, by_bias.dtype),
            *(None, None, None),
        )


def check_first_order(memory: str) -> None:
    """Check that backward is not to be differentiated in its turn.

    Raises:
        RuntimeError: It is.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"memory={memory!r} gives first derivatives only, and backward was called with create_graph=True: "
            "use memory='autograd' to differentiate twice"
        )


def compare_with_left(upstream: Tensor, ranks: Ranks) -> None:
    """Send this rank's upstream gradient to the right neighbour, eight bytes, and compare it with the left one's.

    If no rank differs from its left neighbour, all ranks around the ring have the same.

    Raises:
        RuntimeError: They differ; the message names both.
    """
    if ranks.world_size == 1:
        return
    (from_left,) = post([upstream.to(torch.float64).reshape(1)], [rightward(ranks)], ranks).wait()
    ours, theirs = upstream.item(), from_left.item()
    if ours != theirs and (ours == ours or theirs == theirs):  # NaN is the same as NaN here
        raise RuntimeError(
            f"memory='constant' needs the same gradient at the loss of every rank; got {theirs!r} on rank "
            f"{ranks.at(-1)} and {ours!r} on rank {ranks.rank}: call backward on the same multiple of the loss on all "
            "ranks, or use memory='recompute'"
        )
