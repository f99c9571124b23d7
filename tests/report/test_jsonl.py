"""One step's messages as JSON lines.

Oracle: the records and the JSON Schema that is shipped. Sees: an event that is lost or changed, a schema or a document
that no longer describes the lines, a message whose two ends do not name each other.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given

from siglip_verify.report import jsonl
from siglip_verify.report.jsonl import Line
from siglip_verify.result import StepMessages

from . import steps

SCHEMA = json.loads(jsonl.PATH.read_bytes())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
DOCUMENT = Path(__file__).parents[2] / "docs" / "messages.md"


def written(step: StepMessages) -> list[dict[str, Any]]:
    return [json.loads(line) for line in jsonl.dump(step).splitlines()]


@given(step=steps.steps())
def test_every_event_is_one_line_in_the_order_of_posting(step: StepMessages) -> None:
    lines = written(step)
    assert len(lines) == len(step.events)
    assert [line["posted_s"] for line in lines] == sorted(line["posted_s"] for line in lines)
    start_s = min((event.posted_s for event in step.events), default=0.0)
    by_id = {(line["rank"], line["sequence"]): line for line in lines}
    for event in step.events:
        line = by_id[event.rank, event.sequence]
        for name in ("phase", "hop", "kind", "op", "group", "src", "dst", "tag", "dtype", "payload_bytes"):
            assert line[name] == getattr(event, name)
        assert line["shape"] == list(event.shape)
        assert line["posted_s"] == pytest.approx(event.posted_s - start_s, abs=1e-9)
        returned_s = None if event.returned_s is None else pytest.approx(event.returned_s - start_s, abs=1e-9)
        assert line["returned_s"] == returned_s


@given(step=steps.steps())
def test_the_two_ends_of_a_message_name_each_other(step: StepMessages) -> None:
    lines = {(line["rank"], line["sequence"]): line for line in written(step)}
    for name, line in lines.items():
        if line["kind"] not in ("send", "recv"):
            assert line["other_end"] is None
            continue
        other = lines[line["other_end"]["rank"], line["other_end"]["sequence"]]
        assert (other["other_end"]["rank"], other["other_end"]["sequence"]) == name
        assert {line["kind"], other["kind"]} == {"send", "recv"}
        assert (line["src"], line["dst"], line["payload_bytes"]) == (other["src"], other["dst"], other["payload_bytes"])


def test_a_message_that_never_arrived_has_no_other_end() -> None:
    broken = msgspec.structs.replace(steps.mismatching().step, matches=())
    assert {line["other_end"] for line in written(broken)} == {None}


def test_no_step_is_no_line() -> None:
    assert jsonl.dump(None) == b""


# ------------------------------------------------------------------ the schema and the document
def test_the_shipped_schema_is_that_of_the_lines() -> None:
    assert jsonl.PATH.read_bytes() == jsonl.text(), "run `python -m siglip_verify.report.jsonl` and commit"
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@given(step=steps.steps())
def test_every_line_follows_the_schema(step: StepMessages) -> None:
    for line in written(step):
        VALIDATOR.validate(line)


@pytest.mark.parametrize(
    "change", [{"phase": "sideways"}, {"rank": -1}, {"payload_bytes": 1.5}, {"posted_s": "now"}, {"extra": 1}]
)
def test_a_line_of_another_shape_does_not_follow_the_schema(change: dict[str, Any]) -> None:
    line = written(steps.step())[0]
    jsonschema.validate(line, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(line | change, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({name: value for name, value in line.items() if name != "hop"}, SCHEMA)


def test_the_document_describes_every_field_and_no_other() -> None:
    table = DOCUMENT.read_text().split("## Fields")[1].split("##")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(Line.__struct_fields__)


def test_the_example_in_the_document_follows_the_schema() -> None:
    examples = re.findall(r"^\{.*\}$", DOCUMENT.read_text(), re.MULTILINE)
    assert len(examples) >= 2
    for example in examples:
        jsonschema.validate(json.loads(example), SCHEMA)
