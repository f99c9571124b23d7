"""Hypotheses: logits are made of another scale, bias or text, in some blocks or all, or some rows weigh wrongly.

Each is a model with one part replaced. The first that explains every number is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from siglip_verify.checks.diagnosis import fit, words
from siglip_verify.checks.diagnosis.evidence import LOSS, Evidence, Observation
from siglip_verify.checks.diagnosis.model import Array, Model
from siglip_verify.checks.diagnosis.statement import Statement

_CLAMPS = (100.0, 50.0, 30.0, 20.0, 10.0)


class _Variant(NamedTuple):
    cause: str
    sentence: str
    model: Model


def another_scale_or_bias(evidence: Evidence) -> Statement | None:
    """The scale or the bias is left out, or enters as something else, in some of the logits."""
    seen = evidence.plain
    return _first(seen, _scalar_variants(seen.right)) if seen else None


def scale_clamped(evidence: Evidence) -> Statement | None:
    """A large scale enters the logits as a smaller, round number."""
    seen = evidence.plain
    if seen is None or not seen.unexplained(seen.right) & LOSS:
        return None
    return _first(seen, _clamped(seen.right))


def other_texts(evidence: Evidence) -> Statement | None:
    """A block is computed with something else than the texts that it should hold."""
    seen = evidence.plain
    return _first(seen, _text_variants(seen.right)) if seen and seen.case.world_size > 1 else None


def _first(seen: Observation, variants: Iterator[_Variant]) -> Statement | None:
    for variant in variants:
        if not seen.unexplained(variant.model) & LOSS and fit.complete(seen, variant.model) is not None:
            return Statement(variant.cause, variant.sentence)
    return None


def _places(model: Model) -> dict[str, Array]:
    """Return where in the pair array a part may be replaced."""
    own = np.eye(model.num_ranks)[:, None, :, None] == 1
    everywhere = np.ones_like(own)
    places = {
        "": everywhere,
        " of remote blocks": ~own,
        " of the own block": own,
        " of positive pairs": model.labels == 1,
    }
    return places if model.num_ranks > 1 else {"": everywhere, " of positive pairs": model.labels == 1}


def _scalar_variants(right: Model) -> Iterator[_Variant]:
    t, c = right.scale.item(), right.bias.item()
    scales = [
        ("scale-dropped", "logit_scale is left out of the logits{}", 1.0, 0.0),
        ("scale-twice", "logit_scale is applied twice in the logits{}", t * t, 2 * t),
        ("scale-exponential", "logit_scale is exponentiated once more in the logits{}", np.exp(t), np.exp(t)),
        ("scale-inverse", "the logits{} are divided by logit_scale", 1 / t if t else 0.0, -1 / t**2 if t else 0.0),
    ]
    if t > 0:
        said = "the logarithm of logit_scale stands for the scale in the logits{}"
        scales.append(("scale-logarithm", said, np.log(t), 1 / t))
    biases = [
        ("bias-dropped", "logit_bias is left out of the logits{}", 0.0, 0.0, 0.0),
        ("bias-negated", "logit_bias enters the logits{} with the wrong sign", -c, -1.0, 0.0),
        ("bias-twice", "logit_bias is added twice in the logits{}", 2 * c, 2.0, 0.0),
        ("bias-scaled", "logit_bias is multiplied by logit_scale in the logits{}", t * c, t, c),
    ]
    for where, place in _places(right).items():
        for cause, sentence, value, slope in scales:
            model = right.but(scale=np.where(place, value, t), scale_slope=np.where(place, slope, 1.0))
            yield _Variant(cause, sentence.format(where), model)
        for cause, sentence, value, slope, slope_of_scale in biases:
            model = right.but(
                bias=np.where(place, value, c),
                bias_slope=np.where(place, slope, 1.0),
                bias_slope_of_scale=np.where(place, slope_of_scale, 0.0),
            )
            yield _Variant(cause, sentence.format(where), model)


def _clamped(right: Model) -> Iterator[_Variant]:
    t = right.scale.item()
    for most in _CLAMPS:
        if t > most:
            model = right.but(scale=np.full_like(right.scale, most))
            flat = model.but(scale_slope=np.zeros_like(right.scale))
            said = f"the scale is clamped at {most:g}: t = {t:g} enters the logits as {most:g}"
            yield _Variant("scale-clamped", f"{said}, and gets no gradient there", flat)
            yield _Variant("scale-clamped", said, model)


def _text_variants(right: Model) -> Iterator[_Variant]:
    remote = ~np.eye(right.num_ranks, dtype=bool)[:, :, None, None]
    total = np.broadcast_to(right.texts.sum(1, keepdims=True), right.texts.shape)
    others = {
        (
            "texts-summed",
            "the sum of all ranks' texts: an all-reduce to which every rank adds its own, without a mask",
        ): total,
        ("texts-averaged", "the mean of all ranks' texts"): total / right.num_ranks,
        ("texts-zero", "zeros where texts should be: read without a wait for them, or never received"): np.zeros_like(
            right.texts
        ),
        ("own-texts", "the rank's own texts"): np.einsum("ik,iild->ikld", np.ones(remote.shape[:2]), right.texts),
        ("images-for-texts", "images where texts should be"): np.broadcast_to(right.images, right.texts.shape),
        ("rows-reversed", "the texts in reverse order of rows"): right.texts[:, :, ::-1],
    }
    for (cause, what), texts in others.items():
        for where, place in (("every block holds", np.ones_like(remote)), ("remote blocks hold", remote)):
            yield _Variant(cause, f"{where} {what}", right.but(texts=np.where(place, texts, right.texts)))


def saved_texts_overwritten(evidence: Evidence) -> Statement | None:
    """Backward finds other texts than forward used."""
    seen = evidence.plain
    if seen is None or not seen.wrong or seen.case.world_size == 1 or seen.unexplained(seen.right) & LOSS:
        return None
    right, num_ranks = seen.right, seen.case.world_size
    remote = ~np.eye(num_ranks, dtype=bool)[:, :, None, None]
    predicted = right.predict()
    for distance in range(num_ranks):
        held = np.stack([right.texts[rank, (rank + distance) % num_ranks] for rank in range(num_ranks)])
        texts = np.where(remote, held[:, None], right.texts)
        image, _ = right.blocks(texts)
        whose = (
            "the rank's own texts"
            if distance == 0
            else f"only one rank's texts (rank {distance % num_ranks}'s on rank 0)"
        )
        if seen.explained_by(predicted._replace(image=image.sum(1))):
            return Statement(
                "saved-texts-overwritten",
                f"the image gradient of remote blocks is computed with {whose}: what backward needs was overwritten",
            )
        if seen.explained_by(right.but(texts=texts).predict()._replace(loss=predicted.loss)):
            return Statement(
                "backward-of-other-texts",
                f"the gradient of remote blocks is computed with {whose}, which forward did not use there",
            )
    return None


def rows_weigh_wrongly(evidence: Evidence) -> Statement | None:
    """Some image rows count more or less than others."""
    seen = evidence.plain
    weights = fit.row_weights(seen, seen.right) if seen else None
    if seen is None or weights is None or (weights == 1).all() or (weights != weights[0]).any():
        return None
    weight = weights[:, :, None, None]
    if fit.complete(seen, seen.right.but(use=weight * seen.right.use, labels=weight * seen.right.labels)) is None:
        return None
    said = words.row_weights(weights[0])
    if evidence.needed("chunk_size"):
        dropped = weights[0, -1] == 0
        what = (
            "the rows of a last chunk that is not full are dropped"
            if dropped
            else "chunks weigh alike, however many rows they have"
        )
        return Statement("chunk-weights", f"{what} (weights of the rows: {said})")
    return Statement("row-weights", f"image rows do not weigh alike: {said}")
