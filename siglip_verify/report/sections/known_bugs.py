"""The verifier held against the catalogue, as blocks of text: score, bugs, controls, weaker checkers."""

from __future__ import annotations

from siglip_verify.report import words
from siglip_verify.report.blocks import Column, Table, Value
from siglip_verify.result import BugResult, CatalogueResult, ControlResult


def bugs_headline(result: CatalogueResult) -> str:
    """Say the score in one line."""
    caught = sum(bool(bug.caught) for bug in result.bugs)
    accepted = sum(control.verdict == "pass" for control in result.controls)
    parts = [f"{caught} of {words.plural(len(result.bugs), 'planted bug')} caught"]
    if result.controls:
        parts.append(f"{accepted} of {words.plural(len(result.controls), 'right loss')} accepted")
    return f"{result.verdict.upper()}: {', '.join(parts)}, seed {result.seed}, {words.seconds(result.elapsed_s)}"


def bug_tables(result: CatalogueResult) -> list[Table]:
    """Return what was found as tables, those with nothing in them left out."""
    made = [_bugs(result), _controls(result), _weaker(result)]
    return [shown for shown in made if shown.rows]


def bug_line(result: BugResult | ControlResult) -> str:
    """Say one result in one line, as it comes in."""
    if isinstance(result, ControlResult):
        said = "accepted" if result.verdict == "pass" else result.verdict
        return f"{words.one_line(result.id)}: {said}, {words.plural(result.cases, 'case')}"
    return f"{words.one_line(result.id)}: {_caught(result)}"


def _caught(bug: BugResult) -> str:
    if not bug.caught:
        return f"MISSED in {bug.cases} cases"
    if bug.caught == "memory":
        return f"by its memory, after {words.plural(bug.cases, 'case')}"
    how = "" if bug.caught == "mismatch" else f"a rank {words.one_line(bug.caught)}, "
    return f"{how}case {bug.cases}"


def _bugs(result: CatalogueResult) -> Table:
    return Table(
        caption="Planted bugs: caught at which case (counted), at which W, by what, and what the user reads.",
        columns=(
            Column("bug", is_number=False),
            Column("caught", is_number=False),
            Column("W"),
            Column("by", is_number=False, is_extra=True, is_prose=True),
            Column("says", is_number=False, is_prose=True),
        ),
        rows=tuple(
            (
                Value(words.one_line(bug.id)),
                Value(_caught(bug), "" if bug.caught else "mismatch"),
                Value(_world_size(bug)),
                Value(words.one_line(", ".join(bug.findings or bug.quantities)) or words.NOTHING),
                Value(words.one_line(bug.diagnosis) or words.NOTHING, "" if bug.named else "muted"),
            )
            for bug in result.bugs
        ),
    )


def _world_size(bug: BugResult) -> str:
    return next((words.one_line(word[2:]) for word in bug.case.split() if word.startswith("W=")), words.NOTHING)


def _controls(result: CatalogueResult) -> Table:
    return Table(
        caption="Losses that are right, though written differently.",
        columns=(
            Column("loss", is_number=False),
            Column("verdict", is_number=False),
            Column("cases"),
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
            Column("misses"),
            Column("of"),
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
