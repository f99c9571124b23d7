"""What steps held, judged: growth with b x b and what stays are found, what is O(b) or let go of later is not.

Oracle: bytes written down here, drawn as polynomials in b. Sees: a bound in the wrong place, a wrong rank, a wrong
figure. Not: whether bytes are counted rightly (`tests/observe`), and real losses (`tests/run/test_memory`).
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify.checks.memory import GROWTH, StepBytes, chunks_bound, flat, nothing_stays
from siglip_verify.records import Finding


def peaks(*values: int) -> list[StepBytes]:
    return [StepBytes(peak=value, left=0) for value in values]


def leaving(*values: int) -> list[StepBytes]:
    return [StepBytes(peak=100_000, left=value) for value in values]


@given(fixed=st.integers(0, 10_000), a_row=st.integers(1, 1_000), batch=st.integers(2, 1_000))
def test_what_grows_with_b_is_no_finding(fixed: int, a_row: int, batch: int) -> None:
    assert chunks_bound(peaks(fixed + a_row * batch), peaks(fixed + a_row * 2 * batch), batch, 2) == []


@given(share=st.floats(0.51, 1.0), batch=st.integers(1_000, 10_000))
def test_what_is_more_than_half_b_by_b_is_found_on_its_rank(share: float, batch: int) -> None:
    def held(rows: int) -> int:
        return int(share * rows * rows + (1 - share) * batch * rows)

    (finding,) = chunks_bound(peaks(10, held(batch)), peaks(20, held(2 * batch)), batch, 2)
    assert finding.rank == 1
    assert GROWTH == 3.0


def test_growth_is_found_just_beyond_the_bound_and_said_with_its_figures() -> None:
    assert chunks_bound(peaks(1_000), peaks(3_000), 8, 2) == []
    assert chunks_bound(peaks(1_000), peaks(3_001), 8, 2) == [
        Finding(
            name="memory-grows",
            rank=0,
            detail="rank 0: memory grows as b x b, so chunk_size=2 bounds nothing: at most 1,000 bytes with 8 rows and "
            "3,001 with 16, where chunks need twice as many",
        )
    ]


def test_both_steps_are_of_the_same_ranks() -> None:
    with pytest.raises(ValueError, match="zip"):
        chunks_bound(peaks(1, 1), peaks(1), 8, 2)


@given(st.integers(0, 10_000), st.integers(1, 1_000), st.integers(1, 8), st.integers(2, 8), st.integers(-1_000, 1_000))
def test_a_block_more_with_every_rank_more_is_found(kept: int, block: int, few: int, more: int, beyond: int) -> None:
    grown = {few: kept, few + 1: 0, few + more: kept + more * block + beyond}
    assert bool(flat(grown, block)) == (beyond >= 0)


def test_growth_with_ranks_is_found_from_one_block_a_rank_on_and_said_with_its_figures() -> None:
    """Not from one rank more, whose block may be a message that the back end has not let go of."""
    assert flat({}, 64) == flat({4: 64}, 64) == flat({1: 0, 2: 640}, 64) == flat({2: 1_000, 4: 1_127}, 64) == []
    detail = "memory grows with the number of ranks: a rank keeps 1,000 bytes for backward at W = 2 and 1,128 at W = 4"
    assert flat({2: 1_000, 4: 1_128}, 64) == [Finding(name="memory-grows", detail=detail)]


@pytest.mark.parametrize(
    ("left", "leaks"),
    [
        ((0, 0, 0), False),
        ((8, 8, 8), False),
        ((0, 8, 8), False),
        ((0, 8, 16), False),
        ((8, 8, 16), False),
        ((8, 8, 16, 8), False),
        ((8, 8, 8, 16), False),
        ((0, 8, 8, 8), False),
        ((8, 8, 16, 24), True),
    ],
)
def test_only_what_grows_from_step_to_step_is_a_leak(left: tuple[int, ...], leaks: bool) -> None:
    assert bool(nothing_stays([peaks(1, 1, 1), leaving(*left)])) == leaks


def test_a_leak_is_said_by_rank_and_bytes_a_step() -> None:
    """From the second step on: 1,000 bytes, 2,001 and 3,003 are 1,001 more each time, whatever the first left."""
    detail = "rank 1: memory is kept beyond its step: each step leaves 1,001 bytes more than the last"
    found = nothing_stays([peaks(1, 1, 1, 1), leaving(64, 1_000, 2_001, 3_003)])
    assert found == [Finding(name="memory-leak", rank=1, detail=detail)]
