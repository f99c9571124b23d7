"""What the oracle is asked for a case and a declaration.

Oracle: the same question, asked here in full. Sees: an input, an upstream gradient or a declaration that is left out.
"""

from __future__ import annotations

import pytest

from siglip_verify import features, oracle
from siglip_verify.adapt import LossSpec
from siglip_verify.case import Case
from siglip_verify.checks.expected import expected, normalizers


@pytest.mark.parametrize(
    ("spec", "reduction", "divisors"),
    [
        (LossSpec(), "mean", (3.0, 3.0)),
        (LossSpec(reduction="sum", normalizer="N"), "sum", (6.0, 6.0)),
        (LossSpec(normalizer="1"), "mean", (1.0, 1.0)),
    ],
    ids=["open_clip's", "summed", "a sum over pairs"],
)
def test_the_oracle_is_asked_with_what_the_loss_declares(
    spec: LossSpec, reduction: str, divisors: tuple[float, ...]
) -> None:
    case = Case(world_size=2, batch=3, dim=4, scale=5.0, bias=-2.0, upstream="by-rank", seed=1)
    inputs = features.draw(case)
    asked = oracle.reference(
        inputs.images,
        inputs.texts,
        5.0,
        -2.0,
        normalizers=divisors,
        upstream=inputs.upstream,
        reduction=reduction,  # type: ignore[arg-type]
    )
    said = expected(case, spec)
    assert normalizers(case, spec) == divisors
    assert said.reduction == reduction
    for name in ("loss", "scale_grad", "bias_grad"):
        assert getattr(said, name).value == getattr(asked, name).value
    for name in ("image_grad", "text_grad", "local_loss"):
        for ours, theirs in zip(getattr(said, name), getattr(asked, name), strict=True):
            assert ours.value.equal(theirs.value)
