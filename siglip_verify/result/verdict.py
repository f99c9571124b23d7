"""What several verdicts amount to, and on what a number rests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from siglip_verify.records import Verdict

Basis = Literal["counted", "measured", "modelled"]


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return mismatch if there is one, else unknown if there is one or if there is no verdict at all, else pass."""
    found = set(verdicts)
    if "mismatch" in found:
        return "mismatch"
    return "pass" if found == {"pass"} else "unknown"
