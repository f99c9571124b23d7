"""The sentence that every report begins with.

Oracle: sentences written by hand. Can see: a headline that is wrong or unclear, or that hides a failure.
"""

from __future__ import annotations

import pytest

from siglip_verify.report.headline import headline

from . import samples


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (
            samples.passing(),
            "PASS: 2 losses equal one device in 4 exchanges: 640 cases, W = 1..4; 2 of 2 planted bugs caught",
        ),
        (
            samples.report(samples.loss(cells=(samples.cell("shift", 2, cases=1),))),
            "PASS: siglip_verify.loss:SigLipLoss equals one device in shift: 1 case, W = 2",
        ),
        (
            samples.report(samples.loss("a"), samples.loss("b", cells=(samples.cell("bidir", 3),))),
            "PASS: 2 losses equal one device: 340 cases, W = 1..4",
        ),
        (
            samples.report(samples.loss("x:Loss"), samples.loss("x:Loss(memory=constant)")),
            "PASS: x:Loss in 2 forms equals one device in 4 exchanges: 640 cases, W = 1..4",
        ),
        (
            samples.mismatching(),
            "MISMATCH: bidir of my_loss.py:Loss fails at W = 2, 4; 320 cases judged; 1 of 2 planted bugs caught",
        ),
        (
            samples.unjudged(),
            "UNKNOWN: shift of my_loss.py:Loss is undecided at W = 3, 4 (a rank raised); 280 cases judged",
        ),
        (samples.report(), "UNKNOWN: nothing was checked; 0 cases judged"),
    ],
)
def test_the_headline_says_the_verdict_and_what_it_rests_on(report: samples.Report, said: str) -> None:
    assert str(headline(report)) == said


def test_many_failures_are_counted_and_the_first_are_named() -> None:
    cells = tuple(samples.cell(exchange, 2, "mismatch") for exchange in samples.EXCHANGES)
    said = headline(samples.report(samples.loss("x", cells=cells)))
    assert str(said) == (
        "MISMATCH: 4 of 4 exchanges fail: bidir of x at W = 2; shift of x at W = 2; reduce of x at W = 2; 1 more; "
        "80 cases judged"
    )


def test_a_counterexample_counts_though_every_cell_passes() -> None:
    loss = samples.loss("x", verdict="mismatch", counterexamples=(samples.counterexample(),))
    said = headline(samples.report(loss))
    assert str(said) == "MISMATCH: bidir of x fails at W = 2; 320 cases judged"


def test_a_mismatch_does_not_hide_what_is_undecided() -> None:
    cells = (samples.cell("bidir", 2, "mismatch"), samples.cell("shift", 2, "unknown"))
    assert "; 1 more undecided; " in str(headline(samples.report(samples.loss("x", cells=cells))))
