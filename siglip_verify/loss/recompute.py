"""Constant memory for callers whose ranks do not share one upstream gradient: blocks are exchanged twice.

Forward only looks at the texts. Backward, where each rank knows what reaches its loss, exchanges them again, each with
its gradient, in the messages that `constant` needs in forward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .closed_form import Needs
from .constant import check_first_order
from .walk import Walk, times


class RecomputedLoss(torch.autograd.Function):
    """This rank's loss, with its gradients computed in backward."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, walk: Walk, needs: Needs) -> Tensor:
        """Return the loss; features [b, d], scale and bias 0-dim of the dtype in which all is added up."""
        sums, _ = walk.sums(image, text, scale, bias, Needs(image=False, text=False, scale=False, bias=False))
        ctx.save_for_backward(image, text, scale, bias)
        ctx.walk, ctx.needs = walk, needs
        return sums.loss / walk.normalizer

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Exchange the texts again, each with its gradient, as every rank's upstream gradient makes it.

        Raises:
            RuntimeError: Called with create_graph=True.
        """
        check_first_order("recompute")
        image, text, scale, bias = ctx.saved_tensors
        by_bias = grads[0] / ctx.walk.normalizer
        by_logit = by_bias * scale
        sums, text_grad = ctx.walk.sums(image, text, scale, bias, ctx.needs, weight=by_logit)
        return (
            times(sums.image, by_logit, image.dtype),
            None if text_grad is None else text_grad.to(text.dtype),
            times(sums.scale, by_bias, scale.dtype),
            times(sums.bias, by_bias, bias.dtype),
            *(None, None),
        )
