"""SigLipLoss: one loop over the blocks that an exchange brings."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from . import block, validate
from .closed_form import Needs
from .constant import ConstantMemoryLoss, Walk
from .exchanges import EXCHANGES
from .exchanges.constant import EXCHANGES as CONSTANT_EXCHANGES
from .ranks import Ranks
from .validate import Memory, Scalar


class SigLipLoss(nn.Module):
    """The sigmoid loss for language-image pre-training over a global batch that is spread over W ranks.

    With unit-length images x and texts y, t = logit_scale and c = logit_bias, rank r returns the loss of its own b
    images against the texts of all ranks,

        -(1/b) sum_{i on r} sum_{all j} log sigmoid(y_ij z_ij),   z_ij = t <x_i, y_j> + c,

    with y_ij = +1 for a matching pair and -1 for every other. The mean over ranks is the loss of the global batch.

    Gradients, after `loss.backward()` on every rank: features receive the sum over ranks, W times the gradient of
    the global loss; scale and bias receive this rank's own part. DistributedDataParallel's mean over ranks turns both
    into exactly the gradients of the global loss.

    A drop-in for open_clip's class of the same name. Differences: `group`; loss and logits are float32 for half
    precision features; strided features are accepted; labels are cached when asked; wrong arguments raise ValueError.

    Args:
        cache_labels: Keep the labels between calls.
        rank: This process's rank in the group.
        world_size: Ranks in the group, W. With 1 nothing is sent, whatever group there is.
        dist_impl: The exchange: "bidir" (None), "shift", "reduce" or "gather"; see `loss.exchanges`.
        chunk_size: Rows of logits held at once in forward and backward; 0 is all b. Bounds memory and changes
            nothing else; the logits are computed twice. With memory="constant" they are computed once, and 0 is as
            many rows as fit a core's cache.
        memory: What is kept until backward.
            "autograd": every block and its logits, as autograd does; memory grows with W.
            "constant": nothing. Loss and gradients of a block are computed while it is here, and the texts' gradient
            travels with them (`exchanges.constant`): flat memory, about half the messages, none of them in backward.
            It asks for the same upstream gradient on every rank, which a plain loss.backward(), GradScaler and
            accumulation all give, and for the same frozen towers; and it is first order, for one backward. For
            "bidir" and "shift".
        group: The process group whose ranks share the global batch; None is the default group. `rank` and
            `world_size` are those of this group.

    Raises:
        ValueError: An argument is out of range; the message names it and what is allowed.

    Source:
        Zhai, Mustafa, Kolesnikov, Beyer 2023, Sigmoid Loss for Language Image Pre-Training, arXiv:2303.15343,
        equation 1 and section 3.3; interface of open_clip `open_clip.loss.SigLipLoss`.
    """

    def __init__(
        self,
        cache_labels: bool = False,
        rank: int = 0,
        world_size: int = 1,
        dist_impl: str | None = None,
        chunk_size: int = 0,
        *,
        memory: Memory = "autograd",
        group: dist.ProcessGroup | None = None,
    ) -> None:
        super().__init__()
        dist_impl = dist_impl or "bidir"
        validate.check_arguments(rank, world_size, dist_impl, chunk_size, EXCHANGES)
        validate.check_memory(memory, dist_impl)
        self.cache_labels = cache_labels
        self.rank = rank
        self.world_size = world_size
        self.dist_impl = dist_impl
        self.chunk_size = chunk_size
        self.memory: Memory = memory
        self.group = group
        self.prev_num_logits = 0
        self.labels: dict[tuple[Any, ...], Tensor] = {}

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Scalar,
        logit_bias: Scalar,
        output_dict: bool = False,
    ) -> Tensor | dict[str, Tensor]:
        """Return this rank's loss against the texts of all ranks.

        Args:
            image_features: This rank's images [b, d], any float dtype and layout; the same b and d on every rank.
            text_features: This rank's texts, of the same shape, dtype and device.
            logit_scale: t, already exponentiated: a number, or a tensor of any float dtype, 0-dim or [1].
            logit_bias: c, likewise.
            output_dict: Return {"contrastive_loss": loss} instead of the loss.

        Returns:
            0-dim loss, float32 or, for float64 features, float64.

        Raises:
            ValueError: Features, scale, bias or process group do not fit; raised before anything is sent.
        """
        validate.check_features(image_features, text_features)
        scale = validate.as_scalar("logit_scale", logit_scale, image_features)
        bias = validate.as_scalar("logit_bias", logit_bias, image_features)

        form = self._autograd_loss if self.memory == "autograd" else self._constant_memory_loss
        loss = form(image_features, text_features, scale, bias)
        return {"contrastive_loss": loss} if output_dict else loss

    def _autograd_loss(self, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        """Add up the blocks, and leave their gradients and the way home to autograd."""
        loss = scale.new_zeros(())
        for src, texts in self._exchange(text):
            labels = self._ground_truth if src == self.rank else None  # only the own block holds positives
            loss = loss + block.block_loss(image, texts, scale, bias, labels, self.chunk_size)
        return loss

    def _constant_memory_loss(self, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        """Add up the blocks and their gradients as they come by."""
        leaves = image, text, scale.reshape(()), bias.reshape(())
        needs = Needs(*(torch.is_grad_enabled() and leaf.requires_grad for leaf in leaves))
        exchanges = CONSTANT_EXCHANGES if needs.text else EXCHANGES
        exchange = functools.partial(exchanges[self.dist_impl], ranks=self._ranks())
        walk = Walk(exchange, self.rank, needs, self.chunk_size, len(image))
        return ConstantMemoryLoss.apply(*leaves, walk)

    def get_logits(
        self, image_features: Tensor, text_features: Tensor, logit_scale: Scalar, logit_bias: Scalar | None = None
    ) -> Tensor:
        """Return logits [b, b] of these images against these texts, in float32 or better; no bias if None."""
        scale = validate.as_scalar("logit_scale", logit_scale, image_features)
        bias = validate.as_scalar("logit_bias", 0.0 if logit_bias is None else logit_bias, image_features)
        return block.logits(image_features, text_features, scale, bias)

    def get_ground_truth(
        self, device: torch.device | str, dtype: torch.dtype, num_logits: int, negative_only: bool = False
    ) -> Tensor:
        """Return labels [num_logits, num_logits]: +1 on the diagonal and -1 elsewhere; all -1 if `negative_only`."""
        first_row = num_logits if negative_only else 0  # a diagonal that starts past the last column is empty
        return self._ground_truth(num_logits, num_logits, first_row, torch.device(device), dtype)

    def extra_repr(self) -> str:
        """Say rank, world size, exchange and chunk size in `repr`."""
        return f"rank={self.rank}, world_size={self.world_size}, {self.dist_impl!r}, chunk_size={self.chunk_size}"

    def _exchange(self, text: Tensor) -> Iterable[tuple[int, Tensor]]:
        """Return every rank's texts with the rank that they come from; nothing is sent when there is one rank."""
        return EXCHANGES[self.dist_impl](text, self._ranks()) if self.world_size > 1 else [(self.rank, text)]

    def _ranks(self) -> Ranks:
        if self.world_size > 1:
            validate.check_group(self.rank, self.world_size, self.group)
        return Ranks(self.rank, self.world_size, self.group)

    def _ground_truth(
        self, rows: int, columns: int, first_row: int, device: torch.device, dtype: torch.dtype
    ) -> Tensor:
        """Return labels of some rows of a block, from the cache if it is on and has exactly these."""
        if not self.cache_labels:
            return block.ground_truth(rows, columns, first_row, device, dtype)
        if columns != self.prev_num_logits:
            self.labels.clear()  # another batch size: what is kept will hardly be asked for again
            self.prev_num_logits = columns
        key = (rows, first_row, device, dtype)
        if key not in self.labels:
            with torch.inference_mode(False):  # labels made in inference mode could not be used in training
                self.labels[key] = block.ground_truth(rows, columns, first_row, device, dtype)
        return self.labels[key]
