"""Hypotheses about numbers as such: races, not a number, upstream, values reduced too early, precision, some ranks."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import torch

from siglip_verify.case import DTYPES
from siglip_verify.checks import equivalence
from siglip_verify.checks.diagnosis import words
from siglip_verify.checks.diagnosis.evidence import BIAS, Evidence, Observation
from siglip_verify.checks.diagnosis.model import Array, Prediction
from siglip_verify.checks.diagnosis.statement import Statement
from siglip_verify.records import Clue, Quantity

_LOCAL_LOSS: frozenset[Quantity] = frozenset({"local_loss"})
_LOCAL: dict[Quantity, str] = {
    "local_loss": "loss",
    "local_scale_grad": "gradient of the scale",
    "local_bias_grad": "gradient of the bias",
}

# How many eps of its largest element a narrower dtype moves a quantity by, at most. Measured in plain cases, W = 1..5,
# 59 seeds each: features, texts or logits rounded to float32, float16 or bfloat16, and all of a block computed there.
# At worst 5.6 in the gradient of the scale, 1.8 in loss and features; 0.9 where real rings carry bfloat16 for float64.
_ROUNDINGS = 8.0

_THRESHOLD = 20  # of torch.nn.functional.softplus, unless another is asked for


def differs_between_runs(evidence: Evidence) -> Statement | None:
    """The same case gives other numbers each time."""
    seen, again = evidence.plain, evidence.again
    if seen is None or again is None or not _finite(seen) or not seen.unexplained(_recorded(again)):
        return None
    if evidence.verdicts.get(1) == "mismatch":
        return Statement(
            "random",
            "the same case gives other numbers each time it is run, and one rank alone fails too, which waits for no "
            "message: something random is in it, such as dropout, or memory that was never written",
        )
    return Statement(
        "race",
        "the same case gives other numbers each time it is run: something is read before the wait for it, or sent in "
        "no fixed order",
    )


def not_a_number(evidence: Evidence) -> Statement | None:
    """Something is inf or nan."""
    seen = evidence.plain
    if seen is None or _finite(seen):
        return None
    where = words.ranks(_not_finite(seen), seen.case.world_size)
    sentence = f"the loss or a gradient is inf or nan on {where}"
    if large := _large_logits(evidence):
        said = f"{sentence} {large}: digits are lost there, as by log(sigmoid(z)) in two steps"
        return Statement("large-logits", said)
    if seen.case.world_size > 1 and evidence.verdicts.get(1) == "pass":
        said = "memory may be read before the message has come that it waits for (it is filled with nan until then)"
        return Statement("not-finite-with-peers", f"{sentence}, and never on one rank alone: {said}")
    return Statement("not-finite", sentence)


def softplus_beyond_its_threshold(evidence: Evidence) -> Statement | None:
    """The softplus of large logits is torch's, which is linear beyond a threshold."""
    seen = evidence.plain
    if seen is None or not seen.wrong:
        return None
    _, z = seen.right.logits()
    against_its_label = np.where(seen.right.labels == 1, -z, z)
    for argument in (against_its_label, z):  # softplus(-label z), and softplus(z) less the logits of positive pairs
        if seen.passes_by(seen.right.but(without_exp=argument > _THRESHOLD)):
            return Statement(
                "softplus-threshold",
                f"torch's softplus drops exp(-z) beyond its threshold of {_THRESHOLD}, an error of up to 2e-9 that "
                "float64 shows; logsigmoid has none",
            )
    return None


def _finite(seen: Observation) -> bool:
    return not _not_finite(seen)


def _not_finite(seen: Observation) -> list[int]:
    return [rank for rank in range(seen.case.world_size) if not _is_finite(seen, rank)]


def _recorded(seen: Observation) -> Prediction:
    """Return what the ranks recorded as a prediction; a missing gradient is zero."""
    zeros = np.zeros_like(seen.right.images[0])
    return Prediction(
        loss=np.array([record.loss for record in seen.records]),
        image=np.stack([zeros if record.image_grad is None else record.image_grad for record in seen.records]),
        text=np.stack([zeros if record.text_grad is None else record.text_grad for record in seen.records]),
        scale=np.array([record.scale_grad or 0.0 for record in seen.records]),
        bias=np.array([record.bias_grad or 0.0 for record in seen.records]),
    )


def _is_finite(seen: Observation, rank: int) -> bool:
    record = seen.records[rank]
    grads = (record.image_grad, record.text_grad, record.scale_grad, record.bias_grad)
    return math.isfinite(record.loss) and all(bool(np.isfinite(grad).all()) for grad in grads if grad is not None)


def right_only_at_small_logits(evidence: Evidence) -> Statement | None:
    """It fails only where logits are large."""
    large = _large_logits(evidence)
    return Statement("large-logits", f"the numbers are wrong {large}") if large else None


def _large_logits(evidence: Evidence) -> str:
    seen = evidence.plain
    if seen is None or not evidence.needed("scale") or abs(seen.case.scale) < 10:
        return ""
    return f"where logits are large (t = {seen.case.scale:g}, c = {seen.case.bias:g}), and right at t = 3.7"


def upstream_ignored(evidence: Evidence) -> Statement | None:
    """Gradients are what they would be with an upstream gradient of 1."""
    seen = evidence.plain
    if seen is None or not evidence.needed("upstream"):
        return None
    model = seen.right.but(weight=1 / seen.right.normalizers)
    if seen.explained_by(model):
        return Statement(
            "upstream-ignored", "the upstream gradient that reaches the loss is ignored: gradients are as with 1"
        )
    ones, right = model.predict(), seen.right.predict()
    for name in ("text", "image", "scale", "bias"):
        if seen.explained_by(right._replace(**{name: getattr(ones, name)})):
            said = f"the {name} gradient ignores the upstream gradient that reaches the loss: it is as with 1"
            return Statement("upstream-ignored", said)
    return None


def local_value_reduced(evidence: Evidence) -> Statement | None:
    """Every rank returns the loss of all ranks together."""
    seen = evidence.plain
    if seen is None or seen.wrong != _LOCAL_LOSS:
        return None
    predicted = seen.right.predict()
    if not seen.explained_by(predicted._replace(loss=np.full_like(predicted.loss, predicted.loss.mean()))):
        return None
    clue = Clue(title="if that is meant", text="declare it with --no-row-wise")
    return Statement(
        "local-loss-reduced", "the loss is the mean over ranks, the same on every rank, and not the rank's own", (clue,)
    )


def right_over_all_ranks(evidence: Evidence) -> Statement | None:
    """Ranks' own values are wrong, and their mean or sum over ranks is right."""
    seen = evidence.plain
    if seen is None or evidence.needs or not seen.wrong or not seen.wrong <= set(_LOCAL):
        return None  # what is meant so is so in a plain case
    if not seen.judged_as(msgspec.structs.replace(seen.spec, row_wise=False)):
        return None
    recorded = _recorded(seen)
    shared = {name: _shared(getattr(recorded, name)) for name in ("loss", "scale", "bias")}
    own = words.listed([_LOCAL[quantity] for quantity in _LOCAL if quantity in seen.wrong])
    said = (
        f"every rank returns the {own} of all ranks together, and not its own part"
        if seen.explained_by(recorded._replace(**shared))
        else f"the {own} of single ranks {'are' if len(seen.wrong) > 1 else 'is'} wrong, and right in the "
        f"{seen.spec.reduction} over ranks"
    )
    return Statement("right-over-all-ranks", f"{said}: is that meant? try --no-row-wise")


def _shared(values: Array) -> Array:
    """Return the mean over ranks, on every rank."""
    return np.full_like(values, values.mean())


def narrower_precision(evidence: Evidence) -> Statement | None:
    """Errors are within the rounding of a narrower dtype."""
    seen = evidence.plain
    if seen is None or not seen.wrong:
        return None
    for dtype in sorted(DTYPES, key=lambda name: torch.finfo(getattr(torch, name)).eps):
        if torch.finfo(getattr(torch, dtype)).eps <= torch.finfo(getattr(torch, seen.case.dtype)).eps:
            continue
        narrow = msgspec.structs.replace(seen.case, dtype=dtype, scalars="0-dim")
        shares = equivalence.judge(narrow, seen.records, seen.reference, row_wise=seen.spec.row_wise)
        if all(share.share <= 1 for share in shares) and _is_rounding(seen, dtype):
            said = f"errors are as large as {dtype} rounds, where everything is {seen.case.dtype}"
            return Statement("narrow-precision", f"{said}: something may be narrower on its way")
    return None


def _is_rounding(seen: Observation, dtype: str) -> bool:
    """Tell whether each quantity is off by a few eps of a dtype, as its largest element goes.

    The bound by itself is wide: in bfloat16 it lets numbers pass that are off by half.
    """
    most = _ROUNDINGS * torch.finfo(getattr(torch, dtype)).eps
    return all(share.error <= most * _largest(seen, share.quantity) for share in seen.shares)


def _largest(seen: Observation, quantity: Quantity) -> float:
    """Return the largest element of a quantity on any rank; of the bias, which may cancel, that of its terms' sizes."""
    if quantity in BIAS:
        return float(seen.right.but(labels=-seen.right.labels).predict().bias.max())
    estimates = getattr(seen.reference, quantity)
    each = estimates if isinstance(estimates, tuple) else (estimates,)
    return max(float(estimate.value.abs().max()) for estimate in each)


def kept_from_the_step_before(evidence: Evidence) -> Statement | None:
    """The first step of a loss is right, and its second is not."""
    if evidence.needed("call") != "second":
        return None
    said = "what the loss kept from the step before goes into this one; its first step is right"
    return Statement("kept-state", said)


def only_some_ranks(evidence: Evidence) -> Statement | None:
    """Some ranks are right and others are not."""
    seen = evidence.plain
    if seen is None or not seen.spec.row_wise:
        return None
    predicted = seen.right.predict()
    alike = [rank for rank in range(seen.case.world_size) if _agrees(seen, rank, predicted.loss, predicted.image)]
    if not 0 < len(alike) < seen.case.world_size:
        return None
    wrong = [rank for rank in range(seen.case.world_size) if rank not in alike]
    verb = f"compute{'s' * (len(alike) == 1)}"
    said = f"only {words.ranks(alike)} {verb} the right loss and image gradient, {words.ranks(wrong)} not"
    rooted = ": a rooted reduce leaves its result on its root alone" if " reduce" in seen.operations else ""
    return Statement("some-ranks", said + rooted)


def _agrees(seen: Observation, rank: int, loss: Array, image: Array) -> bool:
    record = seen.records[rank]
    close = abs(record.loss - loss[rank]) <= seen.tolerance * max(1.0, abs(loss[rank]))
    grad = record.image_grad
    return (
        close
        and grad is not None
        and bool(np.abs(grad - image[rank]).max() <= seen.tolerance * max(1.0, np.abs(image).max()))
    )
