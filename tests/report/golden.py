"""Texts that were looked at once and must not change unseen. `GOLDEN=write pytest tests/report` writes them anew."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).with_name("golden")


def assert_golden(name: str, text: str) -> None:
    """Hold a text against the file of that name, spaces at line ends aside."""
    path = FOLDER / name
    seen = "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(seen, encoding="utf-8")
    assert seen == path.read_text(encoding="utf-8"), f"{name} changed: look at it, then GOLDEN=write pytest {__file__}"
