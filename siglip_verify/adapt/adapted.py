"""One call shape for losses of every shape: (images, texts, scale, bias) in, a 0-dim loss and four gradients out.

Here: setting a loss's own parameters, finding the loss in what it returns. Not here: any expectation of its values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from siglip_verify.adapt.fit import check_call, own_parameter
from siglip_verify.adapt.load import Traits, construct
from siglip_verify.adapt.spec import LossSpec, LossSpecError


class AdaptedLoss:
    """A user's loss on one rank, called as ours is.

    Args:
        spec: The declaration.
        traits: What `load.traits` read off it.
        exchange, rank, world_size, chunk_size: What it is built with, as far as it takes them.

    Raises:
        LossSpecError: It cannot be built, or does not fit the declaration.
    """

    def __init__(
        self, spec: LossSpec, traits: Traits, *, exchange: str, rank: int, world_size: int, chunk_size: int = 0
    ) -> None:
        self._spec = spec
        self._call: Callable[..., Any] = construct(
            spec, traits, exchange=exchange, rank=rank, world_size=world_size, chunk_size=chunk_size
        )
        self._own_scalars()
        check_call(spec, self._call, traits.kind)

    def __call__(self, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        """Return the loss as a 0-dim tensor.

        Raises:
            LossSpecError: What it returns holds no loss; the message shows what it was.
        """
        own_scale, own_bias = self._own_scalars()
        if own_scale is not None:
            t = scale.item()
            self._set(own_scale, math.log(t) if self._spec.log_scale else t, scale)
        if own_bias is not None:
            self._set(own_bias, bias.item(), bias)
        taken = [given for given, own in ((scale, own_scale), (bias, own_bias)) if own is None]
        return loss_of(self._call(image, text, *taken), self._spec.target)

    def scalar_grads(self, scale: Tensor, bias: Tensor) -> tuple[float | None, float | None]:
        """Return the gradients of scale and bias after backward, wherever they are kept."""
        own_scale, own_bias = self._own_scalars()
        scale_grad = grad_of(scale if own_scale is None else own_scale)
        if scale_grad is not None and self._spec.log_scale:
            scale_grad /= scale.item()  # d/dt = (d/dlog t) / t
        return scale_grad, grad_of(bias if own_bias is None else own_bias)

    def _own_scalars(self) -> tuple[nn.Parameter | None, nn.Parameter | None]:
        """Return the parameters that hold scale and bias; None for what the loss is called with."""
        spec, loss = self._spec, self._call
        scale, bias = spec.scale_parameter, spec.bias_parameter
        return (
            None if scale is None else own_parameter(spec, loss, "--scale-parameter", scale),
            None if bias is None else own_parameter(spec, loss, "--bias-parameter", bias),
        )

    @staticmethod
    def _set(parameter: nn.Parameter, value: float, like: Tensor) -> None:
        parameter.data = torch.full_like(parameter.data, value, dtype=like.dtype)
        parameter.grad = None


def grad_of(leaf: Tensor) -> float | None:
    """Return the gradient of a one-element leaf, or None where it has none."""
    return None if leaf.grad is None else leaf.grad.item()


def loss_of(returned: Any, target: str) -> Tensor:
    """Return the loss in what a loss returned: a tensor, the first of a sequence, or the entry of a dict that names it.

    Raises:
        LossSpecError: There is no single-element float tensor where the loss should be.
    """
    found = returned
    if isinstance(found, Mapping):
        found = found[_key_of(found, target)]
    elif isinstance(found, Sequence) and found:
        found = found[0]
    if not isinstance(found, Tensor):
        raise LossSpecError(f"{target} must return a loss tensor; it returned {type(found).__name__}: {found!r:.60}")
    if found.numel() != 1 or not found.is_floating_point():
        raise LossSpecError(
            f"{target} must return one float number; it returned shape {tuple(found.shape)} of {found.dtype}"
        )
    return found.reshape(())


_NAMES_OF_THE_LOSS = ("contrastive_loss", "loss")
"""Keys that name the loss whatever stands beside them, the first before the second: open_clip's, and its total's."""


def _key_of(returned: Mapping[Any, Any], target: str) -> Any:
    exact = [key for key in _NAMES_OF_THE_LOSS if key in returned]
    alike = [key for key in returned if "loss" in str(key)]
    if exact or len(alike) == 1:
        return (exact or alike)[0]
    raise LossSpecError(
        f"{target} returned a dict with the keys {list(returned)}; one of them must name the loss: call it 'loss'"
    )
