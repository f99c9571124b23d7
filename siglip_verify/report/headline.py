"""The headline: the verdict, and in one sentence what a reader needs to know of a result, the same in every report.

Here: which losses and exchanges are equal, fail or are undecided, at which world sizes. Not here: layout of any kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from siglip_verify.checks.failures import listed
from siglip_verify.records import RankFailure, Verdict
from siglip_verify.report import words
from siglip_verify.result import CatalogueResult, LossResult, Report

_NAMED_AT_MOST = 3
_ENDS = ("raised", "died", "hung", "was stopped")


class Headline(NamedTuple):
    """The verdict, and the sentence beside it."""

    verdict: Verdict
    sentence: str

    def __str__(self) -> str:
        return f"{self.verdict.upper()}: {self.sentence}"


class Place(NamedTuple):
    """One exchange of one loss."""

    loss: LossResult
    exchange: str

    def at(self, verdict: Verdict) -> list[int]:
        """List the world sizes at which it has this verdict."""
        return [size for each, size, found in _places(self.loss) if each == self.exchange and found == verdict]

    def __str__(self) -> str:
        return f"{self.exchange} of {words.one_line(self.loss.name)}"


def headline(report: Report) -> Headline:
    """Say the verdict, what it is about, and on how many cases it rests."""
    places = [Place(loss, exchange) for loss in report.losses for exchange in exchanges_of(loss)]
    match report.verdict:
        case "pass":
            said = _equal(report)
        case "mismatch":
            said = _mismatch(report, places)
        case "unknown":
            said = _unknown(report, places)
    return Headline(report.verdict, "; ".join([said, *_caught(report.catalogue)]))


def exchanges_of(loss: LossResult) -> list[str]:
    """List the exchanges of a loss, each once, in order."""
    return list(dict.fromkeys(exchange for exchange, _, _ in _places(loss)))


def _places(loss: LossResult) -> Iterator[tuple[str, int, Verdict]]:
    """List exchange, world size and verdict of all cells, and of what was found beside them."""
    for cell in loss.cells:
        yield cell.exchange, cell.world_size, cell.verdict
    for result in (*(found.result for found in loss.counterexamples), *loss.unknowns):
        yield result.case.exchange, result.case.world_size, result.verdict


# ------------------------------------------------------------------ pass
def _equal(report: Report) -> str:
    """Say `2 losses in 7 forms equal one device: 1,408 cases, W = 1..8`."""
    sizes = {cell.world_size for loss in report.losses for cell in loss.cells if cell.cases}
    equal = "equals" if len(_names(report)) == 1 else "equal"
    cases = words.plural(report.cases, "case")
    return f"{_losses(report)} {equal} one device{_exchanges(report)}: {cases}, W = {words.ranges(sizes)}"


def _names(report: Report) -> list[str]:
    """Name the losses; forms of one loss, which differ in their arguments, share its name."""
    return list(dict.fromkeys(words.one_line(loss.name).partition("(")[0] for loss in report.losses))


def _losses(report: Report) -> str:
    names, forms = _names(report), len(report.losses)
    said = names[0] if len(names) == 1 else words.plural(len(names), "loss")
    return f"{said} in {forms} forms" if forms > len(names) else said


def _exchanges(report: Report) -> str:
    """Say in which exchanges, or how many, where all losses have the same."""
    each = [exchanges_of(loss) for loss in report.losses]
    if not each or any(names != each[0] for names in each):
        return ""
    return f" in {each[0][0]}" if len(each[0]) == 1 else f" in {words.plural(len(each[0]), 'exchange')}"


# ------------------------------------------------------------------ mismatch and unknown
def _mismatch(report: Report, places: Sequence[Place]) -> str:
    failing = [place for place in places if place.at("mismatch")]
    undecided = [place for place in places if place not in failing and place.at("unknown")]
    if not failing:
        return "; ".join([*_wrong_beside(report.catalogue), _equal(report)])
    said = [_said(failing, places, "mismatch", "fails", "fail")]
    said += [f"{len(undecided)} more undecided"] if undecided else []
    return "; ".join([*said, f"{words.plural(report.cases, 'case')} judged"])


def _wrong_beside(catalogue: CatalogueResult | None) -> list[str]:
    """Say what makes a mismatch where no exchange fails: planted bugs that were missed, right losses refused."""
    missed = 0 if catalogue is None else sum(not bug.passes for bug in catalogue.bugs)
    refused = 0 if catalogue is None else sum(control.verdict != "pass" for control in catalogue.controls)
    said = [f"{words.plural(missed, 'planted bug')} not caught as declared"] if missed else []
    said += [f"{words.plural(refused, 'right loss')} refused"] if refused else []
    return said or ["a loss fails beside its exchanges"]


def _unknown(report: Report, places: Sequence[Place]) -> str:
    undecided = [place for place in places if place.at("unknown")]
    judged = f"{words.plural(report.cases, 'case')} judged"
    if not undecided:
        return f"{'a loss is undecided' if places else 'nothing was checked'}; {judged}"
    said = _said(undecided, places, "unknown", "is undecided", "are undecided")
    ends = {"was stopped" if each.kind == "stopped" else each.kind for each in _to_blame(report)}
    why = f" (a rank {listed([end for end in _ENDS if end in ends])})" if ends else ""
    return f"{said}{why}; {judged}"


def _said(found: Sequence[Place], places: Sequence[Place], verdict: Verdict, one: str, many: str) -> str:
    """Name the first few places and the world sizes at which they have the verdict."""
    if len(found) == 1:
        return f"{found[0]} {one} at W = {words.ranges(found[0].at(verdict))}"
    named = [f"{place} at W = {words.ranges(place.at(verdict))}" for place in found[:_NAMED_AT_MOST]]
    named += [f"{len(found) - _NAMED_AT_MOST} more"] if len(found) > _NAMED_AT_MOST else []
    return f"{len(found)} of {words.plural(len(places), 'exchange')} {many}: {'; '.join(named)}"


def _to_blame(report: Report) -> list[RankFailure]:
    return [failure for result in report.unknowns for failure in result.failures if failure.blamed]


# ------------------------------------------------------------------ planted bugs
def _caught(catalogue: CatalogueResult | None) -> list[str]:
    """Say how many of the planted bugs were caught, where some were planted."""
    if catalogue is None:
        return []
    caught = sum(bug.passes for bug in catalogue.bugs)
    return [f"{caught} of {words.plural(len(catalogue.bugs), 'planted bug')} caught"]
