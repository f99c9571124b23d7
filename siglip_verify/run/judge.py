"""From one case to one verdict: run it on a world, hold what comes back against the oracle and the plan.

Here: the joint of world, oracle, plan and check. Not here: where cases come from (`search`).
"""

from __future__ import annotations

import time

from siglip_verify import features, oracle
from siglip_verify.adapt import LossSpec, LossSpecError, Traits
from siglip_verify.case import Case
from siglip_verify.check import conformance, equivalence, messages
from siglip_verify.check.counts import planned_step
from siglip_verify.observe import read_log
from siglip_verify.records import CaseResult, Event, Finding, RankFailure, RankRecord, Share, Verdict
from siglip_verify.run import step
from siglip_verify.world import WorldError, Worlds


class CaseJudge:
    """Judges cases of one loss on warm worlds.

    Args:
        worlds: Where the ranks are.
        spec: The loss.
        traits: What it takes.
        planned: Whether what it sends must equal the plan, event for event; true of our loss alone.
    """

    def __init__(self, worlds: Worlds, spec: LossSpec, traits: Traits, *, planned: bool) -> None:
        self.worlds = worlds
        self.spec = spec
        self.traits = traits
        self.planned = planned

    def __call__(self, case: Case) -> CaseResult:
        """Judge one case.

        Raises:
            LossSpecError: The loss cannot be used as declared.
        """
        started = time.perf_counter()
        try:
            replies = self.worlds.run(case.world_size, step.step, self.spec, self.traits, case)
        except WorldError as error:
            logs = [read_log(log, rank) for rank, log in enumerate(error.logs)]
            findings = self._findings(case, logs, error.failures)
            verdict: Verdict = "mismatch" if findings else "unknown"
            elapsed_s = time.perf_counter() - started
            return CaseResult(
                case=case, verdict=verdict, findings=findings, failures=error.failures, elapsed_s=elapsed_s
            )
        shares = self._shares(case, _records(replies))
        findings = self._findings(case, self.logs(case))
        return CaseResult(
            case=case,
            verdict="mismatch" if findings or any(not share.share <= 1 for share in shares) else "pass",
            shares=shares,
            findings=findings,
            elapsed_s=time.perf_counter() - started,
        )

    def logs(self, case: Case) -> list[list[Event]]:
        """Return what each rank of the case's world has recorded in the step that it ran last."""
        world = self.worlds.world(case.world_size)
        return [read_log(world.log(rank), rank) for rank in range(case.world_size)]

    def _shares(self, case: Case, records: list[RankRecord]) -> tuple[Share, ...]:
        inputs = features.draw(case)
        reference = oracle.reference(
            inputs.images,
            inputs.texts,
            inputs.scale.item(),
            inputs.bias.item(),
            normalizers=self.spec.normalizers(tuple(len(image) for image in inputs.images)),
            upstream=inputs.upstream,
            reduction=self.spec.reduction,
        )
        return equivalence.judge(case, records, reference, row_wise=self.spec.row_wise)

    def _findings(
        self, case: Case, logs: list[list[Event]], failures: tuple[RankFailure, ...] = ()
    ) -> tuple[Finding, ...]:
        events = [event for log in logs for event in log]
        found = messages.lint(
            events,
            world_size=case.world_size,
            dtype=case.dtype,
            feature_numel=case.batch * case.dim,
            failures=failures,
            waits_seen=True,
        )
        if not self.planned:
            return found
        return found + conformance.compare(planned_step(case), events, dtype=case.dtype, failures=failures)


def _records(replies: list[RankRecord | step.Rejected]) -> list[RankRecord]:
    for reply in replies:
        if isinstance(reply, step.Rejected):
            raise LossSpecError(reply.why)
    return [reply for reply in replies if isinstance(reply, RankRecord)]
