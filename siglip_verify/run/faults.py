"""Faults set off in real ranks: what is said of each, how soon, and what is left behind.

Here: setting off a fault in a step and holding the outcome against what must come of it. Not here: which faults
(`run.fault_plans`), what a fault is (`fault`), counting over a whole run (`run.leaks`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from siglip_verify.adapt import LossSpec
from siglip_verify.case import Case
from siglip_verify.checks.failures import failure_sentence
from siglip_verify.fault import EXPECTED, Burst, Fault, FaultOutcome, FaultReport
from siglip_verify.records import CaseResult
from siglip_verify.run import step
from siglip_verify.run.judge import CaseJudge
from siglip_verify.run.leaks import Growth, left_behind
from siglip_verify.run.limits import load_traits
from siglip_verify.run.orphans import kill_parent
from siglip_verify.run.search import Outcome, search
from siglip_verify.run.strategies import cases
from siglip_verify.world import Worlds
from siglip_verify.world.census import Surroundings, surroundings

MARGIN_S = 5.0
"""What a verdict may take beyond the timeout, seconds."""

Act = tuple[Fault, Case] | Burst
Progress = Callable[[FaultOutcome | Burst], None]


def run_faults(
    acts: Iterable[Act], *, timeout_s: float, seed: int, progress: Progress = lambda done: None
) -> FaultReport:
    """Set off faults in steps of our own loss, judge cases between them, and count what is left behind.

    Args:
        acts: Faults, and bursts of cases without any, in order.
        timeout_s: Seconds that a rank may take in a step with a fault.
        seed: Where the acts were drawn from, for the report.
        progress: Called after each act.
    """
    started = time.perf_counter()
    outcomes: list[FaultOutcome] = []
    with surroundings() as place:
        with Worlds() as worlds:
            growth = Growth()
            run = _FaultRun(worlds, place, timeout_s)
            for act in acts:
                if isinstance(act, Burst):
                    run.burst(act)
                    progress(act)
                else:
                    outcomes.append(run.fault(*act))
                    progress(outcomes[-1])
                growth.look(worlds)
            rebuilt = worlds.rebuilt
        leaks = (*left_behind(place), *growth.rows())
    return FaultReport(
        outcomes=tuple(outcomes),
        cases=run.cases,
        wrong_cases=tuple(run.wrong_cases),
        rebuilt=rebuilt,
        leaks=leaks,
        seed=seed,
        timeout_s=timeout_s,
        elapsed_s=time.perf_counter() - started,
    )


class _FaultRun:
    """Sets off faults on warm worlds, and judges cases of the same loss without one.

    Attributes:
        cases: How many cases without a fault were judged.
        wrong_cases: Those that did not pass, in words.
    """

    def __init__(self, worlds: Worlds, place: Surroundings, timeout_s: float) -> None:
        self._worlds = worlds
        self._place = place
        self._timeout_s = timeout_s
        self._spec = LossSpec()
        self._traits = load_traits(worlds, self._spec)
        self._judge = CaseJudge(worlds, self._spec, self._traits)
        self.cases = 0
        self.wrong_cases: list[str] = []

    def fault(self, fault: Fault, case: Case) -> FaultOutcome:
        """Set off one fault, then run the same case without it."""
        if EXPECTED[fault.kind].verdicts:
            outcome = self._judged(fault, case)
        else:
            outcome = kill_parent(self._place, self._spec, fault, case, within_s=self._timeout_s + MARGIN_S)
        left = (*outcome.left, *self._left_over())
        after = self.case(case)
        wrong = (*outcome.wrong, *left, *([f"the next case: {after}"] if after else []))
        return msgspec.structs.replace(outcome, left=left, wrong=wrong)

    def burst(self, burst: Burst) -> None:
        """Judge random cases without a fault, drawn as a check draws them."""
        strategy = cases(burst.exchange, [burst.world_size])
        search(strategy, self._watched, Outcome(), examples=burst.examples, seed=burst.seed, shrink=False)

    def case(self, case: Case) -> str:
        """Judge one case without a fault; return what is wrong, empty where it passes."""
        return _complaint(self._watched(case))

    def _watched(self, case: Case) -> CaseResult:
        result = self._judge(case)
        self.cases += 1
        if result.verdict != "pass":
            self.wrong_cases.append(f"{case}: {_complaint(result)}")
        return result

    def _judged(self, fault: Fault, case: Case) -> FaultOutcome:
        world = self._worlds.world(case.world_size)
        pids, folder = set(world.pids), world.folder
        judge = _FaultyJudge(self._worlds, self._spec, self._traits)
        judge.fault = fault
        result = judge.watch(case, timeout_s=self._timeout_s).result
        wrong = list(misjudged(fault, result))
        if result.elapsed_s > self._timeout_s + MARGIN_S:
            wrong.append(f"took {result.elapsed_s:.1f} s, where the timeout is {self._timeout_s:g} s")
        failed, said, left = result.verdict != "pass", _said(result), list[str]()
        if failed and (lasting := pids & self._place.processes()):
            left.append(f"{len(lasting)} processes of the broken world live on")
        if failed and folder is not None and folder.exists():
            left.append("the folder of the broken world is left")
        return FaultOutcome(
            fault=fault,
            case=case,
            verdict=result.verdict,
            said=said,
            elapsed_s=result.elapsed_s,
            names_rank=_names(f"rank {fault.rank}", said) if failed else None,
            names_hop=_names(fault.place, said) if failed else None,
            left=tuple(left),
            wrong=tuple(wrong),
        )

    def _left_over(self) -> Iterator[str]:
        """Name what is there beside the worlds that are warm."""
        strangers = self._place.processes() - set(self._worlds.pids())
        if strangers:
            yield f"{len(strangers)} processes are left that belong to no world"
        folders = {path.parent for path in self._place.files() if path.name == "template.out"}
        if strange := folders - {self._worlds.folder}:
            yield f"{len(strange)} private folders are left that belong to no pool"


class _FaultyJudge(CaseJudge):
    """Judges steps in which one rank commits a fault."""

    fault: Fault

    def _run(self, case: Case, timeout_s: float | None) -> list[Any]:
        call = (step.faulty_step, self.spec, self.traits, case, self.fault)
        return self.worlds.run(case.world_size, *call, timeout_s=timeout_s)


def _said(result: CaseResult) -> str:
    """Return what is said of a case: who failed, or what was found in the messages."""
    if result.verdict == "unknown":
        return failure_sentence(result.failures, result.case.world_size, result.reason)
    return "; ".join(finding.detail for finding in result.findings)


def misjudged(fault: Fault, result: CaseResult) -> Iterator[str]:
    """Say what is wrong with a verdict: what it is, whom it blames, whether it names the place."""
    expected, said = EXPECTED[fault.kind], _said(result)
    if result.verdict not in expected.verdicts:
        yield f"{result.verdict} in place of {' or '.join(expected.verdicts)}: {said or _complaint(result)}"
    if result.verdict == "unknown":
        blamed = sorted(failure.rank for failure in result.failures if failure.blamed)
        if blamed != [fault.rank]:
            yield f"blames ranks {blamed} in place of {fault.rank}: {said}"
    if result.verdict == "mismatch" and not any(
        finding.rank == fault.rank and _names(fault.place, finding.detail) for finding in result.findings
    ):
        yield f"does not name rank {fault.rank} in {fault.place}: {said}"
    if result.verdict != "pass":
        if not _names(f"rank {fault.rank}", said):
            yield f"does not name rank {fault.rank}: {said}"
        if not _names(fault.place, said):
            yield f"does not name {fault.place}: {said}"
        if not re.search(expected.says, said):
            yield f"does not say {expected.says}: {said}"


def _names(place: str, text: str) -> bool:
    return re.search(rf"\b{place}\b", text) is not None


def _complaint(result: CaseResult) -> str:
    """Say why a case did not pass; empty where it did."""
    if result.verdict == "pass":
        return ""
    beyond = ", ".join(share.quantity for share in result.shares if not share.share <= 1)
    return f"{result.verdict}: {_said(result) or beyond}"
