"""What is compared: one step of each form of the loss, ours and open_clip's, on the same features in a rank.

Here: the forms, and running a step of one. Not here: how long it takes (`steps`), what it holds (`memory`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from siglip_verify import adapt
from siglip_verify.adapt import LossSpec
from siglip_verify.adapt.load import load
from siglip_verify.bench.measure import Setup
from siglip_verify.case import EXCHANGES, Exchange
from siglip_verify.loss import SigLipLoss
from siglip_verify.loss.validate import Memory
from siglip_verify.world import context

SCALE, BIAS = 10.0, -10.0  # where training starts


class Form(NamedTuple):
    """One way to compute the loss.

    Attributes:
        target: Where open_clip's class is, as `adapt.resolve` says; empty for ours.
        exchange: The exchange.
        memory: What ours keeps until backward.
        overlap: Whether ours computes while hops are under way.
    """

    target: str
    exchange: Exchange
    memory: Memory = "autograd"
    overlap: bool = False

    @property
    def name(self) -> str:
        """What reports call it."""
        kept = [] if self.memory == "autograd" else [self.memory]
        return ", ".join(
            [f"{'open_clip' if self.target else 'ours'} {self.exchange}", *kept, *["overlap"] * self.overlap]
        )

    def build(self, rank: int, world_size: int) -> Callable[..., Tensor]:
        """Build it for one rank, without checks."""
        if self.target:
            return load(LossSpec(target=self.target))(rank=rank, world_size=world_size, dist_impl=self.exchange)
        options = {"memory": self.memory, "overlap": self.overlap}
        return SigLipLoss(rank=rank, world_size=world_size, dist_impl=self.exchange, **options)  # type: ignore[arg-type]


def open_clip_forms() -> list[Form]:
    """List open_clip's forms, one an exchange.

    Raises:
        LossSpecError: open_clip is not installed; the message says how to.
    """
    target = adapt.resolve(adapt.OPEN_CLIP)
    return [Form(target, exchange) for exchange in EXCHANGES]


def our_forms() -> list[Form]:
    """List every form of ours: each exchange in each memory mode that it has, the constant ones with overlap too."""
    flat: tuple[Exchange, ...] = ("bidir", "shift")
    return [
        *(Form("", exchange) for exchange in EXCHANGES),
        *(Form("", exchange, "constant", overlap) for exchange in flat for overlap in (False, True)),
        *(Form("", exchange, "recompute") for exchange in flat),
    ]


def features(setup: Setup, rank: int) -> tuple[Tensor, Tensor]:
    """Draw one rank's images and texts, unit rows [b, d] in float32; nothing else is left in memory."""
    generator = torch.Generator().manual_seed(rank)
    drawn = torch.randn(2, setup.batch, setup.dim, generator=generator)
    drawn /= drawn.norm(dim=-1, keepdim=True)
    return drawn[0], drawn[1]


class Step:
    """One forward and one backward of a form in this rank, to be called as often as wanted.

    Attributes:
        leaves: Images, texts, scale and bias; they hold the gradients of the last call.
    """

    def __init__(self, form: Form, setup: Setup) -> None:
        rank = context().rank
        self._loss = form.build(rank, setup.world_size)
        values = (*features(setup, rank), torch.tensor(SCALE), torch.tensor(BIAS))
        self.leaves = [value.requires_grad_() for value in values]

    def __call__(self) -> None:
        """Run it."""
        self.backward(self.forward())

    def forward(self) -> Tensor:
        """Forget the last call's gradients, and return the loss."""
        for leaf in self.leaves:
            leaf.grad = None
        return self._loss(*self.leaves)

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients."""
        torch.autograd.backward(loss)

    def check_against(self, other: Step) -> None:
        """Check that both computed the same gradients.

        Raises:
            RuntimeError: They did not.
        """
        for name, ours, theirs in zip(("image", "text", "scale", "bias"), self.leaves, other.leaves, strict=True):
            assert ours.grad is not None
            assert theirs.grad is not None
            apart = (ours.grad - theirs.grad).abs().max() / theirs.grad.abs().max()
            if not apart <= _APART_AT_MOST:
                raise RuntimeError(
                    f"contestants must compute the same gradients; their {name} gradients are {apart:.1e} of the "
                    "largest number apart: run siglip-verify check, or mend the benchmark"
                )


_APART_AT_MOST = 1e-3  # float32 and thousands of terms; a block that is missing shows as 0.1 and more


class Products:
    """The floor of a step: three matrix products for each of the W blocks of this rank, and nothing else."""

    def __init__(self, setup: Setup) -> None:
        self._image_bd, self._text_bd = features(setup, context().rank)
        self._num_blocks = setup.world_size

    def __call__(self) -> None:
        """Run them."""
        for _ in range(self._num_blocks):
            logits_bb = torch.mm(self._image_bd, self._text_bd.T)
            torch.mm(logits_bb, self._text_bd)
            torch.mm(logits_bb.T, self._image_bd)
