"""What a diagnosis rests on: the runs that were made of a failing loss, and whether a model explains one of them.

Here: frozen records, and the comparison of a model's numbers with what the ranks recorded. Not here: how the runs are
chosen and made (`run.diagnose`), and which models are tried (the hypotheses).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from siglip_verify.adapt.spec import LossSpec
from siglip_verify.case import Case
from siglip_verify.checks import equivalence
from siglip_verify.checks.coverage import Coverage
from siglip_verify.checks.diagnosis.model import Array, Model, Prediction, right
from siglip_verify.checks.expected import expected, normalizers
from siglip_verify.oracle import Estimate, Reference
from siglip_verify.records import CaseResult, Clue, Finding, Quantity, RankRecord, Share, Verdict

LOSS: frozenset[Quantity] = frozenset({"loss", "local_loss"})
IMAGE: frozenset[Quantity] = frozenset({"image_grad"})
TEXT: frozenset[Quantity] = frozenset({"text_grad"})
SCALE: frozenset[Quantity] = frozenset({"scale_grad", "local_scale_grad"})
BIAS: frozenset[Quantity] = frozenset({"bias_grad", "local_bias_grad"})

_SLACK = 4.0  # a model is off by as much rounding as the oracle, and so is what it explains


@dataclass(frozen=True, eq=False, kw_only=True)
class Observation:
    """One judged step.

    Attributes:
        spec: The loss, with the convention that it declares.
        case: The input.
        records: What each rank computed, in rank order.
        shares: How far each quantity is from the oracle.
        findings: What is wrong with its messages.
        operations: What rank 0 sent, in words.
    """

    spec: LossSpec
    case: Case
    records: tuple[RankRecord, ...]
    shares: tuple[Share, ...]
    findings: tuple[Finding, ...] = ()
    operations: str = ""

    @cached_property
    def reference(self) -> Reference:
        """What the oracle says."""
        return expected(self.case, self.spec)

    @cached_property
    def right(self) -> Model:
        """The model of a loss without a fault."""
        return right(self.case, normalizers(self.case, self.spec))

    @property
    def wrong(self) -> frozenset[Quantity]:
        """The quantities that are beyond their bound."""
        return _beyond(self.shares)

    @property
    def tolerance(self) -> float:
        """How far a number that is read off the gradients may be from a simple one."""
        return min(max(1e5 * torch.finfo(getattr(torch, self.case.dtype)).eps, 1e-7), 0.02)

    def unexplained(self, model: Model | Prediction) -> frozenset[Quantity]:
        """Return the quantities that are not what a model predicts, to within the case's bounds.

        The bound is that of the largest element of the quantity on any rank, times what the model makes of it: a
        gradient that went to another rank brings that rank's rounding with it.
        """
        predicted = model.predict() if isinstance(model, Model) else model
        reference = _as_reference(predicted, self.reference)
        return _beyond(equivalence.judge(self.case, self.records, reference, row_wise=self.spec.row_wise))

    def explained_by(self, model: Model | Prediction) -> bool:
        """Tell whether a model predicts every number that the ranks recorded."""
        return not self.unexplained(model)

    def passes_by(self, model: Model) -> bool:
        """Tell whether it would pass if the oracle said what a model does; for faults that are small beside bounds.

        The bounds are the oracle's own, element by element, without any allowance for what the model explains.
        """
        reference = _with_values(model.predict(), self.reference)
        return not _beyond(equivalence.judge(self.case, self.records, reference, row_wise=self.spec.row_wise))

    def judged_as(self, spec: LossSpec) -> bool:
        """Tell whether it would pass under another declaration."""
        shares = equivalence.judge(self.case, self.records, expected(self.case, spec), row_wise=spec.row_wise)
        return not _beyond(shares)

    def images(self) -> Array | None:
        """Return all image gradients [W, b, d], zero where one is missing; None where one is not finite."""
        return _stacked([record.image_grad for record in self.records], self.right.images.shape)

    def texts(self) -> Array | None:
        """Return all text gradients [W, b, d], zero where one is missing; None where one is not finite."""
        return _stacked([record.text_grad for record in self.records], self.right.images.shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class Evidence:
    """Everything that was seen of a failing loss.

    Attributes:
        found: The shrunk case and its judgement.
        plain: A larger, plainer case that fails as well, run again; None where none could be run or fails.
        again: The same case, run a second time.
        needs: Where a case must not be plain to fail: names and values of its fields.
        coverage: What the coverage probe says at the W of `plain`; None where it did not end.
        verdicts: At each W: a mismatch where any case is known to fail, else that of the plain case.
        notes: What went wrong while these runs were made.
    """

    found: CaseResult
    plain: Observation | None = None
    again: Observation | None = None
    needs: tuple[tuple[str, str], ...] = ()
    coverage: Coverage | None = None
    verdicts: dict[int, Verdict]
    notes: tuple[Clue, ...] = ()

    def sizes(self, verdict: Verdict) -> tuple[int, ...]:
        """List the world sizes with a verdict."""
        return tuple(sorted(size for size, found in self.verdicts.items() if found == verdict))

    def needed(self, field: str) -> str | None:
        """Return the value that a field of the case must have for it to fail; None where it need not."""
        return dict(self.needs).get(field)


def _stacked(grads: Sequence[Array | None], shape: tuple[int, ...]) -> Array | None:
    found = [np.zeros(shape[1:]) if grad is None else grad for grad in grads]
    return np.stack(found) if all(grad.shape == shape[1:] and np.isfinite(grad).all() for grad in found) else None


def _beyond(shares: Sequence[Share]) -> frozenset[Quantity]:
    return frozenset(share.quantity for share in shares if not share.share <= 1)


def _as_reference(predicted: Prediction, reference: Reference) -> Reference:
    """Put predicted values in the place of the oracle's, with bounds that allow for them."""
    parts = len(predicted.loss) if reference.reduction == "mean" else 1

    def reduced(values: Array, of: Sequence[Estimate], whole: Estimate) -> Estimate:
        (estimate,) = _estimates([values.sum() / parts], [*of, whole], values)
        return estimate

    def local(values: Array, of: Sequence[Estimate]) -> tuple[Estimate, ...]:
        return tuple(_estimates(values, of, values))

    return Reference(
        local_loss=local(predicted.loss, reference.local_loss),
        image_grad=local(predicted.image, reference.image_grad),
        text_grad=local(predicted.text, reference.text_grad),
        local_scale_grad=local(predicted.scale, reference.local_scale_grad),
        local_bias_grad=local(predicted.bias, reference.local_bias_grad),
        loss=reduced(predicted.loss, reference.local_loss, reference.loss),
        scale_grad=reduced(predicted.scale, reference.local_scale_grad, reference.scale_grad),
        bias_grad=reduced(predicted.bias, reference.local_bias_grad, reference.bias_grad),
        reduction=reference.reduction,
    )


def _with_values(predicted: Prediction, reference: Reference) -> Reference:
    """Put predicted values in the place of the oracle's, at the oracle's bounds."""
    parts = len(predicted.loss) if reference.reduction == "mean" else 1

    def each(values: Iterable[Array], of: Iterable[Estimate]) -> tuple[Estimate, ...]:
        return tuple(itertools.starmap(one, zip(values, of, strict=True)))

    def one(value: Array, of: Estimate) -> Estimate:
        return dataclasses.replace(of, value=torch.as_tensor(value, dtype=torch.float64))

    return dataclasses.replace(
        reference,
        local_loss=each(predicted.loss, reference.local_loss),
        image_grad=each(predicted.image, reference.image_grad),
        text_grad=each(predicted.text, reference.text_grad),
        local_scale_grad=each(predicted.scale, reference.local_scale_grad),
        local_bias_grad=each(predicted.bias, reference.local_bias_grad),
        loss=one(predicted.loss.sum() / parts, reference.loss),
        scale_grad=one(predicted.scale.sum() / parts, reference.scale_grad),
        bias_grad=one(predicted.bias.sum() / parts, reference.bias_grad),
    )


def _estimates(predicted: Iterable[Array], of: Sequence[Estimate], values: Array) -> Iterator[Estimate]:
    """Give each prediction the largest bounds of some estimates, which grow as `values` do beside theirs."""
    largest = max(float(estimate.value.abs().max()) for estimate in of)
    growth = _SLACK * max(1.0, float(np.abs(values).max()) / largest if largest else 1.0)
    magnitude = growth * max(float(estimate.magnitude.max()) for estimate in of)
    underflow = growth * max(float(estimate.underflow.max()) for estimate in of)
    for value in predicted:
        seen = torch.as_tensor(value, dtype=torch.float64)
        yield Estimate(seen, torch.full_like(seen, magnitude), torch.full_like(seen, underflow))
