"""Prove, on real processes, that a distributed SigLIP loss computes the loss and the gradients of one device.

    SigLipLoss   the reference implementation, a drop-in for open_clip's
    check        hold a distributed loss against the oracle, on real gloo processes
    assert_equivalent   the same, as one line of a test
    LossSpec     what is declared of a loss that is not shaped like open_clip's
    Case         one input of the property
    Report       the finished result

Names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from siglip_verify.adapt import LossSpec
    from siglip_verify.case import Case
    from siglip_verify.loss import SigLipLoss
    from siglip_verify.pytest_plugin import assert_equivalent
    from siglip_verify.result import Report
    from siglip_verify.run.whole import check

_HOME = {
    "Case": "siglip_verify.case",
    "LossSpec": "siglip_verify.adapt",
    "Report": "siglip_verify.result",
    "SigLipLoss": "siglip_verify.loss",
    "assert_equivalent": "siglip_verify.pytest_plugin",
    "check": "siglip_verify.run.whole",
}

__all__ = ["Case", "LossSpec", "Report", "SigLipLoss", "assert_equivalent", "check"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
