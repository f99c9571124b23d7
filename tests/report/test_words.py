"""The words that all reports share.

Oracle: sentences and numbers written by hand. Can see: a headline that is wrong or unclear, a number that misleads.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify.report import words

from . import samples


@pytest.mark.parametrize(
    ("report", "headline"),
    [
        (
            samples.passing(),
            "PASS: 4 exchanges of 2 losses equal the single-device oracle on 640 cases, W = 1..4; 2 of 2 planted bugs caught",  # noqa: E501
        ),
        (
            samples.report(samples.loss(cells=(samples.cell("shift", 2, cases=1),))),
            "PASS: 1 exchange of 1 loss equals the single-device oracle on 1 case, W = 2",
        ),
        (
            samples.report(samples.loss("a"), samples.loss("b", cells=(samples.cell("bidir", 3),))),
            "PASS: 4 exchanges of a and 1 exchange of b equal the single-device oracle on 340 cases, W = 1..4",
        ),
        (
            samples.mismatching(),
            "MISMATCH: 1 of 4 exchanges fails: bidir of my_loss.py:Loss at W = 2, 4; 320 cases judged; 1 of 2 planted bugs caught",  # noqa: E501
        ),
        (
            samples.unjudged(),
            "UNKNOWN: 1 of 4 exchanges came to no judgement: shift of my_loss.py:Loss at W = 3, 4; 280 cases judged",
        ),
        (samples.report(), "UNKNOWN: nothing was checked; 0 cases judged"),
    ],
)
def test_the_headline_says_the_verdict_and_what_it_rests_on(report: samples.Report, headline: str) -> None:
    assert words.headline(report) == headline


def test_many_failures_are_counted_and_the_first_are_named() -> None:
    cells = tuple(samples.cell(exchange, 2, "mismatch") for exchange in samples.EXCHANGES)
    headline = words.headline(samples.report(samples.loss("x", cells=cells)))
    assert headline == (
        "MISMATCH: 4 of 4 exchanges fail: bidir of x at W = 2; shift of x at W = 2; reduce of x at W = 2; 1 more; "
        "80 cases judged"
    )


def test_a_counterexample_counts_though_every_cell_passes() -> None:
    loss = samples.loss("x", verdict="mismatch", counterexamples=(samples.counterexample(),))
    headline = words.headline(samples.report(loss))
    assert headline == "MISMATCH: 1 of 4 exchanges fails: bidir of x at W = 2; 320 cases judged"


def test_a_mismatch_does_not_hide_what_came_to_no_judgement() -> None:
    cells = (samples.cell("bidir", 2, "mismatch"), samples.cell("shift", 2, "unknown"))
    assert "; 1 more came to no judgement; " in words.headline(samples.report(samples.loss("x", cells=cells)))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "0"),
        (1e-9, "<0.001"),
        (0.4124, "0.412"),
        (1.0, "1.000"),
        (12.5, "12.500"),
        (1234.5, "1.2e3"),
        (4.1e14, "4.1e14"),
        (math.inf, "inf"),
        (math.nan, "nan"),
    ],
)
def test_a_share_is_said_in_few_characters(value: float, said: str) -> None:
    assert words.share(value) == said


def test_a_share_beyond_its_bound_is_never_said_to_be_at_it() -> None:
    assert words.share(math.nextafter(1, 2)) == ">1.000"
    assert words.share(0.99999) == "<1.000"


@pytest.mark.parametrize(
    ("numbers", "said"), [([], "none"), ([3], "3"), ([1, 2], "1, 2"), ([5, 1, 2, 3, 2], "1..3, 5")]
)
def test_runs_of_numbers_are_said_short(numbers: list[int], said: str) -> None:
    assert words.ranges(numbers) == said


def test_a_share_that_is_no_number_is_the_worst() -> None:
    shares = [samples.text_share(1e300), samples.text_share(math.nan), samples.text_share(0.0)]
    worst = words.worst_share(shares)
    assert worst is not None
    assert math.isnan(worst.share)
    assert words.worst_share([]) is None


@given(st.text())
def test_printable_text_cannot_steer_a_terminal(text: str) -> None:
    assert all(char.isprintable() or char in "\n\t" for char in words.printable(text))
    assert words.one_line(text).isprintable()


def test_the_first_lines_are_kept_and_the_rest_counted() -> None:
    assert words.first_lines("a\nb\nc\nd", 2) == "a\nb\n... 2 lines left out"
    assert words.first_lines("a\nb\n\n", 2) == "a\nb"


def test_a_line_that_is_very_long_is_cut_and_the_cut_is_said() -> None:
    assert words.last_lines("x" * 500, 2) == "x" * 400 + " ... 100 characters left out"
    assert words.one_line("x" * 2001).endswith("x ... 1 characters left out")


def test_the_last_lines_are_kept_and_the_rest_counted() -> None:
    assert words.last_lines("a\nb\nc\n", 2) == "... 1 line left out\nb\nc"
    assert words.last_lines("a\nb\n\n", 2) == "a\nb"
    assert words.last_lines("", 2) == ""
