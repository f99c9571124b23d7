"""Ranks with different upstream gradients: noticed by memory="constant", right with memory="recompute".

Oracle: `siglip_verify.oracle`, which takes one upstream gradient a rank, and `siglip_verify.plan` for the messages.
Sees: a comparison that passes what differs, or that raises without cause; a share weighted by another rank's gradient.
"""

from __future__ import annotations

import math

import constant_jobs as jobs
import hypothesis
import pytest
from constant_checks import CASE, EXCHANGES, judge, planned
from effort import examples
from hypothesis import strategies as st
from msgspec.structs import replace

from siglip_verify.checks import conformance
from siglip_verify.loss import SigLipLoss
from siglip_verify.run.strategies import Dimensions, cases
from siglip_verify.world import Worlds

pytestmark = pytest.mark.xdist_group("upstream")

CHECKED = {"memory": "constant", "check_upstream": True}
RECOMPUTE = {"memory": "recompute"}


@pytest.mark.parametrize("world_size", [2, 3, 4])
@pytest.mark.parametrize("odd_one", [0, 1])
def test_the_rank_whose_left_neighbour_differs_names_both_values(worlds: Worlds, world_size: int, odd_one: int) -> None:
    case = replace(CASE, exchange="shift", world_size=world_size, upstream="one")
    upstream = [2.5 if rank == odd_one else 1.0 for rank in range(world_size)]
    said = worlds.run(world_size, jobs.upstream_error, case, CHECKED, upstream)
    for rank, message in enumerate(said):
        left = (rank - 1) % world_size
        if upstream[rank] == upstream[left]:
            assert message == "nothing was raised"
        else:
            assert f"got {upstream[left]} on rank {left} and {upstream[rank]} on rank {rank}" in message
            assert "use memory='recompute'" in message


@pytest.mark.parametrize("value", [0.0, 65536.0, math.inf, math.nan])
@pytest.mark.parametrize("world_size", [1, 3])
def test_one_value_on_all_ranks_is_never_refused(worlds: Worlds, value: float, world_size: int) -> None:
    case = replace(CASE, exchange="shift", world_size=world_size)
    said = worlds.run(world_size, jobs.upstream_error, case, CHECKED, [value] * world_size)
    assert set(said) == {"nothing was raised"}


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_the_comparison_sends_eight_bytes_to_the_right_in_backward(worlds: Worlds, exchange: str) -> None:
    case = replace(CASE, exchange=exchange, world_size=4)
    steps = worlds.run(4, jobs.step, case, CHECKED)
    judge(case, steps)
    for step in steps:
        backward = [event for event in step.events if event.phase == "backward"]
        assert [(event.kind, event.payload_bytes) for event in backward] == [("send", 8), ("recv", 8)]
        assert backward[0].dst == (backward[0].rank + 1) % 4


@pytest.mark.parametrize("exchange", EXCHANGES)
@hypothesis.given(data=st.data())
@examples(20)
def test_recompute_is_right_whatever_reaches_each_rank(worlds: Worlds, exchange: str, data: st.DataObject) -> None:
    case = data.draw(cases(exchange, range(1, 7), Dimensions(upstream=("by-rank", "scaled"))))
    judge(case, worlds.run(case.world_size, jobs.step, case, RECOMPUTE))


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 5])
def test_recompute_shows_texts_in_forward_and_the_whole_exchange_in_backward(
    worlds: Worlds, exchange: str, world_size: int
) -> None:
    case = replace(CASE, exchange=exchange, world_size=world_size)
    events = [event for step in worlds.run(world_size, jobs.step, case, RECOMPUTE) for event in step.events]
    forward = [event for event in events if event.phase == "forward"]
    backward = [replace(event, phase="forward") for event in events if event.phase == "backward"]
    assert conformance.compare(planned(case, text_grad=False), forward) == ()
    assert conformance.compare(planned(case), backward) == ()


def test_recompute_with_frozen_texts_sends_nothing_in_backward(worlds: Worlds) -> None:
    case = replace(CASE, exchange="bidir", world_size=3, frozen="text", upstream="by-rank")
    steps = worlds.run(3, jobs.step, case, RECOMPUTE)
    judge(case, steps)
    assert conformance.compare(planned(case), [event for step in steps for event in step.events]) == ()


def test_recompute_may_be_called_backward_twice_but_not_differentiated_twice(worlds: Worlds) -> None:
    case = replace(CASE, exchange="shift", world_size=2)
    for again, twice in worlds.run(2, jobs.backward_twice, case, RECOMPUTE):
        assert again == "nothing was raised"
        assert "create_graph=True: use memory='autograd'" in twice


def test_the_comparison_is_for_constant_memory_alone() -> None:
    for memory in ("autograd", "recompute"):
        with pytest.raises(ValueError, match=f"check_upstream=True is for memory='constant'.*got memory='{memory}'"):
            SigLipLoss(memory=memory, check_upstream=True)
