"""Two small towers, with the scale's logarithm and the bias as parameters, as SigLIP trains them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, DIM = 32, 16
SCALE, BIAS = 10.0, -10.0  # where the paper starts: at first hardly any pair is taken for a match


class Towers(nn.Module):
    """Encoders of images and texts, in float64: a hidden layer each, smooth, so that rounding stays rounding.

    Args:
        image_dim: Numbers that make an image.
        text_dim: Numbers that make a text.
        normalized: Whether features have unit length.
        bias: Where the bias starts; None is none at all.
    """

    def __init__(self, image_dim: int, text_dim: int, *, normalized: bool = True, bias: float | None = BIAS) -> None:
        super().__init__()
        self.image, self.text = _encoder(image_dim), _encoder(text_dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(SCALE)))
        self.bias = nn.Parameter(torch.tensor(bias or 0.0), requires_grad=bias is not None)
        self.normalized = normalized
        self.double()

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return image features, text features, t and c: what a loss takes."""
        return self._features(self.image(images)), self._features(self.text(texts)), self.log_scale.exp(), self.bias

    def choose(self, images: Tensor, candidates: Tensor) -> Tensor:
        """Return for each image the number of the candidate that it is most like."""
        with torch.no_grad():
            image_features, text_features, _, _ = self(images, candidates)
            return (image_features @ text_features.T).argmax(dim=1)

    def _features(self, encoded: Tensor) -> Tensor:
        return functional.normalize(encoded, dim=-1) if self.normalized else encoded


def _encoder(num_inputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(num_inputs, WIDTH), nn.GELU(), nn.Linear(WIDTH, DIM))
