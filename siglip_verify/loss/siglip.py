"""SigLipLoss: one loop over the blocks that an exchange brings."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from . import block, validate
from .agree import agree, refuse
from .closed_form import Needs
from .constant import ConstantMemoryLoss
from .exchanges import EXCHANGES, alone
from .exchanges.constant import EXCHANGES as CONSTANT_EXCHANGES
from .ragged import ragged_walk
from .ranks import Ranks
from .recompute import RecomputedLoss
from .ring import ahead
from .stream import Travel
from .validate import Memory, Scalar
from .walk import Conversation, Walk


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

    Under torch.compile the loss of one rank is one graph with memory="autograd"; messages between ranks, and the other
    forms' hand-written gradients, run beside the graphs.

    Args:
        cache_labels: Keep the labels between calls.
        rank: This process's rank in the group.
        world_size: Ranks in the group, W. With 1 nothing is sent, whatever group there is.
        dist_impl: The exchange: "bidir" (None), "shift", "reduce" or "gather"; see `loss.exchanges`.
        chunk_size: Rows of logits held at once in forward and backward; 0 is all b. Bounds memory and changes
            nothing else; the logits are computed twice. With memory="constant" they are computed once, and 0 is as
            many rows as fit a core's cache.
        memory: What is kept until backward; the forms that keep nothing are for "bidir" and "shift".
            "autograd": every block and its logits, as autograd does. Memory grows with W.
            "constant": nothing. Loss and gradients of a block are computed while it is here, and the texts' gradient
            travels with them (`exchanges.constant`): flat memory, about half the messages, all of them in forward. It
            needs the same upstream gradient on every rank, as a plain loss.backward(), GradScaler and accumulation
            give; first order, and one backward a loss.
            "recompute": nothing, and upstream gradients may differ: backward exchanges the blocks once more.
        overlap: Let each hop leave before the blocks of the last one are looked at; for "bidir" and "shift". One block
            more is held in each direction, and with memory="constant" one message more is sent.
        ragged: Let b differ between ranks, and be 0. Sizes are agreed in a small all-gather; blocks travel padded to
            the largest; each rank's sum is divided by N / W, so that the mean over ranks is that of the global batch.
        grad_dtype: What texts' gradients are added up in on their way where they travel with the blocks; None is
            float32, or the features' dtype where that is wider. Given the dtype of half precision features they take
            half the bytes, are rounded at every hop, as in autograd, and must hold sums over all N rows.
        check_upstream: With memory="constant", backward compares the ranks' upstream gradients: eight bytes to the
            right neighbour, and a RuntimeError where they differ.
        check_shapes: Agree on shapes, dtype and frozen texts before anything else is sent, in a small all-gather, and
            raise on every rank where they differ. Without it (or `ragged`) ranks that differ may hang or crash.
        group: The process group whose ranks share the global batch; None is the default group. `rank` and
            `world_size` are those of this group.

    Raises:
        ValueError: An argument is out of range, or does not go with another; the message names it and what is allowed.

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
        overlap: bool = False,
        ragged: bool = False,
        grad_dtype: torch.dtype | None = None,
        check_upstream: bool = False,
        check_shapes: bool = False,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        super().__init__()
        rank, world_size, chunk_size = (
            validate.whole(name, value)
            for name, value in (("rank", rank), ("world_size", world_size), ("chunk_size", chunk_size))
        )
        validate.check_switches(
            cache_labels=cache_labels,
            overlap=overlap,
            ragged=ragged,
            check_upstream=check_upstream,
            check_shapes=check_shapes,
        )
        dist_impl = "bidir" if dist_impl is None else dist_impl
        validate.check_arguments(rank, world_size, dist_impl, chunk_size, EXCHANGES)
        validate.check_options(memory, dist_impl, overlap, grad_dtype, check_upstream)
        self.cache_labels = cache_labels
        self.rank = rank
        self.world_size = world_size
        self.dist_impl = dist_impl
        self.chunk_size = chunk_size
        self.memory: Memory = memory
        self.overlap = overlap
        self.ragged = ragged
        self.grad_dtype = grad_dtype
        self.check_upstream = check_upstream
        self.check_shapes = check_shapes
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
            image_features: This rank's images [b, d], any float dtype and layout. The same b (unless `ragged`) and d
                on every rank, and the same towers frozen.
            text_features: This rank's texts, of the same shape, dtype and device.
            logit_scale: t, already exponentiated: a number, or a tensor of any float dtype, 0-dim or [1].
            logit_bias: c, likewise.
            output_dict: Return {"contrastive_loss": loss} instead of the loss.

        Returns:
            0-dim loss, float32 or, for float64 features, float64.

        Raises:
            ValueError: Features, scale, bias or process group do not fit; raised before anything is sent.
        """
        leaves = self._checked(image_features, text_features, logit_scale, logit_bias)
        needs = Needs(*(torch.is_grad_enabled() and leaf.requires_grad for leaf in leaves))
        walk = self._walk(image_features, text_features, needs)
        if self.memory == "autograd":
            loss = self._autograd_loss(*leaves, walk)
        elif self.memory == "recompute" and needs.text:
            loss = RecomputedLoss.apply(*leaves, walk, needs)
        else:  # where texts need no gradient, no rank waits for another's upstream gradient
            loss = ConstantMemoryLoss.apply(*leaves, walk, needs, self.check_upstream)
        return {"contrastive_loss": loss} if output_dict else loss

    def _checked(
        self, image: Tensor, text: Tensor, logit_scale: Scalar, logit_bias: Scalar
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the features as they are, and scale and bias 0-dim, in the dtype in which the loss is added up."""
        if self.world_size > 1:
            validate.check_group(self.rank, self.world_size, self.group)
        try:
            validate.check_features(image, text, self.ragged, self.grad_dtype)
            scale = validate.as_scalar("logit_scale", logit_scale, image)
            bias = validate.as_scalar("logit_bias", logit_bias, image)
        except ValueError:
            if self.ragged or self.check_shapes:
                refuse(text.device, self._ranks())
            raise
        return image, text, scale, bias

    def _walk(self, image: Tensor, text: Tensor, needs: Needs) -> Walk:
        """Say how this rank comes to see every rank's texts, and what its sums are divided by."""
        ranks = self._ranks()
        walk = Walk(self._exchange, self._conversation, ranks, self.chunk_size, image.shape[0])
        if not (self.ragged or self.check_shapes):
            return walk
        sizes = agree(text, needs.text, ranks, self.ragged)
        return ragged_walk(walk, sizes) if self.ragged else walk

    def _autograd_loss(self, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, walk: Walk) -> Tensor:
        """Add up the blocks, and leave their gradients and the way home to autograd."""
        total, scaled = None, block.scaled(image, scale)
        for src, texts in walk.show(text):
            labels = self._ground_truth if src == self.rank else None  # only the own block holds positives
            part = block.sum_of_losses(scaled, texts, bias, labels, self.chunk_size)
            total = part if total is None else total + part
        assert total is not None  # there is one rank at least
        return total / walk.normalizer

    def _exchange(self, text: Tensor) -> Conversation:
        """Show every rank's texts; nothing is sent when there is one rank."""
        if self.world_size == 1:
            return alone(text, self._ranks())
        exchange = EXCHANGES[self.dist_impl]
        return ahead(exchange, text, self._ranks()) if self.overlap else exchange(text, self._ranks())

    def _conversation(self, text: Tensor) -> Conversation:
        """Show every rank's texts, and bring their gradients home."""
        travel = Travel(overlap=self.overlap, grad_dtype=self.grad_dtype)
        return CONSTANT_EXCHANGES[self.dist_impl](text, self._ranks(), travel)

    def _ranks(self) -> Ranks:
        return Ranks(self.rank, self.world_size, self.group)

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
        """Say rank, world size, exchange, memory and chunk size in `repr`."""
        place = f"rank={self.rank}, world_size={self.world_size}"
        return f"{place}, {self.dist_impl!r}, memory={self.memory!r}, chunk_size={self.chunk_size}"

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
