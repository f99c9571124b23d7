"""The JSON Schema of `report.json`, as the package ships it.

`python -m siglip_verify.report.schema` writes it anew after a change of the records.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from siglip_verify.report.json import NON_FINITE
from siglip_verify.result import SCHEMA_VERSION, Report

PATH = Path(__file__).with_name("report.schema.json")


def schema() -> dict[str, object]:
    """Derive the schema from the records: closed objects, and three strings where a number is not finite."""
    derived = _exact(msgspec.json.schema(Report))
    assert isinstance(derived, dict)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"siglip_verify report, schema version {SCHEMA_VERSION}",
        **derived,
    }


def shipped() -> bytes:
    """Return the schema that the package ships."""
    return PATH.read_bytes()


def text() -> bytes:
    """Write the schema as it is shipped."""
    return msgspec.json.format(msgspec.json.encode(schema()), indent=2) + b"\n"


def _exact(node: object) -> object:
    """Say of every number that it may be one of three strings, and of every record that it has no further fields."""
    if isinstance(node, list):
        return [_exact(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("type") == "number":
        return {"anyOf": [node, {"enum": list(NON_FINITE)}]}
    closed = {"additionalProperties": False} if "properties" in node else {}
    return {**{key: _exact(item) for key, item in node.items()}, **closed}


if __name__ == "__main__":
    PATH.write_bytes(text())
