"""What a loss does to what its caller handed it: nothing, or whoever uses these tensors next reads other numbers."""

from __future__ import annotations

from collections.abc import Iterable

from siglip_verify.records import Finding, RankRecord

INPUT_FINDINGS: dict[str, str] = {
    "input-changed": "A loss overwrites the features, the scale or the bias that its caller handed it.",
}


def unchanged(records: Iterable[RankRecord]) -> tuple[Finding, ...]:
    """Find the ranks whose inputs were not the same after the step, bit for bit."""
    return tuple(
        Finding(
            name="input-changed",
            rank=record.rank,
            detail=f"rank {record.rank}: after the step {' and '.join(record.changed_inputs)} held other numbers",
        )
        for record in records
        if record.changed_inputs
    )
