"""One step's messages, joined: what every check is told of the step, and what is kept of it.

Oracle: records written by hand, each of which only one check can refuse, and only if it is told what it needs. Sees: a
check that is not run, or is told less than is known. Not: the checks themselves (`test_messages`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from siglip_verify.case import Case, itemsize
from siglip_verify.checks.form import Form, planned_step
from siglip_verify.checks.step_messages import findings_of, messages_of, step_messages
from siglip_verify.plan import PlannedEvent
from siglip_verify.records import CaseResult, Event, Finding, RankFailure, WireCount
from siglip_verify.result import Match, StepMessages

SHIFT = Case(exchange="shift", world_size=2, batch=2, dim=4, dtype="float32")
HUNG = (RankFailure(rank=1, kind="hung", blamed=False, detail="no answer in 20 s"),)


def recorded(case: Case, form: Form | None = None) -> list[Event]:
    """What our loss posts in this form, as if it had been recorded."""
    planned = planned_step(case, form or Form())
    return [as_recorded(case, event) for rank in range(case.world_size) for event in planned.events(rank)]


def as_recorded(case: Case, event: PlannedEvent) -> Event:
    return Event(
        rank=event.rank,
        sequence=event.sequence,
        kind=event.kind,
        op=f"c10d::{event.kind}",
        phase=event.phase,
        hop=event.hop,
        src=event.src,
        dst=event.dst,
        tag=0,
        dtype=case.dtype,
        shape=(event.payload_bytes // itemsize(case.dtype),),
        payload_bytes=event.payload_bytes,
        posted_s=float(event.sequence),
        returned_s=event.sequence + 0.5,
    )


def changed(events: Sequence[Event], where: dict[str, object], **fields: object) -> list[Event]:
    hits = [all(getattr(event, name) == value for name, value in where.items()) for event in events]
    assert any(hits)
    return [msgspec.structs.replace(event, **fields) if hit else event for event, hit in zip(events, hits, strict=True)]


def names(found: Sequence[Finding]) -> list[tuple[str, int | None]]:
    return [(finding.name, finding.rank) for finding in found]


# ------------------------------------------------------------------ what the checks are told
def test_a_right_step_is_without_findings_in_every_form() -> None:
    for form in (Form(), Form(memory="constant"), Form(overlap=True), None):
        assert findings_of(SHIFT, recorded(SHIFT, form), form=form) == ()


def test_a_receive_that_was_not_waited_for_is_found() -> None:
    events = changed(recorded(SHIFT), {"rank": 0, "kind": "recv", "phase": "forward"}, returned_s=None)
    assert names(findings_of(SHIFT, events, form=None)) == [("unwaited-receive", 0)]


def test_what_a_rank_that_hung_did_not_post_is_not_held_against_the_loss() -> None:
    """Rank 0 posts its forward and waits; rank 1 posts nothing: a send without its receive, were rank 1 done."""
    events = [event for event in recorded(SHIFT) if event.rank == 0 and event.phase == "forward"]
    missing = {name for name, _ in names(findings_of(SHIFT, events, form=Form()))}
    assert missing == {"unmatched-send", "unmatched-receive", "differs-from-plan"}
    both = tuple(msgspec.structs.replace(HUNG[0], rank=rank) for rank in range(2))
    assert findings_of(SHIFT, events, form=Form(), failures=both) == ()
    assert step_messages(SHIFT, events, None, form=Form(), failures=both).findings == ()


def test_what_it_did_not_post_in_forward_is_where_it_is_known_to_have_left_it() -> None:
    events = [event for event in recorded(SHIFT) if event.rank == 0 and event.phase == "forward"]
    told = {"form": None, "failures": HUNG, "past_forward": (1,)}
    assert set(names(findings_of(SHIFT, events, **told))) == {("unmatched-send", 0), ("unmatched-receive", 0)}
    assert step_messages(SHIFT, events, None, **told).findings == findings_of(SHIFT, events, **told)


@pytest.mark.parametrize("where", [{"kind": "send"}, {"kind": "recv"}], ids=str)
def test_the_plan_of_a_form_says_the_dtype_of_each_event(where: dict[str, object]) -> None:
    """As many bytes of another dtype: int32 for float32, which no lint refuses where both ends agree."""
    events = changed(recorded(SHIFT), {"rank": 0, "phase": "forward", **where}, dtype="int32")
    assert ("differs-from-plan", 0) in names(findings_of(SHIFT, events, form=Form()))


def test_gradients_that_travel_wider_than_their_texts_are_of_the_forms_dtype() -> None:
    """bfloat16 texts, float32 gradients: alone in the last message of the constant form."""
    case, form = msgspec.structs.replace(SHIFT, dtype="bfloat16"), Form(memory="constant")
    events = changed(recorded(case, form), {"hop": 1}, dtype="float32")
    assert findings_of(case, events, form=form) == ()
    assert names(findings_of(case, recorded(case, form), form=form)) == [("differs-from-plan", rank) for rank in (0, 1)]


def test_a_form_that_does_not_take_the_dtype_has_no_plan() -> None:
    """The loss refuses float64 features where gradients travel as float32, so nothing is posted, and that is right."""
    case = msgspec.structs.replace(SHIFT, dtype="float64")
    assert findings_of(case, [], form=Form(memory="constant", grad_dtype="float32")) == ()
    assert names(findings_of(case, [], form=Form())) == [("differs-from-plan", rank) for rank in (0, 1)]


# ------------------------------------------------------------------ what is kept
def test_a_step_keeps_everything_that_is_known_of_it() -> None:
    unknown = msgspec.structs.replace(
        recorded(SHIFT)[0], sequence=4, kind="unknown", op="c10d::odd", src=None, dst=None
    )
    events = [event for event in recorded(SHIFT) if event.phase == "forward"] + [unknown]
    wire = [WireCount(rank=0, peer=1, phase=phase, wire_bytes=100, segments=1) for phase in ("forward", "backward")]
    assert step_messages(SHIFT, events, wire, form=None, failures=HUNG) == StepMessages(
        case=SHIFT,
        events=tuple(events),
        wire=tuple(wire),
        matches=(
            Match(src_rank=0, src_sequence=0, dst_rank=1, dst_sequence=1),
            Match(src_rank=1, src_sequence=0, dst_rank=0, dst_sequence=1),
        ),
        findings=(),
        failures=HUNG,
        notes=("rank 0: c10d::odd, 1 times, of unknown kind",),
        payload_matrix=((0, 32), (32, 0)),
        wire_matrix=((0, 200), (0, 0)),
    )


def test_a_judged_case_gives_its_findings_and_failures() -> None:
    events = [event for event in recorded(SHIFT) if event.phase == "forward"]
    finding = Finding(name="odd", rank=0, detail="told by the case")
    result = CaseResult(case=SHIFT, verdict="mismatch", findings=(finding,), failures=HUNG)
    step = messages_of(result, events)
    assert step == msgspec.structs.replace(
        step_messages(SHIFT, events, None, form=None), findings=(finding,), failures=HUNG
    )
    assert (step.case, step.events, step.wire, step.wire_matrix) == (SHIFT, tuple(events), None, None)
    assert len(step.matches) == 2
