"""The verifier held against the catalogue of known bugs: what it catches, after how many cases, and what it says.

Here: running each entry through the same search, judge and diagnosis as any loss. Not here: the bugs (`bugs`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable

import msgspec
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from siglip_verify.bugs import CATALOGUE, CONTROLS, Bug, Control
from siglip_verify.case import Case, Exchange
from siglip_verify.checks.memory import MEMORY_FINDINGS
from siglip_verify.errors import UsageError
from siglip_verify.records import CaseResult, Diagnosis
from siglip_verify.result import BugResult, CatalogueResult, ControlResult, WeakerChecker
from siglip_verify.run.diagnose import diagnose_mismatch
from siglip_verify.run.judge import CaseJudge
from siglip_verify.run.limits import dimensions_of, load_traits
from siglip_verify.run.memory import diagnosis_of as memory_diagnosis
from siglip_verify.run.memory import judge_memory
from siglip_verify.run.search import Outcome, search
from siglip_verify.run.strategies import Dimensions, cases
from siglip_verify.world import Worlds

WORLD_SIZES = (2, 3, 4, 5)
CASES = 25
CASES_OF_A_WEAKER_CHECKER = 12
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
    seed: int,
    controls: Iterable[Control] = (),
    weaker: bool = True,
    progress: Progress = lambda result: None,
) -> CatalogueResult:
    """Search every bug for a failing case and say what was found; hold every control against the same check.

    Args:
        worlds: Where the ranks are.
        bugs: Which entries.
        seed: Where the draws start.
        controls: Losses that must pass.
        weaker: Whether to find out too what weaker checkers would have missed.
        progress: Called with each result.
    """
    started = time.perf_counter()
    found: list[BugResult] = []
    for bug in bugs:
        found.append(_run_bug(worlds, bug, seed, weaker=weaker))
        progress(found[-1])
    accepted: list[ControlResult] = []
    for control in controls:
        accepted.append(_run_control(worlds, control, seed))
        progress(accepted[-1])
    return CatalogueResult(
        seed=seed,
        bugs=tuple(found),
        controls=tuple(accepted),
        weaker=tuple(_weaker_checkers(found)) if weaker else (),
        elapsed_s=time.perf_counter() - started,
    )


def all_controls() -> list[Control]:
    """Return every control of the catalogue."""
    return list(CONTROLS.values())


def _run_bug(worlds: Worlds, bug: Bug, seed: int, *, weaker: bool) -> BugResult:
    started = time.perf_counter()
    traits = load_traits(worlds, bug.spec)
    judge = CaseJudge(worlds, bug.spec, traits)
    dimensions = msgspec.structs.replace(dimensions_of(bug.spec, traits)[0], layouts=Dimensions().layouts)
    outcome, caught = _first_caught(judge, _drawn(bug.exchanges, WORLD_SIZES, dimensions), seed)
    if caught is not None:
        diagnosis = diagnose_mismatch(judge, caught)
    else:  # all numbers are right; what is left is what its steps hold
        caught = _failing(judge_memory(worlds, bug.spec, traits, bug.exchanges[0]))
        diagnosis = memory_diagnosis(caught) if caught is not None else None
    return BugResult(
        id=bug.id,
        sentence=bug.sentence,
        source=bug.source,
        caught=_how(caught),
        cases=len(outcome.results),
        case=str(caught.case) if caught is not None else "",
        quantities=tuple(share.quantity for share in caught.shares if not share.share <= 1) if caught else (),
        findings=tuple(finding.name for finding in caught.findings) if caught else (),
        diagnosis=diagnosis.sentence if diagnosis else "",
        named=_named(bug, diagnosis),
        missed_by=tuple(_missed_by(judge, bug, dimensions, seed)) if weaker and caught and caught.shares else (),
        elapsed_s=time.perf_counter() - started,
    )


def _run_control(worlds: Worlds, control: Control, seed: int) -> ControlResult:
    started = time.perf_counter()
    traits = load_traits(worlds, control.spec)
    judge = CaseJudge(worlds, control.spec, traits)
    exchanges = control.exchanges if traits.takes_exchange else control.exchanges[:1]
    strategy = _drawn(exchanges, (1, *WORLD_SIZES), dimensions_of(control.spec, traits)[0])
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


def _drawn(exchanges: tuple[Exchange, ...], world_sizes: tuple[int, ...], of: Dimensions) -> SearchStrategy[Case]:
    return st.sampled_from(exchanges).flatmap(lambda exchange: cases(exchange, world_sizes, of))


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


def _how(caught: CaseResult | None) -> str:
    """Say how a bug showed: `mismatch`, `memory`, or for a rank that failed how it did; empty if it was missed."""
    if caught is None:
        return ""
    if any(finding.name in MEMORY_FINDINGS for finding in caught.findings):
        return "memory"
    if caught.verdict == "mismatch":
        return "mismatch"
    kinds = [failure.kind for failure in caught.failures if failure.blamed] or [f.kind for f in caught.failures]
    return kinds[0] if kinds else "unknown"


def _named(bug: Bug, diagnosis: Diagnosis | None) -> bool:
    return diagnosis is not None and re.search(bug.diagnosis, diagnosis.sentence, re.IGNORECASE) is not None


# ------------------------------------------------------------------ what weaker checkers would have missed
WEAKER = {
    "loss only": "the loss and no gradient, on the full range of cases",
    "W = 2 only": "everything, at two ranks alone",
    "b = 1 only": "everything, with one row a rank",
    "equal data on all ranks": "everything, every rank holding the same rows",
    "initial scale and bias only": "everything, at t = 10, c = -10, with a tolerance of 1e-4",
}
_USUAL_TOLERANCE = 1e-4


def _missed_by(judge: CaseJudge, bug: Bug, of: Dimensions, seed: int) -> Iterable[str]:
    """Name the weaker checkers that see nothing wrong in as many cases of their own kind."""
    replace = msgspec.structs.replace
    drawn = {
        "loss only": _drawn(bug.exchanges, WORLD_SIZES, of),
        "W = 2 only": _drawn(bug.exchanges, (2,), of),
        "b = 1 only": _drawn(bug.exchanges, WORLD_SIZES, replace(of, max_batch=1)),
        "equal data on all ranks": _drawn(bug.exchanges, WORLD_SIZES, replace(of, features=("equal-on-all-ranks",))),
        "initial scale and bias only": _drawn(bug.exchanges, WORLD_SIZES, replace(of, regimes=((10.0, -10.0),))),
    }
    sees: dict[str, Callable[[CaseResult], bool]] = {
        "loss only": lambda result: any(not s.share <= 1 for s in result.shares if s.quantity == "loss"),
        "initial scale and bias only": lambda result: any(_relative(s.error, s.expected) for s in result.shares),
    }
    for name, strategy in drawn.items():
        outcome = Outcome()
        look = sees.get(name, lambda result: any(not share.share <= 1 for share in result.shares))

        def watch(case: Case, look: Callable[[CaseResult], bool] = look) -> CaseResult:
            result = judge(case)
            seen = bool(result.failures) or look(result)
            return msgspec.structs.replace(result, verdict="mismatch" if seen else "pass")

        search(strategy, watch, outcome, examples=CASES_OF_A_WEAKER_CHECKER, seed=seed, shrink=False)
        if outcome.first is None:
            yield name


def _relative(error: float, expected: float) -> bool:
    return not error <= _USUAL_TOLERANCE * max(1.0, abs(expected))


def _weaker_checkers(found: list[BugResult]) -> Iterable[WeakerChecker]:
    numeric = [bug for bug in found if bug.caught == "mismatch" and bug.quantities]
    for name, looks_at in WEAKER.items():
        missed = tuple(bug.id for bug in numeric if name in bug.missed_by)
        yield WeakerChecker(name=name, looks_at=looks_at, of=len(numeric), missed=missed)
