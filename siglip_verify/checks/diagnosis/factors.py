"""Hypothesis: everything, or a gradient as a whole, is off by one constant factor."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np

from siglip_verify.adapt.spec import LossSpec
from siglip_verify.checks.diagnosis.evidence import Evidence, Observation
from siglip_verify.checks.diagnosis.model import Model
from siglip_verify.checks.diagnosis.statement import Statement
from siglip_verify.checks.diagnosis.words import factor
from siglip_verify.records import Clue

# What a loss that fits another declaration most likely is; of those that fit, the first is named.
_CONVENTIONS = (
    ("sum", "N", "is this a loss for summed gradients?"),
    ("mean", "1", "is this a sum over pairs?"),
    ("mean", "b*b", "is this a mean over the b x b pairs of each block?"),
    ("mean", "b", "is this a mean over the rank's own images?"),
)


def everything_times_a_factor(evidence: Evidence) -> Statement | None:
    """Loss and all gradients are the oracle's times one factor."""
    seen = evidence.plain
    if seen is None or seen.images() is None:
        return None
    images, expected = seen.images(), seen.right.predict().image
    assert images is not None
    whole = float((images * expected).sum() / (expected**2).sum())
    exact = _exact(whole, seen)
    named = factor(exact, seen.case.world_size, seen.case.batch, seen.tolerance)
    if abs(exact - 1) <= seen.tolerance or not seen.explained_by(_times(seen.right, exact)):
        return None
    sentence = f"loss and all gradients are equal to the oracle times {named}"
    hint = convention(seen)
    clues = (Clue(title="another declaration", text=f"every number fits with {hint[1]}"),) if hint else ()
    return Statement("factor", f"{sentence}: {hint[0]} try {hint[1]}" if hint else sentence, clues)


def convention(seen: Observation) -> tuple[str, str] | None:
    """Return the question and the flags of another declaration under which everything fits; None if there is none."""
    for reduction, normalizer, question in _CONVENTIONS:
        spec: LossSpec = msgspec.structs.replace(seen.spec, reduction=reduction, normalizer=normalizer)
        flags = [
            f"--{name} {value}"
            for name, value, declared in (
                ("reduction", reduction, seen.spec.reduction),
                ("normalizer", normalizer, seen.spec.normalizer),
            )
            if value != declared
        ]
        if flags and seen.judged_as(spec):
            return question, " ".join(flags)
    return None


def _times(model: Model, value: float) -> Model:
    return model.but(use=model.use * value, labels=model.labels * value)


def _exact(value: float, seen: Observation) -> float:
    """Return the product of powers of W, b and small numbers that a factor is nearly equal to, or the factor."""
    sizes = (seen.case.world_size, seen.case.batch)
    for powers in itertools.product((0, 1, -1, 2, -2), repeat=2):
        unit = float(np.prod([float(size) ** power for size, power in zip(sizes, powers, strict=True)]))
        for small in (1.0, 2.0, 0.5, -1.0):
            if abs(value - small * unit) <= seen.tolerance * abs(small * unit):
                return small * unit
    return value
