"""What a loss with a known fault would compute: a model of all ranks in which any part can be replaced by a wrong one.

A hypothesis about a loss is a model; it holds if its numbers are the numbers that the ranks recorded. Written for that
purpose alone, in numpy and float64, pair by pair: image m of rank i meets text l of slot k, in which rank k's texts
should be. With z = t <x, y> + c, n the times a pair is counted and Y its label (1 for a match),

    loss of rank i = sum (n softplus(z) - Y z) / normalizer         dl/dz = n sigmoid(z) - Y

and every gradient follows from dl/dz. What a text gradient of block (i, k) adds to which rank's leaf is `text_home`.

Shapes: W ranks, b rows each, d dimensions; a "pair array" is [W, b, W, b] or broadcasts to it.
Not here: which models are tried (the hypotheses), and whether a prediction fits (`evidence`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from siglip_verify import features
from siglip_verify.case import Case

Array = NDArray[np.float64]
Marks = NDArray[np.bool_]


class Prediction(NamedTuple):
    """What each rank would record: loss, scale and bias [W], image and text [W, b, d]."""

    loss: Array
    image: Array
    text: Array
    scale: Array
    bias: Array


@dataclass(frozen=True, eq=False, kw_only=True)
class Model:
    """All ranks of a loss; as `right` makes it, one without a fault.

    Attributes:
        images: [W, b, d], of rank i.
        texts: [W, W, b, d], what rank i holds in slot k.
        scale, bias: Pair arrays: the t and c that enter each logit.
        scale_slope, bias_slope: Pair arrays: how those follow the leaves; 1, or 0 where they do not.
        bias_slope_of_scale: Pair array: how the c that enters a logit follows the scale; 0, as it should not.
        use: Pair array: how often a pair is counted as a negative.
        labels: Pair array: how often it is counted as a match.
        without_exp: Pair array: whether exp(-|z|) is lost, so that softplus(z) is max(z, 0) and sigmoid(z) its slope.
        weight: [W], upstream over normalizer, in front of rank i's gradients.
        normalizers: [W], what rank i's sum is divided by.
        image_home, text_home: [W, W, W], at [j, i, k] how often the gradient of block (i, k) reaches rank j's leaf.
        scale_weight, bias_weight: [W, W], how often the gradient of block (i, k) reaches rank i's scale and bias.
    """

    images: Array
    texts: Array
    scale: Array
    bias: Array
    scale_slope: Array
    bias_slope: Array
    bias_slope_of_scale: Array
    use: Array
    labels: Array
    without_exp: Marks
    weight: Array
    normalizers: Array
    image_home: Array
    text_home: Array
    scale_weight: Array
    bias_weight: Array

    def but(self, **parts: Any) -> Model:
        """Return the same model with some parts replaced."""
        return dataclasses.replace(self, **parts)

    @property
    def num_ranks(self) -> int:
        """W."""
        return len(self.images)

    @property
    def batch(self) -> int:
        """Rows on each rank, b."""
        return self.images.shape[1]

    def logits(self) -> tuple[Array, Array]:
        """Return <x, y> and z of every pair."""
        products = np.einsum("imd,ikld->imkl", self.images, self.texts, optimize=True)
        return products, self.scale * products + self.bias

    def blocks(self, saved_texts: Array | None = None) -> tuple[Array, Array]:
        """Return what block (i, k) adds to the gradient of its images and of its texts, both [W, W, b, d].

        Args:
            saved_texts: [W, W, b, d], what backward finds where forward left the texts; the texts if left out.
        """
        pull = self._pull() * self.scale
        image = np.einsum("imkl,ikld->ikmd", pull, self.texts if saved_texts is None else saved_texts, optimize=True)
        text = np.einsum("imkl,imd->ikld", pull, self.images, optimize=True)
        return image, text

    def predict(self) -> Prediction:
        """Compute what each rank would record."""
        products, z = self.logits()
        pull = self._pull()
        image, text = self.blocks()
        scale = (pull * (products * self.scale_slope + self.bias_slope_of_scale)).sum((1, 3)) * self.scale_weight
        bias = (pull * self.bias_slope).sum((1, 3)) * self.bias_weight
        softplus = np.where(self.without_exp, np.maximum(z, 0), _softplus(z))
        return Prediction(
            loss=(self.use * softplus - self.labels * z).sum((1, 2, 3)) / self.normalizers,
            image=np.einsum("jik,ikmd->jmd", self.image_home, image, optimize=True),
            text=np.einsum("jik,ikld->jld", self.text_home, text, optimize=True),
            scale=scale.sum(1),
            bias=bias.sum(1),
        )

    def _pull(self) -> Array:
        """Return the gradient of what each rank calls backward on, with respect to z."""
        _, z = self.logits()
        slope = np.where(self.without_exp, z > 0, _sigmoid(z))
        return (self.use * slope - self.labels) * self.weight[:, None, None, None]


def right(case: Case, normalizers: tuple[float, ...]) -> Model:
    """Return the model of a loss without a fault on the features of a case."""
    inputs = features.draw(case)
    num_ranks, batch = case.world_size, case.batch
    texts = np.stack([_array(text) for text in inputs.texts])
    own, one = np.eye(num_ranks), np.ones((1, 1, 1, 1))
    return Model(
        images=np.stack([_array(image) for image in inputs.images]),
        texts=np.broadcast_to(texts, (num_ranks, *texts.shape)),
        scale=one * inputs.scale.item(),
        bias=one * inputs.bias.item(),
        scale_slope=one,
        bias_slope=one,
        bias_slope_of_scale=0 * one,
        use=one,
        labels=np.eye(num_ranks * batch).reshape(num_ranks, batch, num_ranks, batch),
        without_exp=one == 0,
        weight=np.asarray(inputs.upstream) / np.asarray(normalizers),
        normalizers=np.asarray(normalizers),
        image_home=own[:, :, None] * np.ones((1, 1, num_ranks)),
        text_home=own[:, None, :] * np.ones((1, num_ranks, 1)),
        scale_weight=np.ones((num_ranks, num_ranks)),
        bias_weight=np.ones((num_ranks, num_ranks)),
    )


def by_block(values: Array) -> Array:
    """Return [W, W] numbers of blocks as a pair array."""
    return values[:, None, :, None]


def _array(tensor: Any) -> Array:
    return tensor.double().numpy()


def _softplus(z: Array) -> Array:
    return np.logaddexp(0.0, z)


def _sigmoid(z: Array) -> Array:
    return np.exp(-np.logaddexp(0.0, -z))
