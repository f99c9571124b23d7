"""The messages of one step, judged: from the ranks' records to `StepMessages`.

Here: which checks a step is put through, and what is kept of it. Not here: the checks (`messages`, `conformance`), and
totals (`counts`, `totals`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from siglip_verify.case import Case
from siglip_verify.checks import conformance, messages
from siglip_verify.checks.form import Form, planned_step
from siglip_verify.checks.ledger import byte_matrix, match
from siglip_verify.checks.totals import wire_matrix
from siglip_verify.records import CaseResult, Event, Finding, RankFailure, WireCount
from siglip_verify.result import Match, StepMessages


def findings_of(
    case: Case,
    events: Sequence[Event],
    *,
    form: Form | None,
    failures: Sequence[RankFailure] = (),
    past_forward: Collection[int] = (),
) -> tuple[Finding, ...]:
    """Find what is wrong with the messages of one step.

    Args:
        case: The step.
        events: What all ranks posted.
        form: The form of our loss whose plan it must equal, event for event; None for a loss without a plan.
            A step of features that the form does not take, which the loss refuses, has none either.
        failures: Ranks that gave no record, or not a whole one; of these no absence is held against the loss, save in
            forward of those that had left it.
        past_forward: Ranks that are known to have left forward.
    """
    found = messages.lint(
        events,
        world_size=case.world_size,
        dtype=case.dtype,
        feature_numel=case.batch * case.dim,
        failures=failures,
        past_forward=past_forward,
        waits_seen=True,
    )
    if form is None or not form.takes(case.dtype):
        return found
    plan, dtypes = planned_step(case, form), conformance.dtypes(case.dtype, form.gradient_dtype(case.dtype))
    return found + conformance.compare(plan, events, dtypes=dtypes, failures=failures)


def step_messages(
    case: Case,
    events: Sequence[Event],
    wire: Sequence[WireCount] | None,
    *,
    form: Form | None,
    failures: Sequence[RankFailure] = (),
    past_forward: Collection[int] = (),
) -> StepMessages:
    """Judge the messages of one step and match sends with receives; the arguments are those of `findings_of`."""
    found = findings_of(case, events, form=form, failures=failures, past_forward=past_forward)
    return _joined(case, events, wire, found, failures)


def messages_of(result: CaseResult, events: Sequence[Event]) -> StepMessages:
    """Return the messages of a case that was judged; what was found in them is taken from its judgement."""
    return _joined(result.case, events, None, result.findings, result.failures)


def _joined(
    case: Case,
    events: Sequence[Event],
    wire: Sequence[WireCount] | None,
    findings: Sequence[Finding],
    failures: Sequence[RankFailure],
) -> StepMessages:
    return StepMessages(
        case=case,
        events=tuple(events),
        wire=None if wire is None else tuple(wire),
        matches=tuple(
            Match(
                src_rank=send.rank,
                src_sequence=send.sequence,
                dst_rank=receive.rank,
                dst_sequence=receive.sequence,
            )
            for send, receive in match(events).pairs
        ),
        findings=tuple(findings),
        failures=tuple(failures),
        notes=tuple(note.detail for note in messages.notes(events)),
        payload_matrix=byte_matrix(events, case.world_size),
        wire_matrix=None if wire is None else wire_matrix(wire, case.world_size),
    )
