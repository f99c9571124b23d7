"""The memory of a loss, on real ranks: what its steps hold, as rows and steps become more.

Here: which steps are run, and what they become in a result. Not here: what they may hold (`checks.memory`).
"""

from __future__ import annotations

import gc

import msgspec

from siglip_verify.adapt import LossSpec, LossSpecError, Traits
from siglip_verify.case import Case, Exchange
from siglip_verify.checks.failures import failure_sentence
from siglip_verify.checks.memory import StepBytes, chunks_bound, nothing_stays
from siglip_verify.records import CaseResult, Diagnosis, Finding
from siglip_verify.run import step
from siglip_verify.world import WorldError, Worlds

_BATCH, _DIM, _CHUNK = 48, 4, 6  # so that b x b logits outweigh all that is O(b)
_STEPS = 6
_WORLD_SIZE = 2


def judge_memory(worlds: Worlds, spec: LossSpec, traits: Traits, exchange: Exchange) -> CaseResult:
    """Hold what steps of a loss keep in memory against what they promise; unknown where a rank fails.

    Raises:
        LossSpecError: The loss cannot be used as declared.
    """
    case = Case(
        exchange=exchange,
        world_size=_WORLD_SIZE,
        batch=_BATCH,
        dim=_DIM,
        chunk_size=_CHUNK if traits.takes_chunk_size else 0,
        seed=1,
    )
    try:
        findings = _findings(worlds, spec, traits, case)
    except WorldError as error:
        return CaseResult(case=case, verdict="unknown", failures=error.failures, reason=error.reason)
    return CaseResult(case=case, verdict="mismatch" if findings else "pass", findings=tuple(findings))


def _findings(worlds: Worlds, spec: LossSpec, traits: Traits, case: Case) -> list[Finding]:
    steps = _held(worlds, spec, traits, case, _STEPS)
    left = nothing_stays(steps)
    if left or not traits.takes_chunk_size:
        return left
    doubled = _held(worlds, spec, traits, msgspec.structs.replace(case, batch=2 * _BATCH), 1)
    return chunks_bound([first for first, *_ in steps], [only for (only,) in doubled], _BATCH, _CHUNK)


def diagnosis_of(result: CaseResult) -> Diagnosis:
    """Say what is wrong with the memory of a loss: its finding says it all, or which rank failed."""
    failed = failure_sentence(result.failures, result.case.world_size, result.reason)
    return Diagnosis(
        sentence=result.findings[0].detail if result.findings else failed,
        cause=result.findings[0].name if result.findings else "ranks-failed",
        fails_at=(result.case.world_size,),
        smallest_world_size=result.case.world_size,
        smallest_batch=result.case.batch,
    )


def _held(worlds: Worlds, spec: LossSpec, traits: Traits, case: Case, steps: int) -> list[list[StepBytes]]:
    replies = worlds.run(case.world_size, held_in_steps, spec, traits, case, steps)
    for reply in replies:
        if isinstance(reply, step.Rejected):
            raise LossSpecError(reply.why)
    return replies


# ------------------------------------------------------------------ in the ranks
def held_in_steps(spec: LossSpec, traits: Traits, case: Case, steps: int) -> list[StepBytes] | step.Rejected:
    """Run some steps of one case and return what this rank held in each."""
    from siglip_verify.observe.held import Held  # a rank that measures nothing has no need of it

    held, counts = Held(), list[StepBytes]()
    for _ in range(steps):
        held.peak = 0
        with held:
            record = step.step(spec, traits, case)
        if isinstance(record, step.Rejected):
            return record
        del record
        gc.collect()  # what refers to itself in a circle is no leak
        counts.append(StepBytes(peak=held.peak, left=held.now()))
    return counts
