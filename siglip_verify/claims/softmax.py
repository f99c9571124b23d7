"""CLIP's softmax loss, on one device and distributed: what the sigmoid loss is compared with.

With logits z_ij = t <x_i, y_j>, every image chooses among all texts and every text among all images,

    loss = -(1 / 2N) sum_i [ log softmax_j(z_ij) at j = i  +  log softmax_i(z_ij) at the same pair ].

Each sum over a row, and each over a column, has to be complete before one pair's part is known: the texts and the
images of all ranks are gathered, with their gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from siglip_verify.loss.exchanges import alone, gather
from siglip_verify.loss.ranks import Ranks


class ClipLoss(nn.Module):
    """The softmax loss over a global batch that is spread over W ranks.

    Gradients follow `SigLipLoss`: features receive W times those of the global loss, the scale this rank's part; the
    mean over ranks makes both exact.

    Args:
        rank: This process's rank.
        world_size: W. With 1 nothing is sent.
        local_loss: Each rank computes the rows and columns of its own pairs, b x N logits twice; their mean over ranks
            is the loss. Else every rank computes all N x N, and each has the whole loss.

    Source:
        Radford et al. 2021, arXiv:2103.00020, figure 3; open_clip `ClipLoss` with gather_with_grad.
    """

    def __init__(self, rank: int = 0, world_size: int = 1, *, local_loss: bool = True) -> None:
        super().__init__()
        self._ranks = Ranks(rank, world_size, None)
        self.local_loss = local_loss

    def forward(
        self, image_features: Tensor, text_features: Tensor, logit_scale: Tensor, logit_bias: Tensor | None = None
    ) -> Tensor:
        """Return this rank's loss, 0-dim.

        Args:
            image_features: This rank's images [b, d].
            text_features: This rank's texts [b, d].
            logit_scale: t, already exponentiated, 0-dim.
            logit_bias: Not used: a softmax does not feel it. Taken so that both losses are called alike.
        """
        images, texts = self._all(image_features), self._all(text_features)
        if not self.local_loss:
            image_features, text_features = images, texts
        first = self._ranks.rank * len(image_features) if self.local_loss else 0
        matching = torch.arange(first, first + len(image_features), device=image_features.device)
        per_image = functional.cross_entropy(logit_scale * image_features @ texts.T, matching)
        per_text = functional.cross_entropy(logit_scale * text_features @ images.T, matching)
        return (per_image + per_text) / 2

    def _all(self, features: Tensor) -> Tensor:
        """Return the features of all ranks [N, d], in the order of ranks."""
        show = alone if self._ranks.world_size == 1 else gather
        return torch.cat([block for _, block in show(features, self._ranks)])
