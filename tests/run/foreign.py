"""Broken losses that are not shaped like ours, as a user would bring them; and one whose probe does not end."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
import torch.distributed as dist
from broken import WithoutLastHop  # type: ignore[import-not-found]
from torch import Tensor, nn
from torch.nn import functional

from siglip_verify.bugs.plant import all_gather, gathered
from siglip_verify.loss.ranks import Ranks


def _pairs(image: Tensor, text: Tensor, first_row: int, scale: Tensor, bias: Tensor) -> Tensor:
    z = scale * image @ text.T + bias
    labels = torch.full_like(z, -1.0)
    labels.diagonal(first_row).fill_(1.0)
    return -functional.logsigmoid(labels * z).sum()


def _everywhere(features: Tensor) -> Tensor:
    return gathered(features, Ranks(dist.get_rank(), dist.get_world_size(), None)).flatten(0, 1)


def label_rows(rank: int, world_size: int) -> Any:
    """Own images against all texts, with labels that begin at column 0 on every rank."""

    def loss(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        return _pairs(image, _everywhere(text), 0, scale, bias) / len(image)

    return loss


class OwnScalars(nn.Module):
    """A module that holds its scale and bias, returns a dict, and gathers without gradient."""

    def __init__(self, rank: int, world_size: int) -> None:
        super().__init__()
        self.log_t = nn.Parameter(torch.tensor(math.log(10.0)))
        self.c = nn.Parameter(torch.tensor(-10.0))
        self._ranks = Ranks(rank, world_size, None)

    def forward(self, image: Tensor, text: Tensor) -> dict[str, Tensor]:
        texts = list(all_gather(text.detach(), self._ranks))
        texts[self._ranks.rank] = text
        first_row = self._ranks.rank * len(image)
        return {"loss": _pairs(image, torch.cat(texts), first_row, self.log_t.exp(), self.c) / len(image)}


def sum_of_pairs(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """A plain function that returns a sum; right if that is declared."""
    return _pairs(image, _everywhere(text), dist.get_rank() * len(image), scale, bias)


def share_of_the_mean(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """A share of the global mean, for gradients that are summed over ranks; right if that is declared."""
    return sum_of_pairs(image, text, scale, bias) / (len(image) * dist.get_world_size())


def both_directions(rank: int, world_size: int) -> Any:
    """The average of both directions, in which the images that travel have no gradient."""
    ranks = Ranks(rank, world_size, None)

    def loss(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        images = list(all_gather(image.detach(), ranks))
        images[rank] = image
        rows = _pairs(image, _everywhere(text), rank * len(image), scale, bias)
        columns = _pairs(text, torch.cat(images), rank * len(image), scale, bias)
        return (rows + columns) / (2 * len(image))

    return loss


def _is_probe(image: Tensor) -> bool:
    return bool((image == image[0]).all()) and image.count_nonzero() == len(image) > 1


class HangsInTheProbe(WithoutLastHop):  # type: ignore[misc]
    """Fails, and hangs on rank 1 when it meets the features of the probe."""

    def forward(self, image_features: Tensor, *rest: Any, **named: Any) -> Any:
        if _is_probe(image_features) and self.rank == 1:
            time.sleep(1e6)
        return super().forward(image_features, *rest, **named)


class RaisesOnFiveRanks(WithoutLastHop):  # type: ignore[misc]
    """Fails, cannot be built on three ranks and raises on five."""

    def __init__(self, *, rank: int, world_size: int, dist_impl: str) -> None:
        if world_size == 3:
            raise ValueError("three is not supported")
        super().__init__(rank=rank, world_size=world_size, dist_impl=dist_impl)

    def forward(self, *features: Any, **named: Any) -> Any:
        if self.world_size == 5:
            raise RuntimeError("five is not supported")
        return super().forward(*features, **named)
