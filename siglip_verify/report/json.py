"""The finished result as JSON and back, without loss.

JSON has no word for a number that is infinite or not a number; there the strings "inf", "-inf" and "nan" stand in its
place, and nowhere else are strings read as numbers.
"""

from __future__ import annotations

import math
import re
from functools import cache

import msgspec
from msgspec import inspect

from siglip_verify.errors import UsageError
from siglip_verify.result import SCHEMA_VERSION, Report

NON_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_NUMBERS = re.compile(rb'\[\n[^\[\]{}"]*\]')  # no string holds a line break, so no match lies in one
_MEND = "run the check again, or render it with the version that wrote it"


def dump(report: Report) -> bytes:
    """Write the result as indented JSON; the same result gives the same bytes.

    Lone surrogates, which UTF-8 does not have, are written as escapes of six characters.
    """
    text = msgspec.json.encode(_without_non_finite(msgspec.to_builtins(report)))
    return _NUMBERS.sub(_on_one_line, msgspec.json.format(text, indent=2)) + b"\n"


def load(text: bytes) -> Report:
    """Read what `dump` wrote.

    Raises:
        ValueError: It is not JSON, of another schema version, or of another shape; the message says what and where.
    """
    try:
        plain = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise UsageError(f"a report is JSON; got {error}: {_MEND}") from None
    version = plain.get("schema_version") if isinstance(plain, dict) else None
    if version != SCHEMA_VERSION:
        raise UsageError(f"a report has schema_version {SCHEMA_VERSION}; got schema_version={version!r}: {_MEND}")
    try:
        return msgspec.convert(_with_non_finite(plain, _report_type(), "$"), Report)
    except msgspec.ValidationError as error:
        raise UsageError(f"a report follows report.schema.json; got {error}: {_MEND}") from None


def _on_one_line(numbers: re.Match[bytes]) -> bytes:
    """Write a list of numbers as one line: a line for each would be most of the file."""
    return b"[" + b", ".join(number.strip() for number in numbers[0][1:-1].split(b",")) + b"]"


@cache
def _report_type() -> inspect.Type:
    return inspect.type_info(Report)


def _without_non_finite(value: object) -> object:
    """Replace numbers and characters that JSON does not have."""
    match value:
        case float() if not math.isfinite(value):
            return f"{value:g}"
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {_without_non_finite(key): _without_non_finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_without_non_finite(item) for item in value]
        case _:
            return value


def _with_non_finite(value: object, kind: inspect.Type, path: str) -> object:
    """Put numbers where the type has a float and the text one of the three strings; refuse unknown fields."""
    match kind, value:
        case inspect.FloatType(), str():
            return NON_FINITE.get(value, value)
        case inspect.UnionType(), _:
            for each in kind.types:
                value = _with_non_finite(value, each, path)
            return value
        case inspect.StructType(), dict():
            known = {field.encode_name: field.type for field in kind.fields}
            if unknown := sorted(value.keys() - known.keys()):
                raise msgspec.ValidationError(f"unknown field {unknown[0]!r} - at `{path}`")
            return {name: _with_non_finite(item, known[name], f"{path}.{name}") for name, item in value.items()}
        case inspect.DictType(), dict():
            return {name: _with_non_finite(item, kind.value_type, f"{path}[...]") for name, item in value.items()}
        case inspect.VarTupleType(), list():
            return [_with_non_finite(item, kind.item_type, f"{path}[{index}]") for index, item in enumerate(value)]
        case _:
            return value
