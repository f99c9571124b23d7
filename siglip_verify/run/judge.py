"""From one case to one verdict: run it on a world, hold what comes back against the oracle and the plan.

Here: the joint of world, oracle, plan and check. Not here: where cases come from (`search`).
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from siglip_verify.adapt import LossSpec, LossSpecError, Traits
from siglip_verify.case import Case
from siglip_verify.checks import equivalence
from siglip_verify.checks.expected import expected
from siglip_verify.checks.failures import located
from siglip_verify.checks.inputs import unchanged
from siglip_verify.checks.step_messages import findings_of
from siglip_verify.records import CaseResult, Event, Finding, RankRecord, Share, Verdict
from siglip_verify.run import step
from siglip_verify.run.declare import form_of
from siglip_verify.run.logs import read_logs
from siglip_verify.world import WorldError, Worlds


class Watched(NamedTuple):
    """One judged step, with all that was seen of it.

    Attributes:
        result: The judgement.
        records: What each rank computed, in rank order; empty where one gave no record.
        events: What all ranks posted.
    """

    result: CaseResult
    records: tuple[RankRecord, ...]
    events: tuple[Event, ...]


class CaseJudge:
    """Judges cases of one loss on warm worlds.

    Args:
        worlds: Where the ranks are.
        spec: The loss.
        traits: What it takes.
    """

    def __init__(self, worlds: Worlds, spec: LossSpec, traits: Traits) -> None:
        self.worlds = worlds
        self.spec = spec
        self.traits = traits
        self._form = form_of(spec, worlds.gather_backward)

    def __call__(self, case: Case) -> CaseResult:
        """Judge one case.

        Raises:
            LossSpecError: The loss cannot be used as declared.
        """
        return self.watch(case).result

    def watch(self, case: Case, *, timeout_s: float | None = None) -> Watched:
        """Judge one case, and return what the judgement rests on too.

        Args:
            case: The input.
            timeout_s: Seconds that a rank may take; None takes the worlds'.

        Raises:
            LossSpecError: The loss cannot be used as declared.
        """
        with self.worlds.alone(case.world_size):
            return self._watched(case, timeout_s)

    def _watched(self, case: Case, timeout_s: float | None) -> Watched:
        """Run, read and judge; whoever calls it has the world alone."""
        started, since_s = time.perf_counter(), self.worlds.now_s()
        records: list[RankRecord] = []
        try:
            replies = self._run(case, timeout_s)
        except WorldError as error:
            if not error.failures:  # there were no ranks, so there is nothing to judge
                elapsed_s = time.perf_counter() - started
                result = CaseResult(case=case, verdict="unknown", reason=error.reason, elapsed_s=elapsed_s)
                return Watched(result, (), ())
            shares, logs = None, read_logs(error.logs, since_s)
            failures = located(error.failures, logs.events)
        else:
            records = _records(replies)
            shares, failures = self._shares(case, records), ()
            logs = read_logs(self.worlds.logs(case.world_size), since_s)
        failures += logs.overflowed
        findings = unchanged(records) + findings_of(
            case, logs.events, form=self._form, failures=failures, past_forward=logs.past_forward
        )
        if findings and not failures:
            self.worlds.discard(case.world_size)  # what was sent and never received would reach the next step
        result = CaseResult(
            case=case,
            verdict=_verdict(shares, findings, whole=not logs.overflowed),
            shares=shares or (),
            findings=findings,
            failures=failures,
            elapsed_s=time.perf_counter() - started,
        )
        return Watched(result, tuple(records), tuple(logs.events))

    def _run(self, case: Case, timeout_s: float | None) -> list[Any]:
        """Run one step of the case on every rank."""
        return self.worlds.run(case.world_size, step.step, self.spec, self.traits, case, timeout_s=timeout_s)

    def _shares(self, case: Case, records: list[RankRecord]) -> tuple[Share, ...]:
        return equivalence.judge(case, records, expected(case, self.spec), row_wise=self.spec.row_wise)


def _verdict(shares: tuple[Share, ...] | None, findings: tuple[Finding, ...], *, whole: bool) -> Verdict:
    """Say mismatch for a finding or a share beyond its bound, else unknown without shares or a whole record."""
    if findings or any(not share.share <= 1 for share in shares or ()):
        return "mismatch"
    return "unknown" if shares is None or not whole else "pass"


def _records(replies: list[RankRecord | step.Rejected]) -> list[RankRecord]:
    for reply in replies:
        if isinstance(reply, step.Rejected):
            raise LossSpecError(reply.why)
    return [reply for reply in replies if isinstance(reply, RankRecord)]
