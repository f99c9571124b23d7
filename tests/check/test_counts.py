"""Totals of one step, from records written by hand.

Oracle: sums by hand; for our exchanges the plan's closed form. Sees: a receive or a rooted collective's buffer that
counts as sent, a difference to our exchange that goes unsaid or is explained by what is not there.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify.case import DTYPES, EXCHANGES, Case, itemsize
from siglip_verify.checks.counts import handed_over, message_row, operations
from siglip_verify.checks.form import Form
from siglip_verify.checks.step_messages import step_messages
from siglip_verify.checks.totals import collective_rows, rank_totals, wire_matrix
from siglip_verify.plan import closed_form, plan
from siglip_verify.records import Event, WireCount

CASE = Case(exchange="gather", world_size=3, batch=2, dim=4, dtype="float32")
BLOCK = 2 * 4 * 4


def event(rank: int, sequence: int, kind: str, payload_bytes: int = BLOCK, **fields: Any) -> Event:
    told: dict[str, Any] = {
        "op": f"c10d::{kind}",
        "phase": "forward",
        "hop": sequence,
        "src": None,
        "dst": None,
        "tag": 0 if kind in ("send", "recv") else None,
        "dtype": "float32",
        "shape": (payload_bytes // 4,),
        "posted_s": float(sequence),
        "returned_s": sequence + 0.5,
    } | fields
    return Event(rank=rank, sequence=sequence, kind=kind, payload_bytes=payload_bytes, **told)


def planned(case: Case) -> list[Event]:
    """What our exchange posts, as if it had been recorded."""
    of = plan(case.exchange, case.world_size, case.batch, case.dim, itemsize(case.dtype))
    return [
        event(
            rank, e.sequence, e.kind, e.payload_bytes, phase=e.phase, hop=e.hop, src=e.src, dst=e.dst, dtype=case.dtype
        )
        for rank in range(case.world_size)
        for e in of.events(rank)
    ]


def gather_by_scatters() -> list[Event]:
    """open_clip's gather on gloo: an all-gather, and in backward one scatter a rank."""
    return [
        each
        for rank in range(3)
        for each in (
            event(rank, 0, "all_gather"),
            *(
                event(rank, 1 + root, "scatter", 3 * BLOCK if root == rank else BLOCK, phase="backward", src=root)
                for root in range(3)
            ),
        )
    ]


# ------------------------------------------------------------------ rows
@given(
    exchange=st.sampled_from(EXCHANGES),
    world_size=st.integers(1, 9),
    batch=st.integers(1, 9),
    dim=st.integers(1, 9),
    dtype=st.sampled_from(DTYPES),
)
def test_a_row_of_ours_says_of_plan_and_count_what_the_closed_form_says(
    exchange: str, world_size: int, batch: int, dim: int, dtype: str
) -> None:
    case = Case(exchange=exchange, world_size=world_size, batch=batch, dim=dim, dtype=dtype)
    row = message_row(case, planned(case), None)
    of = plan(case.exchange, world_size, batch, dim, itemsize(case.dtype))
    both = [closed_form(of, "forward"), closed_form(of, "backward")]
    expected = (
        sum(each.sends for each in both),
        sum(each.collectives for each in both),
        sum(each.payload_bytes for each in both),
    )
    assert (row.planned_messages, row.planned_collectives, row.planned_payload_bytes) == expected
    assert (row.counted_messages, row.counted_collectives, row.counted_payload_bytes) == expected
    assert (row.counted_hops, row.wire_bytes, row.note) == (both[0].hops, None, "")


def test_what_is_only_received_is_not_handed_over() -> None:
    assert handed_over(event(1, 0, "send", src=1, dst=0)) == BLOCK
    assert handed_over(event(1, 0, "recv", src=0, dst=1)) == 0
    for kind in ("scatter", "broadcast"):
        assert handed_over(event(1, 0, kind, src=1)) == BLOCK
        assert handed_over(event(1, 0, kind, src=0)) == 0
    assert handed_over(event(1, 0, "reduce", src=0)) == BLOCK


def test_gather_that_goes_back_by_rooted_scatters_is_explained_and_hands_over_what_ours_does() -> None:
    row = message_row(CASE, gather_by_scatters(), None)
    assert (row.counted_payload_bytes, row.planned_payload_bytes) == (4 * BLOCK, 4 * BLOCK)
    assert (row.counted_collectives, row.planned_collectives) == (4, 2)
    assert row.operations == "forward 1 all_gather; backward 3 scatter"
    assert row.note.startswith("ours: forward 1 all_gather; backward 1 all_to_all. Theirs: torch.distributed.nn brings")
    assert "one rooted scatter a rank" in row.note


def test_a_difference_is_explained_by_the_phase_it_is_in() -> None:
    sizes_first = [event(rank, 10, "all_reduce", 8, phase="forward") for rank in range(3)]
    note = message_row(CASE, planned(CASE) + sizes_first, None).note
    assert "texts travel by all-reduces" in note
    assert "gradients" not in note


def test_what_ours_does_too_explains_nothing() -> None:
    case = Case(exchange="reduce", world_size=3, batch=2, dim=4, dtype="float32")
    barriers = [event(rank, 10, "barrier", 0) for rank in range(3)]
    note = message_row(case, planned(case) + barriers, None).note
    assert note.endswith("Theirs: ranks wait for each other by a barrier")


def test_the_operations_of_ours_with_other_sizes_are_said_to_be_that() -> None:
    half = [e if e.kind != "all_gather" else event(e.rank, 0, "all_gather", BLOCK // 2) for e in planned(CASE)]
    assert message_row(CASE, half, None).note == (
        f"the operations of ours with other payloads: {3 * 3.5 * BLOCK:,.0f} bytes over all ranks where ours has "
        f"{3 * 4 * BLOCK:,}"
    )


def test_a_loss_without_a_plan_is_held_against_none() -> None:
    row = message_row(CASE, gather_by_scatters(), None, has_plan=False)
    assert (row.planned_messages, row.planned_collectives, row.planned_payload_bytes, row.note) == (None,) * 3 + ("",)
    assert row.lower_bound_bytes == 2 * 2 * BLOCK


def test_hops_are_those_of_forward() -> None:
    """The constant form sends everything in forward: 2 hops at W = 3 with two streams, and nothing in backward."""
    case = Case(exchange="shift", world_size=3, batch=2, dim=4, dtype="float32")
    forward = [each for each in planned(case) if each.phase == "forward"]
    assert message_row(case, forward, None).counted_hops == 2
    assert message_row(case, [event(0, 0, "barrier", 0, phase="backward")], None).counted_hops == 0


def test_sockets_of_which_nothing_is_known_sent_nothing() -> None:
    assert message_row(CASE, [], []).wire_bytes == 0


def test_operations_in_words_are_those_of_rank_0_phase_by_phase() -> None:
    forward = [event(0, 0, "all_gather"), event(0, 1, "barrier", 0), event(1, 0, "broadcast", src=1)]
    assert operations(forward) == "forward 1 all_gather, 1 barrier"
    assert operations([event(0, 0, "barrier", 0, phase="backward")]) == "backward 1 barrier"


def test_every_known_reason_of_a_difference_is_given_and_none_where_none_is_known() -> None:
    extra = [event(rank, 10, "barrier", 0) for rank in range(3)] + [
        event(rank, 11, "all_reduce", 8) for rank in range(3)
    ]
    note = message_row(CASE, planned(CASE) + extra, None).note
    assert note.endswith("Theirs: ranks wait for each other by a barrier; texts travel by all-reduces")
    unknown = [event(rank, 10, "gather", 8) for rank in range(3)]
    assert message_row(CASE, planned(CASE) + unknown, None).note == "ours: forward 1 all_gather; backward 1 all_to_all"


def test_payloads_are_compared_by_phase_and_kind() -> None:
    """As many bytes in all, and as many calls: half of the all-gather's are moved to the all-to-all."""
    half = BLOCK // 2
    shifted = [
        event(e.rank, e.sequence, e.kind, e.payload_bytes + (-half if e.kind == "all_gather" else half), phase=e.phase)
        for e in planned(CASE)
    ]
    assert message_row(CASE, shifted, None).note.startswith("the operations of ours with other payloads: 384 bytes")


def test_payloads_are_compared_where_there_is_one_kind_of_call_too() -> None:
    case = Case(exchange="gather", world_size=3, batch=2, dim=4, dtype="float32", frozen="text")
    half = [event(rank, 0, "all_gather", BLOCK // 2) for rank in range(3)]
    assert message_row(case, [event(rank, 0, "all_gather") for rank in range(3)], None).note == ""
    assert message_row(case, half, None).note == (
        "the operations of ours with other payloads: 48 bytes over all ranks where ours has 96"
    )


def test_the_largest_rank_counts() -> None:
    wire = [WireCount(rank=1, peer=p, phase="forward", wire_bytes=10 * p, segments=1) for p in (0, 2)]
    row = message_row(CASE, [event(1, 0, "send", src=1, dst=0)], wire)
    assert (row.counted_messages, row.counted_payload_bytes, row.wire_bytes) == (1, BLOCK, 20)
    assert operations([]) == "nothing"


# ------------------------------------------------------------------ totals
def test_each_rank_is_totalled_with_what_gloo_should_send() -> None:
    wire = [WireCount(rank=0, peer=1, phase="forward", wire_bytes=7, segments=2)]
    step = step_messages(CASE, gather_by_scatters(), wire, form=None)
    assert step.verdict == "pass"
    first, second, _ = rank_totals(step)
    assert (first.sends, first.receives, first.collectives, first.payload_bytes) == (0, 0, 4, 4 * BLOCK)
    assert (first.wire_bytes, first.segments, second.wire_bytes) == (7, 2, 0)
    all_gather, scatters = 2 * (BLOCK + 288), 2 * (BLOCK + 96) + 2 * 48
    assert first.modelled_wire_bytes == all_gather + scatters
    assert wire_matrix(wire, 3) == ((0, 7, 0), (0, 0, 0), (0, 0, 0))


def test_messages_are_totalled_apart_from_collectives() -> None:
    case = Case(exchange="shift", world_size=3, batch=2, dim=4, dtype="float32")
    for total in rank_totals(step_messages(case, planned(case), None, form=None)):
        assert (total.sends, total.receives, total.collectives) == (4, 4, 0)
        assert total.payload_bytes == 4 * BLOCK
        assert total.modelled_wire_bytes == 4 * (BLOCK + 96 + 48)


def test_bytes_from_rank_to_rank_are_those_of_both_phases() -> None:
    wire = [
        WireCount(rank=1, peer=2, phase=phase, wire_bytes=num_bytes, segments=1)
        for phase, num_bytes in (("forward", 7), ("backward", 20))
    ]
    assert wire_matrix(wire, 3) == ((0, 0, 0), (0, 0, 27), (0, 0, 0))


def test_collectives_are_those_of_rank_0() -> None:
    """Rank 1's, where it calls others, are found by the lints."""
    events = [event(0, 0, "all_gather"), event(1, 0, "all_reduce"), event(1, 1, "barrier", 0)]
    (row,) = collective_rows(step_messages(CASE, events, None, form=None))
    assert (row.kind, row.calls) == ("all_gather", 1)


def test_nothing_is_modelled_of_a_step_with_an_operation_that_was_not_measured() -> None:
    (total, *_) = rank_totals(step_messages(CASE, [event(0, 0, "unknown")], None, form=None))
    assert (total.modelled_wire_bytes, total.wire_bytes, total.collectives) == (None, None, 1)


def test_collectives_are_totalled_by_phase_and_kind_with_their_ring_messages() -> None:
    forward, backward = collective_rows(step_messages(CASE, gather_by_scatters(), None, form=None))
    assert (forward.phase, forward.kind, forward.calls, forward.payload_bytes) == ("forward", "all_gather", 1, BLOCK)
    assert (forward.ring_messages, forward.ring_bytes) == (2, 2 * BLOCK)
    assert (backward.phase, backward.kind, backward.calls, backward.payload_bytes) == (
        "backward",
        "scatter",
        3,
        3 * BLOCK,
    )
    assert (backward.ring_messages, backward.ring_bytes) == (None, None)


# ------------------------------------------------------------------ the step
def test_sends_are_matched_with_their_receives() -> None:
    case = Case(exchange="shift", world_size=3)
    step = step_messages(case, planned(case), None, form=Form())
    assert step.verdict == "pass"
    assert len(step.matches) == 2 * 3 * 2
    assert {(m.dst_rank - m.src_rank) % 3 for m in step.matches[:2]} == {1}
    assert all(m.src_sequence in (0, 2, 4, 6) and m.dst_sequence in (1, 3, 5, 7) for m in step.matches)


@pytest.mark.parametrize("form", [Form(), None])
def test_a_step_that_departs_from_the_plan_is_a_finding_of_ours_alone(form: Form | None) -> None:
    step = step_messages(CASE, gather_by_scatters(), None, form=form)
    assert {finding.name for finding in step.findings} == ({"differs-from-plan"} if form else set())


def test_a_step_is_held_against_the_plan_of_its_own_form() -> None:
    case = Case(exchange="shift", world_size=3)
    assert step_messages(case, planned(case), None, form=Form()).findings == ()
    for form in (Form(memory="constant"), Form(memory="recompute"), Form(ragged=True), Form(check_shapes=True)):
        found = {finding.name for finding in step_messages(case, planned(case), None, form=form).findings}
        assert found == {"differs-from-plan"}
    assert (
        step_messages(case, planned(case), None, form=Form(overlap=True)).findings == ()
    )  # another order of work alone
