"""What steps hold in memory: chunks that bound nothing and steps that stay are found, right losses are not.

Oracle: the catalogue's two memory bugs, its controls, and our own loss, chunked. Sees: a planted bug that the numbers
cannot show going unseen, and a right loss that is refused for its memory.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify.adapt import LossSpec
from siglip_verify.bugs import CATALOGUE, CONTROLS
from siglip_verify.case import EXCHANGES, Exchange
from siglip_verify.checks.memory import GROWTH, MEMORY_FINDINGS, StepBytes, chunks_bound, nothing_stays
from siglip_verify.run.catalogue import run_catalogue
from siglip_verify.run.limits import load_traits
from siglip_verify.run.memory import diagnosis_of, judge_memory
from siglip_verify.world import Worlds

pytestmark = pytest.mark.xdist_group("catalogue")


@pytest.mark.parametrize("bug_id", MEMORY_FINDINGS)
@pytest.mark.parametrize("exchange", EXCHANGES)
def test_a_bug_of_memory_alone_is_found_by_name(worlds: Worlds, bug_id: str, exchange: Exchange) -> None:
    spec = CATALOGUE[bug_id].spec
    result = judge_memory(worlds, spec, load_traits(worlds, spec), exchange)
    assert (result.verdict, [finding.name for finding in result.findings]) == ("mismatch", [bug_id])
    assert "memory" in diagnosis_of(result).sentence


@pytest.mark.parametrize(
    "spec",
    [LossSpec(), LossSpec(args={"memory": "constant"}), CONTROLS["parts"].spec, CONTROLS["softplus"].spec],
    ids=["ours", "ours in constant memory", "parts", "softplus, which takes no chunk size"],
)
def test_a_right_loss_passes(worlds: Worlds, spec: LossSpec) -> None:
    for exchange in EXCHANGES[:2]:
        assert judge_memory(worlds, spec, load_traits(worlds, spec), exchange).verdict == "pass"


def test_the_catalogue_catches_them_by_their_memory(worlds: Worlds) -> None:
    result = run_catalogue(worlds, [CATALOGUE["memory-grows"]], seed=0, weaker=False)
    (bug,) = result.bugs
    assert (bug.caught, bug.named, bug.findings) == ("memory", True, ("memory-grows",))
    assert result.verdict == "pass"


def peaks(*values: int) -> list[StepBytes]:
    return [StepBytes(peak=value, left=0) for value in values]


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


@pytest.mark.parametrize(
    ("left", "leaks"),
    [
        ((0, 0, 0), False),
        ((8, 8, 8), False),
        ((0, 8, 8), False),
        ((8, 8, 16), False),
        ((8, 8, 16, 8), False),
        ((8, 8, 8, 16), False),
        ((8, 8, 16, 24), True),
    ],
)
def test_only_what_grows_from_step_to_step_is_a_leak(left: tuple[int, ...], leaks: bool) -> None:
    steps = [StepBytes(peak=100, left=each) for each in left]
    assert bool(nothing_stays([[*peaks(1, 1, 1)], steps])) == leaks
