"""Make the page of known bugs, and the README's table of weaker checkers, from a real run: `make bug-table`.

Reads what `siglip-verify bugs --format json` printed, from standard input.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from siglip_verify.report.bugs import headline
from siglip_verify.result import BugResult, CatalogueResult, WeakerChecker

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- made by `make bug-table` -->\n", "<!-- end -->\n"
SHOWN = 4  # ids in a row of the README


def table(columns: str, rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table; `columns` is its first line."""
    lines = [columns, "|" + "---|" * (columns.count("|") - 1)]
    lines += ["| " + " | ".join(str(value).replace("|", "\\|") for value in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def caught(bug: BugResult) -> str:
    """Say at which case and by what."""
    if not bug.caught:
        return f"missed in {bug.cases} cases"
    by = ", ".join(bug.findings or bug.quantities) or f"a rank {bug.caught}"
    return f"case {bug.cases}: {by}"


def source(bug: BugResult) -> str:
    """Return the source as a link, if it is one."""
    words = bug.source.removeprefix("https://github.com/").replace("/issues/", "#").replace("/pull/", "#")
    return f"[{words}]({bug.source})" if bug.source.startswith("https://") else bug.source


def weaker(checkers: Iterable[WeakerChecker], shown: int = sys.maxsize) -> str:
    """Return what weaker checkers miss, with so many ids of each as are `shown`."""
    return table(
        "| a checker that looks at | misses | among them |",
        (
            (f"{each.name}: {each.looks_at}", f"{len(each.missed)} of {each.of}", some(each.missed, shown))
            for each in checkers
        ),
    )


def some(names: tuple[str, ...], shown: int) -> str:
    """Return the first names, and dots where there are more."""
    return ", ".join([*(f"`{name}`" for name in names[:shown]), *(["..."] if len(names) > shown else [])])


def page(result: CatalogueResult) -> str:
    """Return the whole catalogue."""
    bugs = table(
        "| bug | what is wrong | source | caught at | what the user reads |",
        ((f"`{bug.id}`", bug.sentence, source(bug), caught(bug), bug.diagnosis or "-") for bug in result.bugs),
    )
    controls = table(
        "| right loss | verdict | cases | what it is |",
        ((f"`{control.id}`", control.verdict, control.cases, control.sentence) for control in result.controls),
    )
    return f"""# Known bugs

Each is planted in a correct loss, and the check is run as it stands. Made by `make bug-table` from
`siglip-verify bugs --format json`; every figure is counted.

**{headline(result)}**

{bugs}
## Losses that are right, though written differently

{controls}
## What weaker checkers miss, of the bugs that show in numbers

{weaker(result.weaker)}"""


if __name__ == "__main__":
    result = msgspec.json.decode(sys.stdin.buffer.read(), type=CatalogueResult)
    (ROOT / "docs" / "known_bugs.md").write_text(page(result))
    readme = ROOT / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    _, after = rest.split(END)
    score = f"**{headline(result)}** ([all of them](docs/known_bugs.md))"
    readme.write_text(f"{before}{BEGIN}{score}\n\n{weaker(result.weaker, SHOWN)}{END}{after}")
