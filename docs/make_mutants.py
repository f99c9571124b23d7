"""Make the page of mutants from what mutmut left in mutants/: `make mutants`.

A survivor is explained by the first entry of docs/mutants.toml that fits it. Exits with 1 where one is not, or where
mutants were not run.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from make_bug_table import table

DOCS = Path(__file__).parent
MUTANTS = DOCS.parent / "mutants" / "siglip_verify"
OUTCOMES = {0: "survived", 1: "killed", 3: "killed", 5: "untested", 33: "untested", 37: "typed", None: "not run"}
DIED = "timeout"  # by signal: of endless memory, or of the processor time that the tests may take


class Mutant(NamedTuple):
    """One small change of our code, and what became of it."""

    module: str
    function: str
    outcome: str
    removed: str
    added: str

    @property
    def survived(self) -> bool:
        """Whether nothing noticed the change."""
        return self.outcome in ("survived", "untested")


class Reason(NamedTuple):
    """Why some survivors need no test: functions (as `plan.hops.side_by_side`) and changes, as patterns."""

    why: str
    where: str
    change: str

    def fits(self, mutant: Mutant) -> bool:
        """Tell whether this explains the mutant."""
        change = f"{mutant.removed} -> {mutant.added}"
        return bool(re.fullmatch(self.where, f"{mutant.module}.{mutant.function}") and re.search(self.change, change))


def mutants() -> Iterator[Mutant]:
    """Read every mutant of the run."""
    for meta in sorted(MUTANTS.rglob("*.py.meta")):
        source = meta.with_suffix("")
        lines = source.read_text().splitlines()
        spans = json.loads(Path(f"{source}.spans").read_text())["spans"]
        module = ".".join(source.relative_to(MUTANTS).with_suffix("").parts)
        for name, code in json.loads(meta.read_text())["exit_code_by_key"].items():
            short = name.rpartition(".")[2]
            original = f"{short.rpartition('__mutmut_')[0]}__mutmut_orig"
            ours, theirs = (_body(lines, spans[each], each) for each in (original, short))
            yield Mutant(module, function(short), OUTCOMES.get(code, DIED), *_change(ours, theirs))


def _body(lines: list[str], span: tuple[int, int], name: str) -> list[str]:
    first, last = span
    return [line.replace(name, "") for line in lines[first - 1 : last]]


def _change(ours: list[str], theirs: list[str]) -> Iterator[str]:
    """Yield what was taken out, and what was put in its place."""
    differences = list(difflib.ndiff(ours, theirs))
    for sign in ("- ", "+ "):
        yield " ".join(line[2:].strip() for line in differences if line.startswith(sign))


def function(name: str) -> str:
    """Return the function that `x_plan__mutmut_3` or `xǁPlanǁhops__mutmut_6` changes: plan, Plan.hops."""
    owner = name.rpartition("__mutmut_")[0]
    return owner.removeprefix("x_") if owner.startswith("x_") else owner.removeprefix("xǁ").replace("ǁ", ".")


def scores(run: list[Mutant]) -> str:
    """Return the table of counts, a module a row."""
    rows = []
    for name, own in [*((module, [m for m in run if m.module == module]) for module in modules(run)), ("all", run)]:
        counts = Counter(mutant.outcome for mutant in own)
        survivors, not_run = sum(mutant.survived for mutant in own), counts["not run"]
        caught = counts["typed"] + counts["killed"] + counts[DIED]
        shown = (counts["typed"], counts["killed"], counts[DIED], survivors, not_run)
        score = f"{caught / (caught + survivors):.1%}" if caught + survivors else "-"
        rows.append((f"`{name}`" if own is not run else "**all**", len(own), *shown, score))
    return table("| module | mutants | type checker | tests | without end | survived | not run | caught |", rows)


def modules(run: list[Mutant]) -> list[str]:
    """Return the modules that were mutated, in order."""
    return list(dict.fromkeys(mutant.module for mutant in run))


def explained(run: list[Mutant], reasons: list[Reason]) -> dict[str, list[Mutant]]:
    """Return the survivors by why they need no test; those without a reason under an empty one."""
    by_reason: dict[str, list[Mutant]] = {}
    for mutant in run:
        if mutant.survived:
            why = next((reason.why for reason in reasons if reason.fits(mutant)), "")
            by_reason.setdefault(why, []).append(mutant)
    return by_reason


def survivors(by_reason: dict[str, list[Mutant]]) -> str:
    """Return the list of survivors, a reason a heading."""
    parts = []
    for why, own in sorted(by_reason.items()):
        rows = ((f"`{each.module}.{each.function}`", f"`{each.removed}`", f"`{each.added}`") for each in own)
        parts.append(f"### {why or 'Not explained'}\n\n{table('| where | ours | mutant |', rows)}")
    return "\n".join(parts)


def left(run: list[Mutant]) -> str:
    """Say which modules were not run to the end, and which were."""
    of = Counter(mutant.module for mutant in run if mutant.outcome == "not run")
    if not of:
        return ""
    some = ", ".join(f"`{module}`" for module in of)
    whole = [mutant for mutant in run if mutant.module not in of]
    caught = 1 - sum(mutant.survived for mutant in whole) / len(whole)
    return (
        f"The run was broken off: {sum(of.values())} mutants of {some} are still to be run. All mutants of the other "
        f"modules were run, {len(whole)} of them, and {caught:.1%} were caught.\n\n"
    )


def page(run: list[Mutant], by_reason: dict[str, list[Mutant]]) -> str:
    """Return the whole page."""
    return f"""# Mutants of what judges

`make mutants` changes the code that judges a loss, one small change at a time, and runs the type checker and the fast
tests of that code on each: oracle, plan and checks (equivalence, coverage, ledger, messages, diagnosis). A change that
nothing notices survives. The tests on real processes are not run here, so this is a lower bound. Made from the run.

{scores(run)}
{left(run)}*type checker*: `pyright` refuses it, as `make lint` would. *without end*: the tests did not come to
an end in the time or memory they may take. *caught*: of those that were run.

## Survivors, and why no test kills them

{survivors(by_reason)}"""


if __name__ == "__main__":
    run = list(mutants())
    reasons = [Reason(**entry) for entry in tomllib.loads((DOCS / "mutants.toml").read_text())["reason"]]
    by_reason = explained(run, reasons)
    (DOCS / "mutants.md").write_text(page(run, by_reason))
    if not_run := sum(mutant.outcome == "not run" for mutant in run):
        sys.exit(f"{not_run} mutants were not run: `make mutants` goes on where it stopped")
    if unexplained := by_reason.get("", []):
        sys.exit(f"{len(unexplained)} survivors are not explained: kill them, or say why in docs/mutants.toml")
