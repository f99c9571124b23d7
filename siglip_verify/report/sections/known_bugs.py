"""The verifier held against the catalogue, as blocks of text: score, bugs, controls, weaker checkers."""

from __future__ import annotations

from siglip_verify.report import words
from siglip_verify.report.blocks import Column, Table, Value
from siglip_verify.result import BugResult, CatalogueResult, ControlResult


def bugs_headline(result: CatalogueResult) -> str:
    """Say the score in one line."""
    caught = sum(bug.passes for bug in result.bugs)
    otherwise = sum(bool(bug.caught) and not bug.passes for bug in result.bugs)
    accepted = sum(control.verdict == "pass" for control in result.controls)
    parts = [f"{caught} of {words.plural(len(result.bugs), 'planted bug')} caught"]
    if otherwise:
        parts.append(f"{otherwise} otherwise than declared")
    if result.controls:
        parts.append(f"{accepted} of {words.plural(len(result.controls), 'right loss')} accepted")
    seeds = f"{'seed' if len(result.seeds) == 1 else 'seeds'} {words.ranges(result.seeds)}"
    return f"{result.verdict.upper()}: {', '.join(parts)}, {seeds}, {words.seconds(result.elapsed_s)}"


def bug_tables(result: CatalogueResult) -> list[Table]:
    """Return what was found as tables, those with nothing in them left out."""
    made = [_bugs(result), _controls(result), _weaker(result)]
    return [shown for shown in made if shown.rows]


def bug_line(result: BugResult | ControlResult) -> str:
    """Say one result in one line, as it comes in."""
    if isinstance(result, ControlResult):
        said = "accepted" if result.verdict == "pass" else result.verdict
        return f"{words.one_line(result.id)}: {said}, {words.plural(result.cases, 'case')}"
    at = f"at {bug_case(result)}" if result.caught else ""
    otherwise = f"OTHERWISE than declared: {'; '.join(result.amiss)}" if result.amiss else ""
    said = ", ".join(part for part in (bug_outcome(result), at, otherwise) if part)
    return words.one_line(f"{result.id}: {said}")


def bug_outcome(bug: BugResult) -> str:
    """Say how a bug showed: an outcome of its own for wrong numbers, memory, and each way in which a rank fails."""
    return _OUTCOMES.get(bug.caught, bug.caught)


def bug_case(bug: BugResult) -> str:
    """Say at which case it was caught, or after how many by the check of memory that follows them."""
    if not bug.caught:
        return words.plural(bug.cases, "case")
    return f"memory check after {words.plural(bug.cases, 'case')}" if bug.caught == "memory" else f"case {bug.cases}"


_OUTCOMES = {
    "": "MISSED",
    "mismatch": "wrong numbers",
    "raised": "a rank raised",
    "died": "a rank died",
    "hung": "hung",
    "input": "input overwritten",
}


def _bugs(result: CatalogueResult) -> Table:
    return Table(
        caption="Planted bugs: how they showed, at which case (counted), at which W first, and by what.",
        columns=(
            Column("bug", is_number=False),
            Column("outcome", is_number=False),
            Column("caught", is_number=False),
            Column("first seen", "at W"),
            Column("by", is_number=False, is_extra=True, is_prose=True),
            Column("diagnosis", is_number=False, is_prose=True),
        ),
        rows=tuple(
            (
                Value(words.one_line(bug.id)),
                Value(words.one_line(bug_outcome(bug)), "" if bug.passes else "mismatch"),
                Value(bug_case(bug)),
                Value(_world_size(bug)),
                Value(_by(bug) or words.NOTHING),
                _said(bug),
            )
            for bug in result.bugs
        ),
    )


def _said(bug: BugResult) -> Value:
    if bug.amiss:
        return Value(
            words.one_line(f"OTHERWISE than declared: {'; '.join(bug.amiss)}; says: {bug.diagnosis}"), "mismatch"
        )
    return Value(words.one_line(bug.diagnosis) or words.NOTHING)


def _by(bug: BugResult) -> str:
    """Name what gave it away, each once: findings in the messages, else the quantities out of bounds."""
    said = bug.findings or [words.QUANTITIES[quantity] for quantity in bug.quantities]
    return words.one_line(", ".join(dict.fromkeys(said)))


def _world_size(bug: BugResult) -> str:
    return next((words.one_line(word[2:]) for word in bug.case.split() if word.startswith("W=")), words.NOTHING)


def _controls(result: CatalogueResult) -> Table:
    return Table(
        caption="Losses that are right, though written differently.",
        columns=(
            Column("loss", is_number=False),
            Column("verdict", is_number=False),
            Column("cases", "", "counted"),
            Column("what it is", is_number=False, is_prose=True),
        ),
        rows=tuple(
            (
                Value(words.one_line(c.id)),
                Value(c.verdict, c.verdict),
                Value(words.count(c.cases)),
                Value(words.one_line(c.sentence)),
            )
            for c in result.controls
        ),
    )


def _weaker(result: CatalogueResult) -> Table:
    return Table(
        caption="What a weaker checker would have missed, of the bugs that show in numbers.",
        columns=(
            Column("checker", is_number=False),
            Column("misses", "", "counted"),
            Column("of", "", "counted"),
            Column("among them", is_number=False, is_prose=True),
        ),
        rows=tuple(
            (
                Value(words.one_line(w.name)),
                Value(words.count(len(w.missed))),
                Value(words.count(w.of)),
                Value(words.one_line(", ".join(w.missed))),
            )
            for w in result.weaker
        ),
    )
