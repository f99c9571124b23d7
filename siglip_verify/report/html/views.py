"""What each section of the page shows, prepared for its template.

Here: one small function a section. Not here: HTML, and figures that other reports show too (`sections`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from siglip_verify.records import Cell
from siglip_verify.report import sections, words
from siglip_verify.report.blocks import Entry, Fact, Table, Tone
from siglip_verify.report.headline import headline
from siglip_verify.report.html.chart import Chart
from siglip_verify.report.html.compare_charts import counted_charts, modelled_charts
from siglip_verify.report.html.number_map import NumberMap, covered, sent_maps
from siglip_verify.report.html.share_chart import DOTS_AT_MOST, share_charts
from siglip_verify.report.messages import hops as hop_tables
from siglip_verify.result import LossResult, Report, StepMessages

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
    about: tuple[Fact, ...]
    matrix: Matrix
    charts: tuple[Chart, ...]
    caption: str
    table: Table
    by_dtype: Table
    nearest: tuple[Fact, ...]


class Coverage(msgspec.Struct, frozen=True):
    """Which blocks one exchange of one loss counts, as pictures."""

    title: str
    said: str
    maps: tuple[NumberMap, ...]


class LossCoverage(msgspec.Struct, frozen=True):
    """Which blocks one loss counts."""

    name: str
    is_right: bool
    exchanges: tuple[Coverage, ...]


class LossMessages(msgspec.Struct, frozen=True):
    """The messages of one loss: a table for each size of step that was counted, and one step in full."""

    name: str
    tables: tuple[Table, ...]
    step: Step | None


class Step(msgspec.Struct, frozen=True):
    """One step: bytes from rank to rank, and a table a phase, hop by hop."""

    case: str
    maps: tuple[NumberMap, ...]
    tables: tuple[Table, ...]


class LossCosts(msgspec.Struct, frozen=True):
    """How the exchanges of one loss compare."""

    name: str
    charts: tuple[Chart, ...]
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
    said = headline(report)
    rate = words.rate(report.cases, report.elapsed_s)
    return {
        "verdict": said.verdict.upper(),
        "sentence": said.sentence,
        "problems": _problems(report),
        "figures": (
            Figure("distinct cases", words.count(report.cases), "counted"),
            Figure("wall clock", words.seconds(report.elapsed_s), "measured"),
            Figure("cases per second", rate.removesuffix(" cases per second"), "measured"),
            Figure("counterexamples", words.count(len(report.counterexamples)), "counted"),
            Figure("undecided", words.count(len(report.unknowns)), "counted"),
        ),
    }


def equivalence(report: Report) -> View | None:
    """Prepare the worst shares of the bound: all losses at a glance, then each as a matrix, as charts and in full."""
    losses = [
        LossEquivalence(
            name=words.one_line(loss.name),
            verdict=loss.verdict,
            about=tuple(sections.about(loss)),
            matrix=_matrix(loss.cells),
            charts=tuple(share_charts(loss.cells)),
            caption=_share_caption(loss),
            table=sections.equivalence(loss.cells),
            by_dtype=sections.by_dtype(loss.cells),
            nearest=tuple(sections.nearest(loss.cells)),
        )
        for loss in report.losses
        if loss.cells
    ]
    overview = sections.overview(report) if len(losses) > 1 else None
    return {"losses": losses, "overview": overview} if losses else None


def _share_caption(loss: LossResult) -> str:
    """Say what the charts of shares show."""
    cases = sum(cell.cases for cell in loss.cells)
    each = "Every case a dot" if cases <= DOTS_AT_MOST else f"{cases:,} cases as a density: the darker, the more"
    return (
        f"{each}, and a mark at the worst, by quantity: error as a share of its bound, measured; logarithmic. "
        "Shares of 0.001 and less stand on the lower edge. "
    )


def coverage(report: Report) -> View | None:
    """Prepare which blocks each exchange counts in forward and receives gradients for in backward."""
    losses = [
        LossCoverage(
            words.one_line(loss.name),
            all(matrix.values == matrix.expected for seen in loss.coverage for matrix in seen.matrices),
            tuple(
                Coverage(fact.name, fact.value, tuple(covered(matrix) for matrix in matrices))
                for fact, (_, matrices) in zip(sections.coverage(loss), sections.coverage_matrices(loss), strict=True)
            ),
        )
        for loss in report.losses
        if loss.coverage
    ]
    return {"losses": losses} if losses else None


def messages(report: Report) -> View | None:
    """Prepare plan, count, wire and lower bound of each loss, and one step of it hop by hop."""
    losses = [
        LossMessages(words.one_line(loss.name), tuple(sections.messages(loss.messages)), _step(loss.sample_step))
        for loss in report.losses
        if loss.messages or _step(loss.sample_step)
    ]
    return {"losses": losses} if losses else None


def _step(step: StepMessages | None) -> Step | None:
    if step is None or not step.events:
        return None
    return Step(str(step.case), tuple(sent_maps(step)), tuple(hop_tables(step)))


def compared(report: Report) -> View | None:
    """Prepare how the exchanges compare, what was counted and measured apart from what is modelled."""
    losses = [
        LossCosts(words.one_line(loss.name), tuple(charts), tuple(sections.costs(loss)))
        for loss in report.losses
        if (charts := list(_counted_charts(loss))) or loss.costs
    ]
    of = report.modelled
    modelled = None if of is None else {"facts": sections.modelled(of), "charts": list(modelled_charts(of))}
    return {"losses": losses, "modelled": modelled} if losses or modelled else None


def _counted_charts(loss: LossResult) -> Iterator[Chart]:
    """Draw the steps of the size that was counted first, beside what steps took and kept."""
    first = [row for row in loss.messages if sections.step_of(row) == sections.step_of(loss.messages[0])]
    yield from counted_charts(first, loss.costs)


def known_bugs(report: Report) -> View | None:
    """Prepare which planted bugs were caught, and what the check said of them."""
    if report.catalogue is None:
        return None
    return {
        "verdict": report.catalogue.verdict,
        "headline": sections.bugs_headline(report.catalogue).partition(": ")[2],
        "tables": sections.bug_tables(report.catalogue),
    }


def counterexamples(report: Report) -> View | None:
    """Prepare every counterexample that is shown in full."""
    losses = _counterexamples(report)
    return {"losses": losses} if losses else None


def unjudged(report: Report) -> View | None:
    """Prepare every undecided case that is shown in full."""
    losses = _unjudged(report)
    return {"losses": losses} if losses else None


def not_checked(report: Report) -> View | None:
    """Prepare what was not checked, and why."""
    losses = [(words.one_line(loss.name), sections.not_checked(loss)) for loss in report.losses if loss.left_out]
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
