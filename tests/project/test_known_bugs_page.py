"""The page of known bugs, which `make bug-table` wrote, against the catalogue as it is.

Oracle: the catalogue. Sees: an entry that was added, renamed or taken away since, a bug that was missed, a README that
says other figures than the page.
"""

from __future__ import annotations

import re
from pathlib import Path

from siglip_verify.bugs import CATALOGUE, CONTROLS
from siglip_verify.run.catalogue import CASES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "known_bugs.md").read_text()


def rows(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading."""
    under = text.partition(heading)[2]
    found = re.search(r"^\|.*\n\|[-|]+\n((?:\|.*\n)*)", under, re.M)
    assert found, heading
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in found[1].splitlines()]


def bugs() -> dict[str, list[str]]:
    """Return the row of each bug: what is wrong, source, outcome, caught at, by, what the user reads."""
    return {row[0].strip("`"): row[1:] for row in rows(PAGE, "# Known bugs")}


def test_every_entry_has_its_row_and_was_caught_as_it_declares_at_three_seeds() -> None:
    assert set(bugs()) == set(CATALOGUE), "run make bug-table"
    assert re.search(rf"\*\*PASS: {len(CATALOGUE)} of {len(CATALOGUE)} planted bugs caught, .*, seeds 0\.\.2, ", PAGE)
    words = {
        "wrong numbers": "mismatch",
        "a rank raised": "raised",
        "a rank died": "died",
        "input overwritten": "input",
    }
    for name, (_, _, outcome, at, _, _) in bugs().items():
        assert words.get(outcome, outcome) in CATALOGUE[name].outcomes, name
        cases = int(re.sub(r"\D", "", at))
        assert 1 <= cases <= CASES, name
        assert at.startswith("memory check after " if outcome == "memory" else "case "), name


def test_every_source_is_shown_with_its_full_address() -> None:
    for name, (_, source, *_) in bugs().items():
        of = CATALOGUE[name].source
        assert source.replace("\\", "") == (f"<{of}>" if of.startswith("https://") else of), name


def test_nothing_that_a_rank_said_is_read_as_markup() -> None:
    for name, (_, _, _, _, _, says) in bugs().items():
        assert not re.search(r"<|(?<!\\)[*_`\[]", says), name


def test_what_weaker_checkers_miss_is_counted_of_the_bugs_that_show_in_numbers() -> None:
    numeric = sum(bool(bug.quantities) for bug in CATALOGUE.values())
    for looks_at, misses, among in rows(PAGE, "## What weaker checkers miss"):
        ids = re.findall(r"`([\w-]+)`", among)
        assert misses == f"{len(ids)} of {numeric}", looks_at
        assert set(ids) <= set(CATALOGUE), looks_at


def test_every_control_has_its_row_and_was_accepted() -> None:
    shown = {row[0].strip("`"): row[1] for row in rows(PAGE, "## Losses that are right")}
    assert shown == dict.fromkeys(CONTROLS, "pass"), "run make bug-table"


def test_the_readme_says_the_same_of_weaker_checkers() -> None:
    heading = "What each simpler checker would have missed"
    readme = [row[:2] for row in rows((ROOT / "README.md").read_text(), heading)]
    assert readme == [row[:2] for row in rows(PAGE, "## What weaker checkers miss")]
