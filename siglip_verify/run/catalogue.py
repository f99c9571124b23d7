"""The verifier held against the catalogue of known bugs: what it catches, after how many cases, and what it says.

Here: running each entry through the same search, judge and diagnosis as any loss. Not here: the bugs (`bugs`), what
weaker checkers would have missed (`weaker`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Sequence

import msgspec
from hypothesis.strategies import SearchStrategy

from siglip_verify.bugs import CATALOGUE, CONTROLS, Bug, Control
from siglip_verify.bugs.verdict import amiss, beyond_bound, outcome_of
from siglip_verify.case import Case
from siglip_verify.errors import UsageError
from siglip_verify.records import CaseResult
from siglip_verify.result import BugResult, CatalogueResult, ControlResult
from siglip_verify.run.diagnose import diagnose_mismatch
from siglip_verify.run.judge import CaseJudge
from siglip_verify.run.limits import dimensions_of, load_traits
from siglip_verify.run.memory import diagnosis_of as memory_diagnosis
from siglip_verify.run.memory import judge_memory
from siglip_verify.run.search import Outcome, search
from siglip_verify.run.strategies import Dimensions, cases_of
from siglip_verify.run.weaker import missed_by, weaker_checkers
from siglip_verify.world import Worlds

WORLD_SIZES = (2, 3, 4, 5)
CASES = 25
PATIENCE_S = 60.0
"""What a case of a loss that does not hang may take, so that a busy machine is not taken for a bug, seconds."""
# One of each way to go wrong, so that the quick tier still sees every kind of evidence.
QUICK = (
    "p2p-no-grad",
    "gather-local-grad",
    "ddp-scale",
    "constant-without-gradient",
    "bidir-ping-pong",
    "bidir-no-remainder",
    "remote-positives",
    "label-offset",
    "bias-detached",
    "reduce-conditional",
    "lossy-wire",
)

Progress = Callable[[BugResult | ControlResult], None]


def chosen_bugs(only: Iterable[str]) -> list[Bug]:
    """Return the entries of some ids, or all.

    Raises:
        ValueError: There is no such id; the message lists those there are.
    """
    ids = list(only) or list(CATALOGUE)
    for bug_id in ids:
        if bug_id not in CATALOGUE:
            raise UsageError(f"--only takes ids of the catalogue: {', '.join(sorted(CATALOGUE))}; got {bug_id!r}")
    return [CATALOGUE[bug_id] for bug_id in ids]


def run_catalogue(
    worlds: Worlds,
    bugs: Iterable[Bug],
    *,
    seeds: Sequence[int],
    controls: Iterable[Control] = (),
    weaker: bool = True,
    progress: Progress = lambda result: None,
) -> CatalogueResult:
    """Search every bug for a failing case and say what was found; hold every control against the same check.

    Args:
        worlds: Where the ranks are.
        bugs: Which entries.
        seeds: Where the draws start: each bug is searched from every one, the rest is done from the first.
        controls: Losses that must pass.
        weaker: Whether to find out too what weaker checkers would have missed.
        progress: Called with each result.
    """
    started = time.perf_counter()
    found: list[BugResult] = []
    for bug in bugs:
        with _patient(worlds, 0 if "hung" in bug.outcomes else PATIENCE_S):
            found.append(_run_bug(worlds, bug, seeds, weaker=weaker))
        progress(found[-1])
    accepted: list[ControlResult] = []
    for control in controls:
        with _patient(worlds, PATIENCE_S):
            accepted.append(_run_control(worlds, control, seeds[0]))
        progress(accepted[-1])
    return CatalogueResult(
        seeds=tuple(seeds),
        bugs=tuple(found),
        controls=tuple(accepted),
        weaker=tuple(weaker_checkers(found)) if weaker else (),
        elapsed_s=time.perf_counter() - started,
    )


@contextlib.contextmanager
def _patient(worlds: Worlds, timeout_s: float) -> Generator[None]:
    """Give ranks at least so much time for a case."""
    usual_s, worlds.timeout_s = worlds.timeout_s, max(timeout_s, worlds.timeout_s)
    try:
        yield
    finally:
        worlds.timeout_s = usual_s


def all_controls() -> list[Control]:
    """Return every control of the catalogue."""
    return list(CONTROLS.values())


def _run_bug(worlds: Worlds, bug: Bug, seeds: Sequence[int], *, weaker: bool) -> BugResult:
    started = time.perf_counter()
    traits = load_traits(worlds, bug.spec)
    judge = CaseJudge(worlds, bug.spec, traits)
    dimensions = msgspec.structs.replace(dimensions_of(bug.spec, traits)[0], layouts=Dimensions().layouts)
    tries = [_search_bug(judge, bug, dimensions, seed) for seed in seeds]
    worst = max(tries, key=lambda each: (not each.caught, len(each.amiss), each.cases))
    missed = ()
    if weaker and worst.quantities:
        missed = tuple(missed_by(judge, bug.exchanges, WORLD_SIZES, dimensions, examples=CASES, seed=seeds[0]))
    return msgspec.structs.replace(worst, missed_by=missed, elapsed_s=time.perf_counter() - started)


def _search_bug(judge: CaseJudge, bug: Bug, dimensions: Dimensions, seed: int) -> BugResult:
    """Search for a case that shows a bug, from one seed, and hold what it shows against the entry."""
    started = time.perf_counter()
    outcome, caught = _first_caught(judge, cases_of(bug.exchanges, WORLD_SIZES, dimensions), seed)
    if caught is not None:
        diagnosis = diagnose_mismatch(judge, caught).sentence
    else:  # all numbers are right; what is left is what its steps hold
        caught = _failing(judge_memory(judge.worlds, judge.spec, judge.traits, bug.exchanges[0]))
        diagnosis = memory_diagnosis(caught).sentence if caught is not None else ""
    return BugResult(
        id=bug.id,
        sentence=bug.sentence,
        source=bug.source,
        caught=outcome_of(caught) if caught else "",
        seed=seed,
        cases=len(outcome.results),
        case=str(caught.case) if caught else "",
        quantities=beyond_bound(caught) if caught else (),
        findings=tuple(dict.fromkeys(finding.name for finding in caught.findings)) if caught else (),
        diagnosis=diagnosis,
        amiss=tuple(amiss(bug, caught, diagnosis)) if caught else (),
        missed_by=(),
        elapsed_s=time.perf_counter() - started,
    )


def _run_control(worlds: Worlds, control: Control, seed: int) -> ControlResult:
    started = time.perf_counter()
    traits = load_traits(worlds, control.spec)
    judge = CaseJudge(worlds, control.spec, traits)
    exchanges = control.exchanges if traits.takes_exchange else control.exchanges[:1]
    strategy = cases_of(exchanges, (1, *WORLD_SIZES), dimensions_of(control.spec, traits)[0])
    outcome, caught = _first_caught(judge, strategy, seed)
    caught = caught or _failing(judge_memory(worlds, control.spec, traits, exchanges[0]))
    return ControlResult(
        id=control.id,
        sentence=control.sentence,
        verdict=caught.verdict if caught is not None else "pass",
        cases=len(outcome.results),
        case=str(caught.case) if caught is not None else "",
        elapsed_s=time.perf_counter() - started,
    )


class _CaughtError(BaseException):
    """Ends a search at the first case that does not pass; not an Exception: Hypothesis would shrink it."""


def _first_caught(judge: CaseJudge, strategy: SearchStrategy[Case], seed: int) -> tuple[Outcome, CaseResult | None]:
    """Judge cases until one does not pass; return it, with all that were judged."""
    outcome, caught = Outcome(), list[CaseResult]()

    def watch(case: Case) -> CaseResult:
        result = judge(case)
        if result.verdict != "pass":
            outcome.results[case] = result
            caught.append(result)
            raise _CaughtError
        return result

    try:
        search(strategy, watch, outcome, examples=CASES, seed=seed, shrink=False)
    except _CaughtError:
        return outcome, caught[0]
    return outcome, None


def _failing(result: CaseResult) -> CaseResult | None:
    return None if result.verdict == "pass" else result
