"""The finished results: frozen records that survive JSON, from which every report is rendered.

One module for each thing that can be reported. Not here: any computation but sums and comparisons, any rendering.
"""

from siglip_verify.result.catalogue import BugResult, CatalogueResult, ControlResult, WeakerChecker
from siglip_verify.result.compare import (
    HeldAgainst,
    Modelled,
    ModelledStep,
    SimulatorValidation,
    StepCost,
    StepError,
)
from siglip_verify.result.messages import (
    CollectiveRow,
    GatherBackwardCost,
    Match,
    MessageReport,
    MessageRow,
    RankTotal,
    StepMessages,
)
from siglip_verify.result.report import SCHEMA_VERSION, BlockCoverage, LeftOut, LossResult, Report
from siglip_verify.result.verdict import Basis, worst

__all__ = [
    "SCHEMA_VERSION",
    "Basis",
    "BlockCoverage",
    "BugResult",
    "CatalogueResult",
    "CollectiveRow",
    "ControlResult",
    "GatherBackwardCost",
    "HeldAgainst",
    "LeftOut",
    "LossResult",
    "Match",
    "MessageReport",
    "MessageRow",
    "Modelled",
    "ModelledStep",
    "RankTotal",
    "Report",
    "SimulatorValidation",
    "StepCost",
    "StepError",
    "StepMessages",
    "WeakerChecker",
    "worst",
]
