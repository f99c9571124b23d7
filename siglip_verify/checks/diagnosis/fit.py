"""Reading a model's parts off what the ranks recorded: least squares, and numbers that are simple.

Here: pure functions from gradients to homes, labels and weights. What they return is a guess until the model that holds
it explains every number (`evidence.Observation.explained_by`). Not here: words for it.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siglip_verify.checks.diagnosis.evidence import BIAS, IMAGE, SCALE, TEXT, Observation
from siglip_verify.checks.diagnosis.model import Array, Model

MAX_WORLD_SIZE = 16  # least squares over W * W blocks; beyond, it takes minutes
_LARGEST_DENOMINATOR = 64


def complete(seen: Observation, model: Model) -> Model | None:
    """Fit where a model's gradients come home to, and return it if it then explains every number."""
    missing = seen.unexplained(model)
    image, text = model.blocks()
    if missing & IMAGE:
        model = model.but(image_home=home(seen.images(), image, model.image_home, seen.tolerance))
    if missing & TEXT:
        model = model.but(text_home=home(seen.texts(), text, model.text_home, seen.tolerance))
    if missing & SCALE:
        model = _with_scalar(seen, model, "scale")
    if missing & BIAS:
        model = _with_scalar(seen, model, "bias")
    return model if not missing or seen.explained_by(model) else None


def home(observed: Array | None, blocks: Array, default: Array, tolerance: float) -> Array:
    """Solve for how often the gradient of each block reached each rank.

    Args:
        observed: [W, b, d], the gradient that each rank has; None where it is not finite.
        blocks: [W, W, b, d], the gradient of each block.
        default: [W, W, W], what to return of blocks without a gradient, and where nothing can be solved.
        tolerance: How far a solution may be from a simple number.
    """
    num_ranks = len(blocks)
    columns = blocks.reshape(num_ranks**2, -1).T
    if observed is None or num_ranks > MAX_WORLD_SIZE or columns.shape[0] < columns.shape[1]:
        return default
    is_there = np.abs(blocks).max((2, 3)) > 0
    solved, _, rank, _ = np.linalg.lstsq(columns, observed.reshape(num_ranks, -1).T, rcond=None)
    found = simple(solved.T.reshape(default.shape), tolerance)
    if rank < is_there.sum() and (found % 1).any():  # blocks alike: what is no whole number is shared out between them
        return default
    return np.where(is_there, found, default)


def counts(seen: Observation) -> Array:
    """Solve for how often rank i counts rank k's texts [W, W], as its image gradient tells if labels are right."""
    image, _ = seen.right.blocks()
    return np.einsum("iik->ik", home(seen.images(), image, seen.right.image_home, seen.tolerance))


def labels(seen: Observation, model: Model) -> Array | None:
    """Solve for the label of every pair [W, b, W, b], as image gradients are sums over texts; None if those depend."""
    images, num_ranks, batch = seen.images(), model.num_ranks, model.batch
    texts = model.texts[0].reshape(num_ranks * batch, -1)
    if images is None or model.scale.size != 1 or not model.scale.item() or len(texts) > texts.shape[1]:
        return None
    solved, _, rank, _ = np.linalg.lstsq(texts.T, images.reshape(num_ranks * batch, -1).T, rcond=None)
    if rank < len(texts):
        return None
    pull = solved.T.reshape(num_ranks, batch, num_ranks, batch) / model.scale.item()
    _, z = model.logits()
    return simple(model.use / (1 + np.exp(-z)) - pull / model.weight[:, None, None, None], seen.tolerance)


def row_weights(seen: Observation, model: Model) -> Array | None:
    """Solve for the weight of each image row [W, b], as its gradient tells; None where that is not all it is."""
    images = seen.images()
    expected = model.predict().image
    if images is None or not expected.any(-1).all():
        return None
    return simple((images * expected).sum(-1) / (expected**2).sum(-1), seen.tolerance)


def simple(values: NDArray[np.floating[Any]], tolerance: float) -> Array:
    """Replace numbers by the fractions that they are nearly equal to, and leave all others as they are."""

    def one(value: float) -> float:
        near = float(Fraction(value).limit_denominator(_LARGEST_DENOMINATOR)) if np.isfinite(value) else value
        return near if abs(near - value) <= tolerance * max(1.0, abs(value)) else value

    return np.vectorize(one, otypes=[np.float64])(values) + 0.0  # no negative zero


def _with_scalar(seen: Observation, model: Model, leaf: str) -> Model:
    """Fit how often the own and the remote blocks' gradients reach a scalar leaf; the simplest numbers that explain it.

    W numbers for two unknowns, which depend where all ranks' features are alike: so what is plain comes first.
    """
    weight = f"{leaf}_weight"
    own = np.eye(model.num_ranks)
    local, remote = (getattr(model.but(**{weight: part}).predict(), leaf) for part in (own, 1 - own))
    observed = np.array([getattr(record, f"{leaf}_grad") or 0.0 for record in seen.records])
    total = (local + remote).sum()
    everywhere = np.full(2, observed.sum() / total if total else 1.0)
    solved = np.linalg.lstsq(np.stack([local, remote]).T, observed, rcond=None)[0]
    quantities = SCALE if leaf == "scale" else BIAS
    for at_home, away in ((1, 0), (0, 1), (0, 0), *(simple(each, seen.tolerance) for each in (everywhere, solved))):
        fitted = model.but(**{weight: own * at_home + (1 - own) * away})
        if not seen.unexplained(fitted) & quantities:
            return fitted
    return model
