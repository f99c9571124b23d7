"""The page of known bugs, which `make bug-table` wrote, against the catalogue as it is.

Oracle: the catalogue. Sees: an entry that was added, renamed or taken away since, a bug that was missed, a README that
says other figures than the page.
"""

from __future__ import annotations

import re
from pathlib import Path

from siglip_verify.bugs import CATALOGUE, CONTROLS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "known_bugs.md").read_text()


def rows(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading."""
    under = text.partition(heading)[2]
    found = re.search(r"^\|.*\n\|[-|]+\n((?:\|.*\n)*)", under, re.M)
    assert found, heading
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in found[1].splitlines()]


def test_every_entry_has_its_row_and_was_caught() -> None:
    shown = {row[0].strip("`"): row[3] for row in rows(PAGE, "# Known bugs")}
    assert set(shown) == set(CATALOGUE), "run make bug-table"
    assert [name for name, caught in shown.items() if not re.match(r"case \d+: ", caught)] == []


def test_every_control_has_its_row_and_was_accepted() -> None:
    shown = {row[0].strip("`"): row[1] for row in rows(PAGE, "## Losses that are right")}
    assert shown == dict.fromkeys(CONTROLS, "pass"), "run make bug-table"


def test_the_readme_says_the_same_of_weaker_checkers() -> None:
    heading = "What each\nsimpler checker would have missed"
    readme = [row[:2] for row in rows((ROOT / "README.md").read_text(), heading)]
    assert readme == [row[:2] for row in rows(PAGE, "## What weaker checkers miss")]
