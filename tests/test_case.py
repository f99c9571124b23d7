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


@given(
    st.sampled_from(["W", "b", "d", "chunk", *Case.__struct_fields__[4:]]), st.from_regex(r"[\w.+-]*", fullmatch=True)
)
def test_a_value_that_a_field_cannot_have_is_said_in_words(name: str, value: str) -> None:
    try:
        parse_case(f"bidir {name}={value}")
    except ValueError as error:
        said = str(error)
    else:
        return
    assert name.partition("_")[0] in said
    assert value in said or "must be finite" in said
    assert "$" not in said, "a place in a document that the user never saw"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ring W=2", r"^not a case: exchange is one of bidir, shift, reduce, gather; got exchange=ring$"),
        ("", r"exchange is one of bidir, shift, reduce, gather; got exchange=$"),
        ("shift W=0", r"^not a case: W is a whole number, 1 at least and 1048576 at most; got W=0$"),
        ("shift W=two", r"W is a whole number, 1 at least and 1048576 at most; got W=two$"),
        ("shift chunk=-1", r"chunk is a whole number, 0 at least; got chunk=-1$"),
        ("shift seed=4294967296", r"seed is a whole number, 0 at least and 4294967295 at most; got seed=4294967296$"),
        ("shift scale=x", r"scale is a number; got scale=x$"),
        ("shift X=2", r"names W, b, d.*got 'X=2'"),
        ("shift 4", r"got '4'"),
        ("shift W=2 W=3", r"names each field once; got 'W=3' after W=2"),
        ("shift dtype=int8", r"dtype is one of float64, float32, bfloat16, float16; got dtype=int8$"),
        ("shift scale=nan", r"scale must be finite"),
        ('{"exchange": "ring"}', r"exchange is one of bidir, shift, reduce, gather; got exchange=ring$"),
        ('{"exchange": "shift", "W": 2}', r"its fields are exchange, world_size, .*source; got 'W'$"),
        ('{"source": 1}', r"source is text; got source=1$"),
        ('{"batch": "2"}', r"b is a whole number, 1 at least .*got b=2$"),
        ("shift features=given", r"given features stand in a file; got no source: add source=FILE"),
        ("shift rows=ragged features=given", r"given features are cut into equal parts; got rows=ragged"),
        ("{", r"not a case: .*truncated"),
    ],
)
def test_a_line_that_is_no_case_is_refused_by_name(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_case(line)
