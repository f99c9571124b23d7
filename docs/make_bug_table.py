"""Make the page of known bugs, and the README's table of weaker checkers, from a real run: `make bug-table`.

Reads what `siglip-verify bugs --format json` printed, from standard input.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from siglip_verify.report.bugs import headline
from siglip_verify.report.markdown import text
from siglip_verify.report.sections.known_bugs import bug_case, bug_outcome
from siglip_verify.result import BugResult, CatalogueResult, WeakerChecker

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- made by `make bug-table` -->\n", "<!-- end -->\n"
SHOWN = 4  # ids in a row of the README


def table(columns: str, rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table; `columns` is its first line."""
    lines = [columns, "|" + "---|" * (columns.count("|") - 1)]
    lines += ["| " + " | ".join(re.sub(r"(?<!\\)\|", r"\\|", str(value)) for value in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def by(bug: BugResult) -> str:
    """Say in what it showed: in the messages, in numbers, or in a rank that failed."""
    return ", ".join(f"`{name}`" for name in bug.findings or bug.quantities) or "-"


def read(bug: BugResult) -> str:
    """Return what the user reads, without addresses of objects, which are others in each run."""
    return text(re.sub(r"\b0x[0-9a-f]+", "0x...", bug.diagnosis)) or "-"


def source(bug: BugResult) -> str:
    """Return the source: a full address, which becomes a link, or words."""
    return f"<{bug.source}>" if bug.source.startswith("https://") else text(bug.source)


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
        "| bug | what is wrong | source | outcome | caught at | by | what the user reads |",
        (
            (
                f"`{bug.id}`",
                text(bug.sentence),
                source(bug),
                "; ".join([bug_outcome(bug), *map(text, bug.amiss)]),
                bug_case(bug),
                by(bug),
                read(bug),
            )
            for bug in result.bugs
        ),
    )
    controls = table(
        "| right loss | verdict | cases | what it is |",
        ((f"`{control.id}`", control.verdict, control.cases, text(control.sentence)) for control in result.controls),
    )
    return f"""# Known bugs

Each is planted in a correct loss, and the check is run as it stands. Made by `make bug-table` from
`siglip-verify bugs --format json`; every figure is counted.

**{headline(result)}**

Each bug was searched for from every seed; its row is of the seed at which that took most cases. A bug counts as caught
only if it shows as its entry declares: in its outcome, its quantities, its world sizes and what the diagnosis says.
Where numbers are right the check of memory follows, on steps of its own.

{bugs}
## Losses that are right, though written differently

{controls}
## What weaker checkers miss, of the bugs that show in numbers

Each has as many cases, the same judge and the same bounds as the check itself; only what its name says is less.

{weaker(result.weaker)}"""


if __name__ == "__main__":
    result = msgspec.json.decode(sys.stdin.buffer.read(), type=CatalogueResult)
    (ROOT / "docs" / "known_bugs.md").write_text(page(result))
    readme = ROOT / "README.md"
    before, rest = readme.read_text().split(BEGIN, 1)
    _, after = rest.split(END, 1)
    score = f"**{headline(result)}** ([all of them](docs/known_bugs.md))"
    readme.write_text(f"{before}{BEGIN}{score}\n\n{weaker(result.weaker, SHOWN)}{END}{after}")
