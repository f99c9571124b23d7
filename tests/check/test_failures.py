"""How far a failed rank had come, and who is to blame, in one sentence.

Oracle: records written by hand. Sees: a hop named that the rank was not in, ranks that fail alike told apart, ranks
that fail in different places thrown together.
"""

from __future__ import annotations

import pytest

from siglip_verify.checks.failures import failure_sentence, located
from siglip_verify.records import Event, RankFailure


def event(rank: int, sequence: int, kind: str, phase: str, hop: int, *, returned: bool) -> Event:
    return Event(
        rank=rank,
        sequence=sequence,
        kind=kind,
        op="c10d::send",
        phase=phase,  # type: ignore[arg-type]
        hop=hop,
        src=None,
        dst=None,
        tag=None,
        dtype="float64",
        shape=(2,),
        payload_bytes=16,
        posted_s=float(sequence),
        returned_s=float(sequence) + 0.5 if returned else None,
    )


def failed(rank: int, *, blamed: bool = True) -> RankFailure:
    return RankFailure(rank=rank, kind="hung", blamed=blamed, detail="no answer after 2 s")


SENT = [event(1, 0, "send", "forward", 0, returned=True), event(1, 1, "recv", "forward", 0, returned=True)]


@pytest.mark.parametrize(
    ("posted", "reached"),
    [
        ([], "before its first message"),
        (SENT, "after forward hop 0"),
        ([*SENT, event(1, 2, "send", "forward", 1, returned=False)], "in forward hop 1 (send)"),
        (
            [
                *SENT,
                event(1, 2, "send", "backward", 0, returned=False),
                event(1, 3, "recv", "backward", 0, returned=False),
            ],
            "in backward hop 0 (send, recv)",
        ),
        (
            [
                *SENT,
                event(1, 2, "send", "forward", 1, returned=True),
                event(1, 3, "recv", "forward", 1, returned=False),
            ],
            "in forward hop 1 (recv)",
        ),
    ],
    ids=["nothing posted", "all returned", "one under way", "two under way", "one of two returned"],
)
def test_a_failed_rank_is_placed_by_its_own_last_hop(posted: list[Event], reached: str) -> None:
    other = event(0, 0, "all_reduce", "backward", 5, returned=False)
    (failure,) = located([failed(1)], [other, *reversed(posted)])
    assert failure.reached == reached


def test_the_sentence_names_rank_and_hop() -> None:
    failures = located([failed(0, blamed=False), failed(1)], SENT)
    assert failure_sentence(failures, 3) == (
        "rank 1 hung: no answer after 2 s; after forward hop 0; rank 0 only suffers from that"
    )


def test_where_there_were_no_ranks_it_says_why_as_far_as_that_is_known() -> None:
    assert failure_sentence([], 3, "no memory") == "there were no ranks to run it: no memory"
    assert failure_sentence([], 3) == "there were no ranks to run it: nobody says why"


def test_ranks_that_fail_alike_in_one_place_are_named_together_and_others_apart() -> None:
    behind = [event(2, 0, "send", "forward", 0, returned=False)]
    failures = [failed(0), failed(1), failed(2)]
    assert (
        failure_sentence(located(failures, []), 3) == "every rank hung: no answer after 2 s; before its first message"
    )
    assert failure_sentence(located(failures, behind), 3) == (
        "ranks 0 and 1 hung: no answer after 2 s; before its first message; rank 2 failed in another way"
    )
