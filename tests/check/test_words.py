"""How a diagnosis names ranks and numbers.

Oracle: sentences written down here. Sees: a plural that is wrong, a ring that is seen where one rank alone differs.
"""

from __future__ import annotations

import numpy as np
import pytest

from siglip_verify.checks.diagnosis.counts import in_words
from siglip_verify.checks.diagnosis.words import each_rank, is_around_the_ring, ranks, times

RING, UNLIKE = np.eye(3), np.diag([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("clauses", "around", "said"),
    [
        (["a", "b"], True, "a, and so on around the ring"),
        (["a", "b", "c"], True, "a, and so on around the ring"),
        (["a", "", ""], True, "a"),
        ([], True, ""),
        (["a", "b"], False, "a; b"),
        (["a", "", "c"], False, "a; c"),
        (["a", "b", "c"], False, "a; b; 1 more rank alike"),
        (["a", "b", "c", "d"], False, "a; b; 2 more ranks alike"),
    ],
)
def test_each_rank_is_said_or_the_first_and_that_it_goes_round(clauses: list[str], around: bool, said: str) -> None:
    assert each_rank(clauses, RING if around else UNLIKE) == said


def test_ranks_are_every_rank_where_there_are_several_and_all_are_meant() -> None:
    assert [ranks([0], 1), ranks([0, 1], 2), ranks([0, 1], 3), ranks([2, 0, 1])] == [
        "rank 0",
        "every rank",
        "ranks 0 and 1",
        "ranks 0, 1 and 2",
    ]


def test_numbers_go_round_where_every_rank_sees_the_same_from_its_own_place() -> None:
    assert is_around_the_ring(np.roll(RING, 1, 1))
    assert not is_around_the_ring(UNLIKE)
    assert is_around_the_ring(np.eye(1))


@pytest.mark.parametrize(
    ("number", "said"),
    [(1, "once"), (2, "twice"), (5, "five times"), (6, "6 times"), (0.5, "0.5 times"), (0, "0 times")],
)
def test_how_often_is_a_word_where_there_is_one(number: float, said: str) -> None:
    assert times(number) == said


def test_what_one_rank_counts_too_often_is_said_of_that_rank() -> None:
    counted = np.ones((3, 3))
    counted[0, 1] = 2
    assert in_words(counted) == "rank 0 counts those of rank 1 twice"
