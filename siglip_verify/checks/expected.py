"""What the oracle says of a case, under the convention that a loss declares.

Here: from a case and a declaration to the reference. Not here: any comparison (`equivalence`).
"""

from __future__ import annotations

from siglip_verify import features, oracle
from siglip_verify.adapt.spec import LossSpec
from siglip_verify.case import Case


def expected(case: Case, spec: LossSpec) -> oracle.Reference:
    """Return what all ranks should compute in a case, for a loss declared like this."""
    inputs = features.draw(case)
    return oracle.reference(
        inputs.images,
        inputs.texts,
        inputs.scale.item(),
        inputs.bias.item(),
        normalizers=normalizers(case, spec),
        upstream=inputs.upstream,
        reduction=spec.reduction,
    )


def normalizers(case: Case, spec: LossSpec) -> tuple[float, ...]:
    """Return what each rank's sum is declared to be divided by in a case."""
    return spec.normalizers(features.sizes(case))
