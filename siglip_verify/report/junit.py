"""The report as JUnit XML, which CI systems show by themselves.

One test suite for each loss, one test case for each exchange and world size. A mismatch is a failure; what is undecided
is an error, never a pass; so is a loss of which nothing was checked.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator

from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

from siglip_verify.case import Case
from siglip_verify.records import Cell
from siglip_verify.report import diagnosis, sections, words
from siglip_verify.report.blocks import Entry
from siglip_verify.report.headline import headline
from siglip_verify.result import CatalogueResult, LossResult, Report


def render(report: Report) -> bytes:
    """Render the result."""
    suites = JUnitXml("siglip_verify")
    names = [words.one_line(loss.name) for loss in report.losses]
    for index, (name, loss) in enumerate(zip(names, report.losses, strict=True)):
        earlier = names[:index].count(name)  # suites of the same name would be merged
        suites.add_testsuite(_suite(loss, report, f"{name} ({earlier + 1})" if earlier else name))
    if report.catalogue is not None:
        suites.add_testsuite(_known_bugs(report.catalogue))
    if not report.losses:
        nothing = TestSuite("siglip_verify")
        nothing.add_testcase(_nothing_checked("siglip_verify"))
        suites.add_testsuite(nothing)
    suites.update_statistics()
    file = io.BytesIO()
    suites.write(file, pretty=True)
    return file.getvalue()


def _suite(loss: LossResult, report: Report, name: str) -> TestSuite:
    suite = TestSuite(name)
    suite.timestamp = words.one_line(report.started_at)
    suite.add_property("headline", str(headline(report)))
    for fact in (*sections.about(loss), *sections.settings(report), *sections.environment(report)):
        suite.add_property(fact.name, fact.value)
    suite.add_testcases(list(_cases(loss)))
    return suite


def _cases(loss: LossResult) -> Iterator[TestCase]:
    name = words.one_line(loss.name)
    for cell in loss.cells:
        case = TestCase(f"{cell.exchange} W={cell.world_size}", name, _time(cell))
        if cell.verdict == "mismatch":
            found = [each for each in loss.counterexamples if _is_of(each.result.case, cell)]
            case.result = [_problem(Failure(), cell, sections.counterexamples(found))]
        elif cell.verdict == "unknown":
            results = [each for each in loss.unknowns if _is_of(each.case, cell)]
            case.result = [_problem(Error(), cell, sections.unjudged_cases(results))]
        yield case
    if not loss.cells:
        yield _nothing_checked(name)
    yield from _beside(loss, name)


def _beside(loss: LossResult, name: str) -> Iterator[TestCase]:
    """Make a test case of each failure that no failing cell tells of, and one of a verdict that nothing tells of."""
    told = {(cell.exchange, cell.world_size) for cell in loss.cells if cell.verdict != "pass"}
    beside: list[tuple[Case, Failure | Error, Entry]] = []
    for found, entry in zip(loss.counterexamples, sections.counterexamples(loss.counterexamples), strict=False):
        beside.append((found.result.case, Failure("fails beside the cells", "mismatch"), entry))
    for result, entry in zip(loss.unknowns, sections.unjudged_cases(loss.unknowns), strict=False):
        beside.append((result.case, Error("undecided beside the cells", "unknown"), entry))
    beside = [each for each in beside if (each[0].exchange, each[0].world_size) not in told]
    for case, problem, entry in beside:
        problem.text = _entry(entry)
        yield _problem_case(f"{case.exchange} W={case.world_size}, beside the cells", name, problem)
    if loss.verdict != "pass" and loss.cells and not told and not beside:
        problem = Failure if loss.verdict == "mismatch" else Error
        yield _problem_case("verdict", name, problem(f"the verdict on this loss is {loss.verdict}", loss.verdict))


def _known_bugs(catalogue: CatalogueResult) -> TestSuite:
    """Make a test case of each planted bug, which fails where it was missed, and of each right loss."""
    suite = TestSuite("known bugs")
    for bug in catalogue.bugs:
        how = "; ".join(bug.amiss) or f"missed in {words.plural(bug.cases, 'case')}"
        missed = Failure(words.one_line(f"{how}: {bug.sentence}"), "mismatch")
        suite.add_testcase(_timed(bug.id, None if bug.passes else missed, bug.elapsed_s))
    for control in catalogue.controls:
        problem = Error if control.verdict == "unknown" else Failure
        refused = problem(f"a right loss came to {control.verdict} on {words.one_line(control.case)}", control.verdict)
        suite.add_testcase(_timed(control.id, None if control.verdict == "pass" else refused, control.elapsed_s))
    return suite


def _timed(title: str, problem: Failure | Error | None, elapsed_s: float) -> TestCase:
    case = TestCase(words.one_line(title), "known bugs", elapsed_s if math.isfinite(elapsed_s) else 0.0)
    if problem is not None:
        case.result = [problem]
    return case


def _problem_case(title: str, name: str, problem: Failure | Error) -> TestCase:
    case = TestCase(title, name, 0.0)
    case.result = [problem]
    return case


def _is_of(case: Case, cell: Cell) -> bool:
    return (case.exchange, case.world_size) == (cell.exchange, cell.world_size)


def _problem(problem: Failure | Error, cell: Cell, entries: list[Entry]) -> Failure | Error:
    """Say in short what happened, and in full what is known of it."""
    nearest = words.nearest([cell])
    said = [words.one_line(cell.note), words.nearest_in_words(nearest) if nearest else ""]
    problem.type = cell.verdict
    problem.message = "; ".join([cell.verdict, *filter(None, said)])
    problem.text = "\n\n".join(map(_entry, entries)) or problem.message
    return problem


def _entry(entry: Entry) -> str:
    lines = [entry.title, *([entry.lead] if entry.lead else []), *map(str, entry.facts)]
    for shown in entry.heat_maps:
        lines += [f"{shown.title}:", diagnosis.as_text(shown)]
    for verbatim in entry.verbatim:
        lines += [f"{verbatim.label}:", verbatim.text]
    return "\n".join([*lines, *([f"replay: {entry.replay}"] if entry.replay else [])])


def _nothing_checked(name: str) -> TestCase:
    error = Error("not one exchange was run at any world size", "unknown")
    return _problem_case("nothing was checked", name, error)


def _time(cell: Cell) -> float:
    return cell.elapsed_s if math.isfinite(cell.elapsed_s) else 0.0
