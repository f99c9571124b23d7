"""The words that all reports share.

Oracle: words written by hand. Can see: a number that misleads, foreign text that steers a terminal.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify.report import words

from . import samples


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
