"""What a loss was handed, judged: a rank whose tensors were overwritten is named with them.

Oracle: records written down here. Sees: a wrong rank, a wrong name, a right rank that is blamed. Not: whether ranks see
that a tensor changed (`tests/run`, and `features-overwritten` of the known bugs).
"""

from __future__ import annotations

from siglip_verify.checks.inputs import unchanged
from siglip_verify.records import Finding, RankRecord


def record(rank: int, *changed: str) -> RankRecord:
    return RankRecord(
        rank=rank,
        loss=1.0,
        image_grad=None,
        text_grad=None,
        scale_grad=None,
        bias_grad=None,
        changed_inputs=changed,
    )


def test_ranks_that_left_everything_as_it_was_are_right() -> None:
    assert unchanged([record(0), record(1)]) == ()


def test_who_overwrote_what_is_said() -> None:
    assert unchanged([record(0), record(1, "images", "scale"), record(2, "texts")]) == (
        Finding(name="input-changed", rank=1, detail="rank 1: after the step images and scale held other numbers"),
        Finding(name="input-changed", rank=2, detail="rank 2: after the step texts held other numbers"),
    )
