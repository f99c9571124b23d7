"""What went wrong: counterexamples, undecided cases, findings, failures; all within bounds."""

from __future__ import annotations

from collections.abc import Sequence

from siglip_verify.checks.failures import failure_sentence, happened
from siglip_verify.records import CaseResult, Counterexample, Finding, RankFailure, Share
from siglip_verify.report import diagnosis, words
from siglip_verify.report.blocks import Entry, Fact, Verbatim

TRACEBACK_LINES = 30
STDERR_LINES = 12
RANKS_SHOWN = 8
FINDINGS_SHOWN = 8
ENTRIES_SHOWN = 20


def counterexamples(found: Sequence[Counterexample]) -> list[Entry]:
    """Show the first counterexamples, and say how many more there are."""
    return _first_entries([_counterexample(each) for each in found[:ENTRIES_SHOWN]], len(found))


def unjudged_cases(results: Sequence[CaseResult]) -> list[Entry]:
    """Show the first undecided cases, and say how many more there are."""
    return _first_entries([unjudged(result) for result in results[:ENTRIES_SHOWN]], len(results))


def _first_entries(entries: list[Entry], total: int) -> list[Entry]:
    if total <= len(entries):
        return entries
    return [*entries, Entry(title=f"{total - len(entries):,} more like these, in report.json", tone="muted")]


def failing(result: CaseResult) -> Entry:
    """Show a case that fails and was not shrunk to the end."""
    case = result.case
    return Entry(
        title=f"Fails, not shrunk to the end: {case.exchange} at W = {case.world_size}",
        tone="mismatch",
        facts=_mismatch_facts(result),
        verbatim=_verbatim(result.failures),
    )


def unjudged(result: CaseResult) -> Entry:
    """Show an undecided case: which rank did what, its traceback and last output."""
    case = result.case
    facts = [Fact("case", str(case)), *_failures(result.failures), *_findings(result.findings)]
    return Entry(
        title=f"Undecided: {case.exchange} at W = {case.world_size}",
        tone="unknown",
        lead=words.one_line(failure_sentence(result.failures, case.world_size, result.reason)),
        facts=(*facts, Fact("ended after", words.seconds(result.elapsed_s), "measured")),
        verbatim=_verbatim(result.failures),
    )


def what_went_wrong(
    findings: Sequence[Finding], failures: Sequence[RankFailure]
) -> tuple[tuple[Fact, ...], tuple[Verbatim, ...]]:
    """Show the findings in the messages of a step, the ranks that failed, and what these said last."""
    return (*_findings(findings), *_failures(failures)), _verbatim(failures)


def _counterexample(found: Counterexample) -> Entry:
    """Show a shrunk case that fails: every figure of its worst quantity, the other quantities, findings, replay."""
    result, case = found.result, found.result.case
    tried = f"{words.plural(found.calls, 'case')} tried from the first failure to this one"
    facts = [Fact("shrunk", tried, "counted")]
    if not found.reproducible:
        facts.append(Fact("race", "the same case did not fail when it was run a second time"))
    said = found.diagnosis
    return Entry(
        title=f"Counterexample, the smallest found: {case.exchange} at W = {case.world_size}",
        tone="mismatch",
        lead=diagnosis.lead(said) if said else "",
        heat_maps=diagnosis.heat_maps(said) if said else (),
        facts=(*(diagnosis.facts(said) if said else ()), *_mismatch_facts(result), *facts),
        verbatim=_verbatim(result.failures),
        replay=words.printable(found.replay).replace("\n", "\\n"),
    )


def _mismatch_facts(result: CaseResult) -> tuple[Fact, ...]:
    return (
        Fact("case", str(result.case)),
        *_share_facts(result.shares),
        *_findings(result.findings),
        *_failures(result.failures),
    )


def _share_facts(shares: tuple[Share, ...]) -> list[Fact]:
    """Say everything of the worst share, and of the others what share of their bound they took."""
    worst = words.worst_share(shares)
    if worst is None:
        return []
    others = [share for share in shares if share is not worst]
    beyond = [_brief(share) for share in others if not share.share <= 1]
    within = [_brief(share) for share in others if share.share <= 1]
    facts = [
        Fact("quantity", words.QUANTITIES[worst.quantity]),
        Fact("rank", "all, reduced" if worst.rank is None else str(worst.rank)),
        Fact("index", str(list(worst.index)) if worst.index else ""),
        Fact("expected by the oracle", words.exact(worst.expected), "modelled"),
        Fact("observed", words.exact(worst.observed), "measured"),
        Fact("error", words.exact(worst.error), "measured"),
        Fact("bound", words.exact(worst.bound), "modelled"),
        Fact("error / bound", words.share(worst.share), "measured"),
        Fact("note", words.one_line(worst.note)),
        Fact("also out of bounds", ", ".join(beyond), "measured"),
        Fact("within bounds", ", ".join(within), "measured"),
    ]
    return [fact for fact in facts if fact.value]


def _brief(share: Share) -> str:
    return f"{words.QUANTITIES[share.quantity]} {words.share(share.share)}"


def _findings(findings: Sequence[Finding]) -> list[Fact]:
    said = [Fact("finding", f"{words.one_line(each.name)}: {words.one_line(each.detail)}") for each in findings]
    return _bounded(said, FINDINGS_SHOWN, "finding")


def _failures(failures: Sequence[RankFailure]) -> list[Fact]:
    """Say what each rank did, those to blame first."""
    ordered = sorted(failures, key=lambda failure: (not failure.blamed, failure.rank))
    said = [Fact(f"rank {failure.rank}", _happened(failure)) for failure in ordered]
    return _bounded(said, RANKS_SHOWN, "rank")


def _happened(failure: RankFailure) -> str:
    follows = "" if failure.blamed else ", as a consequence of another rank's failure"
    return f"{failure.kind}{follows}: {words.one_line(happened(failure))}"


def _verbatim(failures: Sequence[RankFailure]) -> tuple[Verbatim, ...]:
    """Show traceback and output of the ranks to blame, or of all where none is, within bounds."""
    told = [failure for failure in failures if failure.blamed] or failures
    texts = [text for failure in told[:RANKS_SHOWN] for text in (_trace(failure), _output(failure))]
    return tuple(text for text in texts if text.text)


def _trace(failure: RankFailure) -> Verbatim:
    """Show the end of the trace that says most: an exception's last lines, the first ones of a stack."""
    if failure.kind == "raised":
        return Verbatim(f"traceback of rank {failure.rank}", words.last_lines(failure.traceback, TRACEBACK_LINES))
    return Verbatim(f"stack of rank {failure.rank}", words.first_lines(failure.traceback, TRACEBACK_LINES))


def _output(failure: RankFailure) -> Verbatim:
    return Verbatim(f"last output of rank {failure.rank}", words.last_lines(failure.stderr_tail, STDERR_LINES))


def _bounded(facts: list[Fact], limit: int, noun: str) -> list[Fact]:
    more = len(facts) - limit
    return facts if more <= 0 else [*facts[:limit], Fact(f"{noun}s", f"{more} more, in report.json", "counted")]
