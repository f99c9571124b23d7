"""What each section of the page shows, prepared for its template.

Here: one small function a section. Not here: HTML, and figures that other reports show too (`sections`).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

import msgspec

from siglip_verify.records import Cell
from siglip_verify.report import sections, words
from siglip_verify.report.blocks import Entry, Table, Tone
from siglip_verify.report.html.chart import Chart
from siglip_verify.report.html.line_chart import line_charts
from siglip_verify.report.html.share_chart import share_charts
from siglip_verify.report.messages import hops as hop_tables
from siglip_verify.result import Report

View = Mapping[str, object]
PROBLEMS_NAMED = 8


class Figure(msgspec.Struct, frozen=True):
    """One number of the summary, with its name, and whether it was counted or measured."""

    name: str
    value: str
    basis: str


class Matrix(msgspec.Struct, frozen=True):
    """Exchanges against world sizes: the verdict and the worst share of each cell; None where there is no cell."""

    world_sizes: tuple[int, ...]
    rows: tuple[tuple[str, tuple[MatrixCell | None, ...]], ...]


class MatrixCell(msgspec.Struct, frozen=True):
    """One exchange at one world size."""

    tone: Tone
    share: str
    cases: str


class LossEquivalence(msgspec.Struct, frozen=True):
    """The equivalence of one loss."""

    name: str
    verdict: Tone
    about: tuple[sections.Fact, ...]
    matrix: Matrix
    charts: tuple[Chart, ...]
    table: Table
    nearest: tuple[sections.Fact, ...]


class LossMessages(msgspec.Struct, frozen=True):
    """The messages of one loss: for each step that was counted a table and its charts."""

    name: str
    steps: tuple[tuple[Table, tuple[Chart, ...]], ...]


class LossStep(msgspec.Struct, frozen=True):
    """One step of one loss, a table a phase."""

    name: str
    case: str
    tables: tuple[Table, ...]


class LossEntries(msgspec.Struct, frozen=True):
    """What went wrong with one loss; the entries are at `{id}-1`, `{id}-2` ... on the page."""

    id: str
    name: str
    entries: tuple[Entry, ...]


class Problem(msgspec.Struct, frozen=True):
    """One entry as the head of the page names it."""

    id: str
    title: str
    tone: Tone


def summary(report: Report) -> View:
    """Prepare the head of the page: the verdict in words, and how much it rests on."""
    verdict, _, rest = words.headline(report).partition(": ")
    rate = words.rate(report.cases, report.elapsed_s)
    return {
        "verdict": verdict,
        "sentence": rest,
        "problems": _problems(report),
        "figures": (
            Figure("distinct cases", words.count(report.cases), "counted"),
            Figure("wall clock", words.seconds(report.elapsed_s), "measured"),
            Figure("cases a second", rate.removesuffix(" cases a second"), "measured"),
            Figure("counterexamples", words.count(len(report.counterexamples)), "counted"),
            Figure("without judgement", words.count(len(report.unknowns)), "counted"),
        ),
    }


def equivalence(report: Report) -> View | None:
    """Prepare the worst shares of the bound, as a matrix, as charts and in full."""
    losses = [
        LossEquivalence(
            name=words.one_line(loss.name),
            verdict=loss.verdict,
            about=tuple(sections.about(loss)),
            matrix=_matrix(loss.cells),
            charts=tuple(share_charts(loss.cells)),
            table=sections.equivalence(loss.cells),
            nearest=tuple(sections.nearest(loss.cells)),
        )
        for loss in report.losses
        if loss.cells
    ]
    return {"losses": losses} if losses else None


def messages(report: Report) -> View | None:
    """Prepare plan, count, wire and lower bound of each loss."""
    losses = [
        LossMessages(
            words.one_line(loss.name),
            tuple(
                (table, tuple(line_charts(list(rows))))
                for table, (_, rows) in zip(
                    sections.messages(loss.messages), groupby(loss.messages, key=sections.step_of), strict=True
                )
            ),
        )
        for loss in report.losses
        if loss.messages
    ]
    return {"losses": losses} if losses else None


def step(report: Report) -> View | None:
    """Prepare the sample step of each loss, hop by hop."""
    losses = [
        LossStep(words.one_line(loss.name), str(loss.sample_step.case), tuple(hop_tables(loss.sample_step)))
        for loss in report.losses
        if loss.sample_step is not None and loss.sample_step.events
    ]
    return {"losses": losses} if losses else None


def counterexamples(report: Report) -> View | None:
    """Prepare every counterexample that is shown in full."""
    losses = _counterexamples(report)
    return {"losses": losses} if losses else None


def unjudged(report: Report) -> View | None:
    """Prepare every case without judgement that is shown in full."""
    losses = _unjudged(report)
    return {"losses": losses} if losses else None


def left_out(report: Report) -> View | None:
    """Prepare what was not checked, and why."""
    losses = [(words.one_line(loss.name), sections.left_out(loss)) for loss in report.losses if loss.left_out]
    return {"losses": losses} if losses else None


def settings(report: Report) -> View | None:
    """Prepare the effective settings."""
    facts = sections.settings(report)
    return {"facts": facts} if facts else None


def environment(report: Report) -> View:
    """Prepare versions and machine."""
    return {"facts": sections.environment(report)}


def _problems(report: Report) -> list[Problem]:
    """List what went wrong first, for the head of the page."""
    losses = [*_counterexamples(report), *_unjudged(report)]
    problems = [
        Problem(f"{loss.id}-{index}", f"{entry.title} ({loss.name})", entry.tone)
        for loss in losses
        for index, entry in enumerate(loss.entries, start=1)
    ]
    return problems[:PROBLEMS_NAMED]


def _counterexamples(report: Report) -> list[LossEntries]:
    entries = [(loss.name, sections.counterexamples(loss.counterexamples)) for loss in report.losses]
    return _loss_entries("counterexample", entries)


def _unjudged(report: Report) -> list[LossEntries]:
    return _loss_entries("unjudged", [(loss.name, sections.unjudged_cases(loss.unknowns)) for loss in report.losses])


def _loss_entries(kind: str, of_losses: list[tuple[str, list[Entry]]]) -> list[LossEntries]:
    return [
        LossEntries(f"{kind}-{index}", words.one_line(name), tuple(entries))
        for index, (name, entries) in enumerate(of_losses, start=1)
        if entries
    ]


def _matrix(cells: tuple[Cell, ...]) -> Matrix:
    sizes = tuple(sorted({cell.world_size for cell in cells}))
    at = {(cell.exchange, cell.world_size): cell for cell in cells}
    exchanges = dict.fromkeys(cell.exchange for cell in cells)
    rows = tuple((exchange, tuple(_matrix_cell(at.get((exchange, size))) for size in sizes)) for exchange in exchanges)
    return Matrix(sizes, rows)


def _matrix_cell(cell: Cell | None) -> MatrixCell | None:
    if cell is None:
        return None
    nearest = words.nearest([cell])
    share = words.share(nearest.share) if nearest else words.NOTHING
    return MatrixCell(cell.verdict, share, words.plural(cell.cases, "case"))
