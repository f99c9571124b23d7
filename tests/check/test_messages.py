"""Ledger, plan comparison, lints and deadlocks over event logs.

Oracle: logs written down here. Either the log of a right schedule (a plan's own operations, as if recorded), on which
everything must be silent, or that log with one fault planted, of which we know the name, the rank and the place. It
sees a finding that does not fire, one that fires without cause, and one that names the wrong rank. It does not see
whether a real recording looks like these logs: the tests of `observe` do.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterable
from itertools import pairwise

import msgspec
import pytest
import torch
import torch.distributed as dist
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.testing._internal.distributed.fake_pg import FakeStore

from siglip_verify.case import DTYPES
from siglip_verify.checks.conformance import compare, dtypes
from siglip_verify.checks.deadlock import waits_of
from siglip_verify.checks.ledger import byte_matrix, describe, in_order, match, partners, tally
from siglip_verify.checks.messages import FINDINGS, NOTES, lint, notes
from siglip_verify.plan import PHASES, Plan, closed_form, plan
from siglip_verify.records import Event, Finding, RankFailure

ITEMSIZE = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
BATCH, DIM = 4, 6
Log = list[Event]


def recorded(planned: Plan, dtype: str = "float32") -> Log:
    """Return a plan's own operations as a recorder would have seen them."""
    return [
        Event(
            rank=rank,
            sequence=event.sequence,
            kind=event.kind,
            op=f"c10d::{event.kind}",
            phase=event.phase,
            hop=event.hop,
            src=event.src,
            dst=event.dst,
            tag=0 if event.kind in ("send", "recv") else None,
            dtype=dtype,
            shape=(event.payload_bytes // ITEMSIZE[dtype] // planned.dim, planned.dim),
            payload_bytes=event.payload_bytes,
            posted_s=event.sequence + 0.1,
            returned_s=event.sequence + 0.2,
        )
        for rank in range(planned.world_size)
        for event in planned.events(rank)
    ]


def step(exchange: str = "shift", world_size: int = 3, dtype: str = "float32", **options: object) -> Log:
    return recorded(plan(exchange, world_size, BATCH, DIM, ITEMSIZE[dtype], **options), dtype)


def operation(rank: int, sequence: int, kind: str, peer: int | None = None, **fields: object) -> Event:
    """Return one operation of 8 float32 numbers."""
    event = Event(
        rank=rank,
        sequence=sequence,
        kind=kind,
        op=f"c10d::{kind}",
        phase="forward",
        hop=0,
        src={"send": rank, "recv": peer}.get(kind),
        dst={"send": peer, "recv": rank}.get(kind),
        tag=0 if kind in ("send", "recv") else None,
        dtype="float32",
        shape=(8,),
        payload_bytes=32,
        posted_s=float(sequence),
        returned_s=sequence + 0.5,
    )
    return msgspec.structs.replace(event, **fields)


def change(log: Log, where: Callable[[Event], bool], **fields: object) -> Log:
    """Return the log with these fields in the one event that `where` picks."""
    assert sum(map(where, log)) == 1
    return [msgspec.structs.replace(event, **fields) if where(event) else event for event in log]


def drop(log: Log, where: Callable[[Event], bool]) -> Log:
    assert sum(map(where, log)) == 1
    return [event for event in log if not where(event)]


def at(rank: int, sequence: int) -> Callable[[Event], bool]:
    return lambda event: (event.rank, event.sequence) == (rank, sequence)


def linted(log: Iterable[Event], world_size: int = 3, dtype: str = "float32", **options: object) -> tuple[Finding, ...]:
    return lint(log, world_size=world_size, dtype=dtype, feature_numel=BATCH * DIM, **options)


def names(findings: Iterable[Finding]) -> set[tuple[str, int | None]]:
    return {(finding.name, finding.rank) for finding in findings}


def hung(*ranks: int) -> tuple[RankFailure, ...]:
    return tuple(RankFailure(rank=rank, kind="hung", blamed=False, detail="no answer in 20 s") for rank in ranks)


def died(rank: int) -> RankFailure:
    return RankFailure(rank=rank, kind="died", blamed=True, detail="killed by SIGKILL")


@st.composite
def plans(draw: st.DrawFn) -> tuple[Plan, str]:
    exchange = draw(st.sampled_from(["bidir", "shift", "reduce", "gather"]))
    constant = exchange in ("bidir", "shift") and draw(st.booleans())
    dtype = draw(st.sampled_from(DTYPES))
    planned = plan(
        exchange,
        draw(st.integers(1, 9)),
        draw(st.integers(1, 20)),
        draw(st.integers(1, 40)),
        ITEMSIZE[dtype],
        text_grad=draw(st.booleans()),
        memory="constant" if constant else "autograd",
        gather_backward=draw(st.sampled_from(["all_to_all", "reduce_scatter"])),
    )
    return planned, dtype


# ------------------------------------------------------------------ silence
@given(plans(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_a_right_schedule_is_without_findings_in_any_order_of_its_events(
    drawn: tuple[Plan, str], order: random.Random
) -> None:
    planned, dtype = drawn
    log = recorded(planned, dtype)
    order.shuffle(log)
    assert compare(planned, log, dtypes=dtypes(dtype)) == ()
    numel = planned.batch * planned.dim
    assert lint(log, world_size=planned.world_size, dtype=dtype, feature_numel=numel, waits_seen=True) == ()
    assert notes(log) == ()


def reachable(planned: Plan, steps: list[int]) -> Log:
    """Let ranks post their hops in this order, each once it has what it waited for, and return all that is posted."""
    hops: list[list[Log]] = []
    for rank in range(planned.world_size):
        mine = [event for event in recorded(planned) if event.rank == rank]
        places = sorted({(event.phase == "backward", event.hop) for event in mine})
        hops.append([[e for e in mine if (e.phase == "backward", e.hop) == place] for place in places])
    done = [0] * planned.world_size
    for rank in (step % planned.world_size for step in steps):
        last = hops[rank][done[rank] - 1] if done[rank] else []
        needed = {peer for event in last for peer in (event.src, event.dst) if event.kind in ("send", "recv")}
        if any(event.kind not in ("send", "recv") for event in last):
            needed = set(range(planned.world_size))
        if done[rank] < len(hops[rank]) and all(done[peer] >= done[rank] for peer in needed):
            done[rank] += 1
    posted = [event for rank, mine in enumerate(hops) for hop in mine[: done[rank]] for event in hop]
    return [msgspec.structs.replace(event, returned_s=None) for event in posted]


@given(plans(), st.lists(st.integers(0, 8), max_size=120))
@settings(deadline=None)
def test_a_right_schedule_that_was_broken_off_anywhere_is_without_findings(
    drawn: tuple[Plan, str], steps: list[int]
) -> None:
    planned = dataclasses.replace(drawn[0], itemsize=4)
    log = reachable(planned, steps)
    failures = hung(*range(planned.world_size))
    numel = planned.batch * planned.dim
    assert lint(log, world_size=planned.world_size, dtype="float32", feature_numel=numel, failures=failures) == ()
    assert compare(planned, log, failures=failures) == ()


# ------------------------------------------------------------------ the ledger
def test_messages_of_one_channel_match_first_in_first_out() -> None:
    log = [
        operation(0, 0, "send", 1, payload_bytes=8),
        operation(0, 1, "send", 1, payload_bytes=16),
        operation(1, 0, "recv", 0, payload_bytes=8),
        operation(1, 1, "recv", 0, payload_bytes=16),
    ]
    assert [(send.sequence, receive.sequence) for send, receive in match(log).pairs] == [(0, 0), (1, 1)]


def test_tags_and_groups_keep_messages_apart() -> None:
    log = [
        operation(0, 0, "send", 1, tag=1),
        operation(0, 1, "send", 1, tag=2),
        operation(0, 2, "send", 1, group="half"),
        operation(1, 0, "recv", 0, tag=2),
        operation(1, 1, "recv", 0, group="other half"),
    ]
    matching = match(log)
    assert [(send.sequence, receive.sequence) for send, receive in matching.pairs] == [(1, 0)]
    assert [event.sequence for event in matching.lone_sends] == [0, 2]
    assert [event.sequence for event in matching.lone_receives] == [1]


def test_a_receive_from_any_source_takes_the_earliest_send_that_is_left_over() -> None:
    log = [
        operation(0, 0, "send", 2, posted_s=5.0),
        operation(1, 0, "send", 2, posted_s=3.0),
        operation(1, 1, "send", 2, posted_s=4.0),
        operation(2, 0, "recv", None),
        operation(2, 1, "recv", 1),
    ]
    matching = match(log)
    taken = {(send.rank, send.sequence): receive.sequence for send, receive in matching.pairs}
    assert taken == {(1, 0): 1, (1, 1): 0}
    assert [event.rank for event in matching.lone_sends] == [0]


@given(plans())
@settings(deadline=None)
def test_counts_of_a_recorded_plan_are_its_closed_forms(drawn: tuple[Plan, str]) -> None:
    planned, dtype = drawn
    handed_over = tally([event for event in recorded(planned, dtype) if event.kind != "recv"], "rank", "phase")
    for rank in range(planned.world_size):
        for phase in PHASES:
            counts = closed_form(planned, phase)
            operations, payload_bytes = handed_over.get((rank, phase), (0, 0))
            assert operations == counts.sends + counts.collectives
            assert payload_bytes == counts.payload_bytes


def test_tally_counts_by_any_field_of_plan_and_record_alike() -> None:
    planned = plan("bidir", 4, BATCH, DIM, 4)
    block_bytes = BATCH * DIM * 4
    for operations in (planned.events(2), [event for event in recorded(planned) if event.rank == 2]):
        assert tally(operations, "phase", "hop", "kind") == {
            ("forward", 0, "send"): (2, 2 * block_bytes),
            ("forward", 0, "recv"): (2, 2 * block_bytes),
            ("forward", 1, "send"): (1, block_bytes),
            ("forward", 1, "recv"): (1, block_bytes),
            ("backward", 0, "send"): (1, block_bytes),
            ("backward", 0, "recv"): (1, block_bytes),
            ("backward", 1, "send"): (2, 2 * block_bytes),
            ("backward", 1, "recv"): (2, 2 * block_bytes),
        }
        assert tally(operations) == {(): (12, 12 * block_bytes)}


def test_byte_matrix_has_what_each_rank_sends_to_each() -> None:
    forward = [event for event in step("shift", 3) if event.phase == "forward"]
    sent = 2 * BATCH * DIM * 4
    assert byte_matrix(forward, 3) == ((0, sent, 0), (0, 0, sent), (sent, 0, 0))
    assert byte_matrix(step("gather", 3), 3) == ((0, 0, 0),) * 3


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (operation(0, 0, "send", 1, tag=7), "forward hop 0 send of 32 bytes float32 to rank 1 with tag 7"),
        (operation(0, 0, "recv", 1), "forward hop 0 recv of 32 bytes float32 from rank 1"),
        (operation(0, 0, "all_reduce"), "forward hop 0 all_reduce of 32 bytes float32"),
        (operation(0, 0, "unknown", op="c10d::odd"), "forward hop 0 unknown c10d::odd of 32 bytes float32"),
    ],
)
def test_an_operation_is_described_by_when_what_how_much_and_with_whom(event: Event, said: str) -> None:
    assert describe(event) == said


@pytest.mark.parametrize("peer", [-1, 3, 4, None])
def test_byte_matrix_leaves_out_what_goes_to_or_comes_from_no_rank(peer: int | None) -> None:
    stray = [operation(0, 0, "send", src=0, dst=peer), operation(1, 0, "send", src=peer, dst=1)]
    assert byte_matrix([*stray, operation(1, 1, "send", src=1, dst=2)], 3) == ((0, 0, 0), (0, 0, 32), (0, 0, 0))


# ------------------------------------------------------------------ who is at the other end
def test_the_other_ends_own_messages_in_the_group_tell_which_rank_it_is() -> None:
    """Rank 3 of the world is rank 1 of the group `pair`, and rank 1 of the world is rank 1 of the group `other`."""
    send = operation(2, 0, "send", src=0, dst=1, group="pair")
    answer = operation(3, 0, "recv", src=0, dst=1, group="pair")
    elsewhere = operation(1, 0, "recv", src=0, dst=1, group="other")
    assert partners(send, [send, answer, elsewhere], 4) == {3}
    assert partners(answer, [send, answer, elsewhere], 4) == {2}


def test_where_nothing_tells_a_rank_is_called_the_same_in_one_group_and_may_be_any_in_several() -> None:
    send = operation(0, 0, "send", src=0, dst=1)
    assert partners(send, [send], 4) == {1}
    against = operation(2, 0, "send", src=3, dst=0)  # rank 2 of the world is rank 3 of the group
    assert partners(send, [send, against], 4) == {1, 3}
    elsewhere = operation(3, 0, "send", src=3, dst=0, group="other")
    assert partners(send, [send, elsewhere], 4) == {1, 2, 3}


def test_a_receive_from_any_source_may_be_met_by_every_other_rank() -> None:
    receive = operation(1, 0, "recv", src=None, dst=1)
    assert partners(receive, [receive], 3) == {0, 2}


# ------------------------------------------------------------------ who waits
def test_only_ranks_that_wait_and_operations_that_did_not_return_are_waits() -> None:
    log = [operation(rank, 0, "all_reduce", returned_s=None) for rank in range(2)]
    assert {(wait.rank, wait.peer) for wait in waits_of(log, 3, {0, 1})} == {(0, 2), (1, 2)}
    assert {(wait.rank, wait.peer) for wait in waits_of(log, 3, {0})} == {(0, 2)}
    returned = change(log, at(1, 0), returned_s=0.5)
    assert {(wait.rank, wait.peer) for wait in waits_of(returned, 3, {0, 1})} == {(0, 2)}


def test_events_of_two_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="got rank=0 sequence=0 twice: judge each step alone"):
        in_order([*step(), *step()])


# ------------------------------------------------------------------ against the plan
PLANNED = plan("bidir", 4, BATCH, DIM, 4)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("kind", "broadcast", "kind send planned, broadcast recorded"),
        ("phase", "backward", "phase forward planned, backward recorded"),
        ("hop", 7, "hop 0 planned, 7 recorded"),
        ("dst", 3, "dst 1 planned, 3 recorded"),
        ("src", 2, "src 0 planned, 2 recorded"),
        ("payload_bytes", 48, "payload_bytes 96 planned, 48 recorded"),
        ("dtype", "float16", "dtype float32 planned, float16 recorded"),
    ],
)
def test_compare_sees_a_difference_in_every_field(field: str, value: object, said: str) -> None:
    (finding,) = compare(PLANNED, change(recorded(PLANNED), at(0, 0), **{field: value}), dtypes=dtypes("float32"))
    assert (finding.name, finding.rank) == ("differs-from-plan", 0)
    assert said in finding.detail


def test_compare_says_what_was_expected_where() -> None:
    (finding,) = compare(PLANNED, change(recorded(PLANNED), at(2, 5), payload_bytes=48))
    assert finding.detail == (
        "rank 2: operation 5: planned forward hop 1 recv of 96 bytes (text) from rank 1, "
        "recorded forward hop 1 recv of 48 bytes float32 from rank 1 (payload_bytes 96 planned, 48 recorded)"
    )


@pytest.mark.parametrize(
    ("exchange", "sequence", "said"),
    [
        ("bidir", 0, "planned forward hop 0 send of 96 bytes (text) to rank 1, recorded forward hop 0 send of 8 bytes"),
        ("reduce", 0, "planned forward hop 0 all_reduce of 96 bytes (text), recorded forward hop 0 all_reduce of 8"),
    ],
)
def test_compare_says_where_to_a_planned_send_goes_and_nothing_of_a_collectives_peers(
    exchange: str, sequence: int, said: str
) -> None:
    planned = plan(exchange, 4, BATCH, DIM, 4)
    (finding,) = compare(planned, change(recorded(planned), at(0, sequence), payload_bytes=8))
    assert finding.detail.startswith(f"rank 0: operation {sequence}: {said}")


def test_compare_sees_a_missing_last_operation_unless_its_rank_failed() -> None:
    log = drop(recorded(PLANNED), at(1, 11))
    (finding,) = compare(PLANNED, log)
    assert finding.rank == 1
    assert finding.detail.endswith("operation 11: planned backward hop 1 recv of 96 bytes (text gradient) from rank 0, "
                                   "recorded nothing more")  # fmt: skip
    assert names(compare(PLANNED, log, failures=hung(0))) == {("differs-from-plan", 1)}
    assert compare(PLANNED, log, failures=hung(1)) == ()


def test_compare_sees_a_surplus_operation_an_unknown_one_and_a_stranger() -> None:
    log = recorded(PLANNED)
    (surplus,) = compare(PLANNED, [*log, operation(3, 12, "all_reduce")])
    assert surplus.detail == (
        "rank 3: operation 12: planned nothing more, recorded forward hop 0 all_reduce of 32 bytes float32"
    )
    assert names(compare(PLANNED, [*log, operation(3, 12, "unknown")])) == {("differs-from-plan", 3)}
    (stranger,) = compare(PLANNED, [*log, operation(4, 0, "all_reduce")])
    assert (stranger.rank, stranger.detail) == (4, "rank 4: not in the plan, yet it posted operations")


def test_compare_says_every_field_in_which_an_operation_differs() -> None:
    (finding,) = compare(PLANNED, change(recorded(PLANNED), at(0, 0), dst=3, payload_bytes=48))
    assert finding.detail.endswith("(dst 1 planned, 3 recorded; payload_bytes 96 planned, 48 recorded)")


def test_compare_sees_swapped_operations() -> None:
    log = change(change(recorded(PLANNED), at(0, 0), sequence=100), at(0, 1), sequence=0)
    log = change(log, at(0, 100), sequence=1)
    assert names(compare(PLANNED, log)) == {("differs-from-plan", 0)}


def test_compare_knows_the_dtype_of_everything_that_travels() -> None:
    options = {"memory": "constant", "overlap": True, "grad_itemsize": 4, "agrees": True, "compares": True}
    planned = plan("shift", 4, BATCH, DIM, 2, **options)
    dtype_of = {"shapes": "int64", "upstream gradient": "float64", "text gradient": "float32"}
    carries = {(rank, event.sequence): event.carries for rank in range(4) for event in planned.events(rank)}
    log = recorded(planned, "bfloat16")
    log = [msgspec.structs.replace(e, dtype=dtype_of.get(carries[e.rank, e.sequence], "bfloat16")) for e in log]
    assert compare(planned, log, dtypes=dtypes("bfloat16", "float32")) == ()
    for event in log:
        changed = change(log, lambda other, event=event: other is event, dtype="float16")
        assert names(compare(planned, changed, dtypes=dtypes("bfloat16", "float32"))) == {
            ("differs-from-plan", event.rank)
        }


@given(plans(), st.data())
@settings(deadline=None)
def test_compare_sees_any_one_operation_dropped(drawn: tuple[Plan, str], data: st.DataObject) -> None:
    planned, dtype = drawn
    log = recorded(planned, dtype)
    assume(log)
    dropped = data.draw(st.sampled_from(log))
    findings = compare(planned, [event for event in log if event is not dropped])
    assert names(findings) == {("differs-from-plan", dropped.rank)}


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("shift", "bidir"), ("bidir", "shift"), ("reduce", "gather"), ("gather", "reduce"), ("bidir", "gather")],
)
def test_another_exchange_differs_on_every_rank(right: str, wrong: str) -> None:
    findings = compare(plan(right, 5, BATCH, DIM, 4), step(wrong, 5))
    assert [finding.rank for finding in findings] == [0, 1, 2, 3, 4]


# ------------------------------------------------------------------ lints
def last_receive(rank: int) -> Callable[[Event], bool]:
    """Pick the last receive of a rank in the shift step of 3 ranks, backward hop 1."""
    return lambda event: (event.rank, event.kind, event.phase, event.hop) == (rank, "recv", "backward", 1)


SHIFT, REDUCE = step("shift"), step("reduce")
PLANTED: list[tuple[str, int, Log]] = [
    ("unmatched-send", 2, drop(SHIFT, last_receive(1))),
    ("unmatched-receive", 1, drop(SHIFT, at(2, 6))),
    ("size-differs", 0, change(SHIFT, at(1, 1), payload_bytes=48, shape=(2, DIM))),
    ("dtype-differs", 0, change(SHIFT, at(1, 1), dtype="int32")),
    ("dtype-differs", 2, change(REDUCE, at(2, 1), dtype="int32")),
    ("self-send", 1, [*SHIFT, operation(1, 8, "send", 1)]),
    ("self-send", 1, [*SHIFT, operation(1, 8, "recv", 1)]),
    ("collective-order", 1, change(REDUCE, at(1, 2), kind="all_gather")),
    ("collective-order", 0, drop(REDUCE, at(0, 5))),
    ("collective-order", 1, [event for event in REDUCE if event.rank != 1]),
    ("collective-size", 2, change(REDUCE, at(2, 4), payload_bytes=48)),
    ("unwaited-receive", 2, change(SHIFT, at(2, 3), returned_s=None)),
]


@pytest.mark.parametrize(("name", "rank", "log"), PLANTED)
def test_a_planted_fault_is_found_by_name_and_rank_and_nothing_else_is(name: str, rank: int, log: Log) -> None:
    assert names(linted(log, waits_seen=True)) == {(name, rank)}


def test_a_narrow_wire_is_found_on_every_rank() -> None:
    for narrow in ("bfloat16", "float16"):
        assert names(linted(step("shift", dtype=narrow))) == {("narrow-wire", rank) for rank in range(3)}
    assert names(linted(step("gather", dtype="float32"), dtype="float64")) == {("narrow-wire", r) for r in range(3)}
    assert names(linted(step("gather", dtype="bfloat16"), dtype="float16")) == {("narrow-wire", r) for r in range(3)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_wire_as_wide_as_the_features_or_wider_is_not_narrow(dtype: str) -> None:
    assert linted(step("shift", dtype=dtype)) == ()


@pytest.mark.parametrize("kind", ["all_reduce", "all_gather"])
@pytest.mark.parametrize(
    ("dtype", "shape"),
    [("int64", (BATCH, DIM)), ("uint8", (BATCH, DIM)), ("bool", (BATCH, DIM)), ("bfloat16", (BATCH - 1, DIM))],
)
def test_integers_and_what_is_smaller_than_the_features_are_not_narrow(
    kind: str, dtype: str, shape: tuple[int, ...]
) -> None:
    assert linted([operation(rank, 0, kind, dtype=dtype, shape=shape) for rank in range(3)]) == ()


def test_a_scalar_is_no_feature_even_where_the_features_are_one_number() -> None:
    for shape in ((), (1,)):
        log = [operation(rank, 0, "all_reduce", dtype="float32", shape=shape) for rank in range(3)]
        assert lint(log, world_size=3, dtype="float64", feature_numel=1) == ()
    log = [operation(rank, 0, "all_reduce", dtype="float32", shape=(1, 1)) for rank in range(3)]
    assert len(lint(log, world_size=3, dtype="float64", feature_numel=1)) == 3


def test_a_rank_that_hangs_between_phases_has_no_more_receives_in_forward() -> None:
    lone_send = [operation(1, 0, "send", src=1, dst=0)]
    hung = (RankFailure(rank=0, kind="hung", blamed=True, detail=""),)
    told = {"world_size": 2, "dtype": "float32", "feature_numel": BATCH * DIM, "failures": hung}
    assert lint(lone_send, **told) == ()
    assert names(lint(lone_send, past_forward={0}, **told)) == {("unmatched-send", 1)}


def test_a_rank_that_an_exception_threw_out_of_forward_may_have_left_it_too_early() -> None:
    lone_send = [operation(1, 0, "send", src=1, dst=0)]
    raised = (RankFailure(rank=0, kind="raised", blamed=True, detail="ValueError"),)
    told = {"world_size": 2, "dtype": "float32", "feature_numel": BATCH * DIM, "failures": raised}
    assert lint(lone_send, past_forward={0}, **told) == ()


def test_a_receive_that_is_narrower_is_its_sends_fault_or_a_difference_of_the_two() -> None:
    log = [operation(0, 0, "send", 1, shape=(BATCH, DIM)), operation(1, 0, "recv", 0, shape=(BATCH, DIM))]
    narrow = [msgspec.structs.replace(log[0], dtype="float64"), msgspec.structs.replace(log[1], dtype="float32")]
    assert names(linted(narrow, dtype="float64")) == {("dtype-differs", 0)}


def test_features_of_a_dtype_that_is_not_floating_are_refused() -> None:
    with pytest.raises(ValueError, match=r"floating dtype \(float64, float32, float16, bfloat16, .*; got dtype='int8'"):
        linted(SHIFT, dtype="int8")


def test_waits_are_judged_only_where_they_are_seen() -> None:
    unseen = [msgspec.structs.replace(event, returned_s=None) for event in SHIFT]
    assert linted(unseen) == linted(unseen, waits_seen=False) == ()
    assert names(linted(unseen, waits_seen=True)) == {("unwaited-receive", rank) for rank in range(3)}


def test_of_two_groups_each_is_judged_to_its_end() -> None:
    """Both in the wrong order on one rank: the second group is not passed over for what is wrong in the first."""
    log = [
        *(operation(rank, 0, "all_reduce" if rank else "all_gather", group="one") for rank in range(3)),
        *(operation(rank, 1, "all_reduce" if rank < 2 else "all_gather", group="two") for rank in range(3)),
    ]
    assert names(linted(log)) == {("collective-order", 0), ("collective-order", 2)}


def test_collectives_out_of_order_name_the_rank_that_departs_and_stop_there() -> None:
    """Ranks 0 and 2 agree, rank 1 has its two collectives swapped: one place is said, not every one after it."""
    swapped = {0: ["all_reduce", "all_gather"], 1: ["all_gather", "all_reduce"], 2: ["all_reduce", "all_gather"]}
    log = [operation(rank, index, kind) for rank, kinds in swapped.items() for index, kind in enumerate(kinds)]
    (finding,) = linted(log)
    assert finding.detail == (
        "rank 1: forward hop 0 all_gather of 32 bytes float32 as collective 0, "
        "where rank 0 has forward hop 0 all_reduce of 32 bytes float32"
    )


def test_a_root_that_depends_on_the_rank_is_out_of_order() -> None:
    log = [operation(rank, 0, "broadcast", src=rank) for rank in range(3)]
    assert names(linted(log)) == {("collective-order", 1), ("collective-order", 2)}
    assert linted([operation(rank, 0, "broadcast", src=1) for rank in range(3)]) == ()


@pytest.mark.parametrize("kind", ["scatter", "all_to_all"])
def test_collectives_that_may_be_uneven_may_be_uneven(kind: str) -> None:
    assert linted([operation(rank, 0, kind, payload_bytes=32 + rank) for rank in range(3)]) == ()


def test_groups_are_judged_apart() -> None:
    """Ranks 0, 1 and ranks 2, 3 each in a group of their own, whose ranks are called 0 and 1 in both."""
    log = [
        operation(0, 0, "all_reduce", group="low"),
        operation(1, 0, "all_reduce", group="low"),
        operation(2, 0, "all_gather", group="high"),
        operation(3, 0, "all_gather", group="high"),
        operation(2, 1, "send", group="high", src=0, dst=1),
        operation(3, 1, "recv", group="high", src=0, dst=1),
    ]
    assert linted(log, world_size=4) == ()
    assert names(linted(log[:-1], world_size=4)) == {("unmatched-send", 2)}
    assert linted(log[:-1], world_size=4, failures=hung(3)) == ()  # the partner is rank 3, which had not ended


def test_findings_alike_are_counted_rather_than_listed() -> None:
    (finding,) = linted([event for event in SHIFT if not (event.rank == 1 and event.kind == "recv")])[:1]
    assert finding.name == "unmatched-send"
    assert finding.detail == (
        "rank 0: forward hop 0 send of 96 bytes float32 to rank 1, which never receives it; 1 more like it on this rank"
    )


def test_an_unknown_operation_is_noted_and_is_no_finding() -> None:
    log = [*SHIFT, operation(1, 8, "unknown", op="c10d::new"), operation(1, 9, "unknown", op="c10d::new")]
    assert linted(log) == ()
    (note,) = notes(log)
    assert note.name in NOTES
    assert (note.rank, note.detail) == (1, "rank 1: c10d::new, 2 times, of unknown kind")


def test_what_an_unknown_operation_may_have_received_is_not_held_to_be_unmatched() -> None:
    log = drop(SHIFT, last_receive(1))
    assert names(linted([*log, operation(1, 9, "unknown")])) == set()
    assert names(linted([*log, operation(0, 9, "unknown")])) == {("unmatched-send", 2)}


def test_every_finding_in_the_table_was_seen_to_fire() -> None:
    fired = {name for name, _, _ in PLANTED} | {"narrow-wire", "differs-from-plan", "deadlock"}
    assert fired == set(FINDINGS)
    assert list(FINDINGS) == sorted(FINDINGS)


# ------------------------------------------------------------------ steps that did not end
def posted(rank: int, sequence: int, kind: str, peer: int | None = None, **fields: object) -> Event:
    return operation(rank, sequence, kind, peer, returned_s=None, **fields)


def test_a_ring_of_blocking_sends_is_a_deadlock_that_names_its_ranks() -> None:
    log = [posted(rank, 0, "send", (rank + 1) % 3) for rank in range(3)]
    (finding,) = linted(log, failures=hung(0, 1, 2))
    assert finding.name == "deadlock"
    assert finding.detail == (
        "ranks 0 -> 1 -> 2 -> 0 wait for each other: rank 0 in send (forward hop 0) for rank 1; "
        "rank 1 in send (forward hop 0) for rank 2; rank 2 in send (forward hop 0) for rank 0"
    )


@pytest.mark.parametrize("kind", ["send", "recv"])
@given(world_size=st.integers(2, 9), step_size=st.integers(1, 8), tail=st.integers(0, 3))
@settings(deadline=None)
def test_every_ring_of_waits_is_found_and_is_a_ring(kind: str, world_size: int, step_size: int, tail: int) -> None:
    """A ring of ranks, and before it `tail` ranks that wait for its first and are no part of it."""
    assume(step_size % world_size)
    ring = [posted(tail + place, 0, kind, tail + (place + step_size) % world_size) for place in range(world_size)]
    outside = [posted(rank, 0, kind, tail) for rank in range(tail)]
    ranks = world_size + tail
    (finding,) = linted([*ring, *outside], ranks, failures=hung(*range(ranks)))
    path = [int(rank) for rank in finding.detail.removeprefix("ranks ").split(" wait")[0].split(" -> ")]
    assert path[0] == path[-1] == finding.rank
    assert len(set(path)) == len(path) - 1
    assert all((former - tail + step_size) % world_size == latter - tail for former, latter in pairwise(path))


def test_waiting_in_a_collective_for_a_rank_that_waits_for_a_message_is_a_deadlock() -> None:
    log = [posted(0, 0, "all_reduce"), posted(1, 0, "recv", 0), posted(2, 0, "all_reduce")]
    (finding,) = linted(log, failures=hung(0, 1, 2))
    assert "ranks 0 -> 1 -> 0 wait for each other: rank 0 in all_reduce" in finding.detail
    raised = [msgspec.structs.replace(failure, kind="raised") for failure in hung(0, 1, 2)]
    assert names(linted(log, failures=raised)) == {("deadlock", 0)}


def test_a_chain_of_waits_that_ends_is_no_deadlock() -> None:
    log = [posted(0, 0, "send", 1), posted(1, 0, "send", 2)]
    assert linted(log, failures=hung(0, 1, 2)) == ()


def test_no_deadlock_is_looked_for_where_a_rank_died_or_was_blamed() -> None:
    log = [posted(0, 0, "send", 1), posted(1, 0, "send", 0)]
    assert names(linted(log, failures=hung(0, 1))) == {("deadlock", 0)}
    assert linted(log, failures=(*hung(0, 1), died(2))) == ()
    raised = RankFailure(rank=2, kind="raised", blamed=True, detail="ValueError")
    assert linted(log, failures=(*hung(0, 1), raised)) == ()


def test_an_operation_whose_wait_returned_is_not_waited_in() -> None:
    log = [operation(0, 0, "send", 1), posted(0, 1, "recv", 1), posted(1, 0, "send", 0, tag=5)]
    assert names(linted(log, failures=hung(0, 1, 2))) == {("deadlock", 0)}
    assert linted([*log[:1], *log[2:]], failures=hung(0, 1, 2)) == ()


def test_a_message_to_a_rank_that_ended_explains_a_hang() -> None:
    """Rank 1 leaves out the last receive of the step and ends; rank 2 hangs in the send."""
    log = drop(SHIFT, last_receive(1))
    assert names(linted(log, failures=hung(2))) == {("unmatched-send", 2)}
    assert linted(log, failures=hung(1, 2)) == ()


def test_a_forward_message_to_a_rank_that_is_in_backward_explains_a_hang() -> None:
    log = [
        posted(0, 0, "send", 1),
        posted(1, 0, "send", 0, phase="backward"),
    ]
    assert names(linted(log, failures=hung(0, 1, 2))) == {("unmatched-send", 0), ("deadlock", 0)}
    backward_too = [posted(0, 0, "send", 1, phase="backward"), posted(1, 0, "send", 2, phase="backward")]
    assert linted(backward_too, failures=hung(0, 1, 2)) == ()


@pytest.mark.parametrize("name", ["size-differs", "dtype-differs", "self-send", "collective-order", "collective-size"])
def test_what_both_ends_show_is_found_even_where_ranks_died(name: str) -> None:
    """The first log planted for each name; the others for collective-order are absences."""
    rank, log = next((rank, log) for planted, rank, log in PLANTED if planted == name)
    assert names(linted(log, failures=[died(0), died(1), died(2)])) == {(name, rank)}


def test_a_self_send_that_torch_refused_is_found_by_its_exception() -> None:
    """The exception is torch's own, so that another wording in another torch shows here."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        with pytest.raises(ValueError, match="rank") as raised:
            dist.send(torch.ones(1), 0)
    finally:
        dist.destroy_process_group()
    failure = RankFailure(rank=1, kind="raised", blamed=True, detail=f"ValueError: {raised.value}")
    assert names(linted([], failures=[failure])) == {("self-send", 1)}
    assert linted([], failures=[msgspec.structs.replace(failure, detail="ValueError: another")]) == ()


def test_a_collective_that_a_failed_rank_did_not_reach_is_no_finding() -> None:
    log = drop(REDUCE, at(0, 5))
    assert linted(log, failures=hung(0, 1, 2)) == ()
    assert names(linted(log, failures=hung(1, 2))) == {("collective-order", 0)}
