"""The line that replays a case.

Oracle: the round trip. Sees: a field lost or misread, an error that does not name what is wrong.
"""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify.case import EXCHANGES, Case, format_case, parse_case
from siglip_verify.run.strategies import Dimensions, cases

ANY_ROWS = Dimensions(rows=("equal", "ragged"))


@given(st.sampled_from(EXCHANGES).flatmap(lambda exchange: cases(exchange, range(1, 9), ANY_ROWS)))
def test_every_case_is_read_back_from_its_line(case: Case) -> None:
    assert parse_case(format_case(case)) == case
    assert str(case) == format_case(case)
    assert parse_case(msgspec.json.encode(case).decode()) == case


def test_fields_left_out_take_their_defaults() -> None:
    assert parse_case("shift W=4") == Case(exchange="shift", world_size=4)


def test_equal_rows_go_without_saying() -> None:
    assert "rows" not in format_case(Case())
    assert format_case(Case(rows="ragged")).endswith("seed=0 rows=ragged")


@given(st.text())
def test_any_other_text_is_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):  # which a caller turns into exit code 2; anything else is a traceback
        parse_case(text)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ring W=2", r"Invalid enum value 'ring'"),
        ("", r"Invalid enum value ''"),
        ("shift W=0", r">= 1.*world_size"),
        ("shift W=two", r"Expected `int`.*world_size"),
        ("shift X=2", r"names W, b, d.*got 'X=2'"),
        ("shift 4", r"got '4'"),
        ("shift W=2 W=3", r"names each field once; got 'W=3' after W=2"),
        ("shift dtype=int8", r"Invalid enum value 'int8'.*dtype"),
        ("shift scale=nan", r"scale must be finite"),
        ('{"exchange": "ring"}', r"Invalid enum value 'ring'"),
        ('{"exchange": "shift", "W": 2}', r"unknown field `W`"),
        ("shift rows=ragged features=given", r"given features are cut into equal parts; got rows=ragged"),
        ("{", r"not a case: .*truncated"),
    ],
)
def test_a_line_that_is_no_case_is_refused_by_name(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_case(line)
