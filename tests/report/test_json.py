"""report.json: the whole result and nothing else, there and back.

Oracle: the result itself, compared by `repr` (which tells nan from nan and 0 from -0), and jsonschema. Can see: figures
that JSON loses (inf, nan), text read as a number, a shape that is let through, a schema that is out of date.
"""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify.report import dump, load
from siglip_verify.report import schema as shipped
from siglip_verify.result import Report

from . import samples

SCHEMA = json.loads(shipped.PATH.read_bytes())


def plain() -> dict[str, Any]:
    return json.loads(dump(samples.mismatching()))


def loaded(changed: dict[str, Any]) -> Report:
    return load(json.dumps(changed).encode())


# ------------------------------------------------------------------ there and back
@given(report=samples.reports())
@samples.ANY_RESULT
def test_any_result_comes_back_as_it_was(report: Report) -> None:
    text = dump(report)
    assert repr(load(text)) == repr(report)
    assert dump(load(text)) == text
    jsonschema.validate(json.loads(text), SCHEMA)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, -0.0, 5e-324, 0.1])
def test_a_number_that_json_does_not_have_survives(value: float) -> None:
    found = samples.counterexample()
    share = msgspec.structs.replace(found.result.shares[0], expected=value, observed=value, share=value)
    result = msgspec.structs.replace(found.result, shares=(share,))
    report = samples.report(samples.loss(counterexamples=(msgspec.structs.replace(found, result=result),)))
    text = dump(report)
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    back = load(text).counterexamples[0].result.shares[0]
    assert repr(back) == repr(share)


def test_text_that_reads_like_a_number_stays_text() -> None:
    report = samples.report(samples.loss("nan"), settings={"inf": "-inf"})
    back = load(dump(report))
    assert back.losses[0].name == "nan"
    assert back.settings == {"inf": "-inf"}


def test_a_lone_surrogate_is_escaped_and_does_not_lose_the_report() -> None:
    assert load(dump(samples.report(samples.loss("bad \udcff name")))).losses[0].name == "bad \\udcff name"


def test_the_same_result_gives_the_same_bytes_in_the_order_of_the_record() -> None:
    report = samples.passing()
    assert dump(report) == dump(copy.deepcopy(report))
    assert list(json.loads(dump(report))) == list(Report.__struct_fields__)
    assert list(json.loads(dump(report))["environment"]) == list(report.environment)


# ------------------------------------------------------------------ what is refused
@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "a report is JSON; got "),
        (b"{", "a report is JSON; got "),
        (b"\xff", "a report is JSON; got "),
        (b"[" * 100_000, "a report is JSON; got "),
        (b"[]", "a report has schema_version 2; got schema_version=None"),
        (b'{"schema_version": 999}', "a report has schema_version 2; got schema_version=999"),
    ],
)
def test_what_is_no_report_is_refused_with_the_mend(text: bytes, says: str) -> None:
    with pytest.raises(ValueError, match="run the check again") as error:
        load(text)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("verdict",), "fine", "$.verdict"),
        (("cases",), "many", "$.cases"),
        (("elapsed_s",), "infinite", "$.elapsed_s"),
        (("losses", 0, "cells", 3, "world_size"), 1.5, "$.losses[0].cells[3].world_size"),
        (("losses", 0, "cells", 3, "extra"), 1, "unknown field 'extra' - at `$.losses[0].cells[3]`"),
        (("losses", 0, "counterexamples", 0, "result", "case", "dtype"), "int8", "dtype"),
    ],
)
def test_another_shape_is_refused_by_name_and_place(path: tuple[str | int, ...], value: Any, says: str) -> None:
    changed = plain()
    *way, last = path
    at: Any = changed
    for step in way:
        at = at[step]
    at[last] = value
    with pytest.raises(ValueError, match=r"a report follows report\.schema\.json") as error:
        loaded(changed)
    assert says in str(error.value)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed, SCHEMA)


def test_a_quantity_that_is_not_known_is_refused() -> None:
    changed = plain()
    changed["losses"][0]["cells"][0]["worst"]["speed"] = {"share": 1.0, "case": ""}
    with pytest.raises(ValueError, match="Invalid enum value 'speed'"):
        loaded(changed)


def test_a_field_that_is_missing_is_named() -> None:
    changed = plain()
    del changed["losses"][0]["target"]
    with pytest.raises(ValueError, match="missing required field `target`"):
        loaded(changed)


@given(
    text=st.binary(max_size=40) | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(str).map(str.encode)
)
def test_nothing_but_a_value_error_comes_of_foreign_bytes(text: bytes) -> None:
    with pytest.raises(ValueError, match="a report"):
        load(text)


# ------------------------------------------------------------------ the schema
def test_the_shipped_schema_is_that_of_the_records() -> None:
    assert shipped.PATH.read_bytes() == shipped.text(), "run `python -m siglip_verify.report.schema` and commit"
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", ["passing", "mismatching", "unjudged", "hostile"])
def test_every_sample_follows_the_schema(name: str) -> None:
    jsonschema.validate(json.loads(dump(getattr(samples, name)())), SCHEMA)
