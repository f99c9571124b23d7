"""overlap=True: the same numbers, and every hop is posted before the blocks of the one before are looked at.

Oracle: `siglip_verify.oracle` for the numbers; the tables of hops below, written by hand from the algorithm, and the
order of what a rank posts and computes, for the messages. Sees: a block read before it is here (receive buffers are
filled with NaN when posted), a gradient that rides with the wrong block, a hop that waits for a computation.
"""

from __future__ import annotations

import constant_jobs as jobs
import hypothesis
import pytest
from constant_checks import CASE, EXCHANGES, judge, table
from effort import examples
from hypothesis import strategies as st
from msgspec.structs import replace

from siglip_verify.loss import SigLipLoss
from siglip_verify.run.strategies import Dimensions, cases
from siglip_verify.world import Worlds

pytestmark = pytest.mark.xdist_group("overlap")

# For each W the hops of one rank: (places to the right, blocks) of every message.
SHIFT = {
    1: [],
    2: [[(1, 1)], [(1, 1)]],
    3: [[(1, 1)], [(1, 1)], [(1, 1)], [(1, 1)]],
    4: [[(1, 1)], [(1, 1)], [(1, 2)], [(1, 1)], [(1, 1)]],
    5: [[(1, 1)], [(1, 1)], [(1, 2)], [(1, 2)], [(1, 1)], [(1, 1)]],
}
BIDIR = {
    1: [],
    2: [[(1, 1)], [(1, 1)]],
    3: [[(1, 1), (2, 1)], [(2, 1), (1, 1)]],
    4: [[(1, 1), (3, 1)], [(1, 1)], [(1, 1), (1, 1)], [(2, 1)]],
    5: [[(1, 1), (4, 1)], [(1, 1), (4, 1)], [(1, 1), (4, 1)], [(3, 1), (2, 1)]],
    7: [
        [(1, 1), (6, 1)],
        [(1, 1), (6, 1)],
        [(1, 2), (6, 2)],
        [(1, 1), (6, 1)],
        [(4, 1), (3, 1)],
    ],
}


@pytest.mark.parametrize("memory", ["autograd", "constant", "recompute"])
@pytest.mark.parametrize("exchange", EXCHANGES)
@hypothesis.given(data=st.data())
@examples(15)
def test_overlap_changes_no_number(worlds: Worlds, memory: str, exchange: str, data: st.DataObject) -> None:
    upstream = ("one", "scaled") if memory == "constant" else ("one", "by-rank")
    case = data.draw(cases(exchange, range(1, 7), Dimensions(upstream=upstream)))
    judge(case, worlds.run(case.world_size, jobs.step, case, {"memory": memory, "overlap": True}))


@pytest.mark.parametrize(("exchange", "world_size"), [*(("shift", w) for w in SHIFT), *(("bidir", w) for w in BIDIR)])
def test_gradients_follow_their_text_one_hop_behind(worlds: Worlds, exchange: str, world_size: int) -> None:
    case = replace(CASE, exchange=exchange, world_size=world_size)
    wanted = {"shift": SHIFT, "bidir": BIDIR}[exchange][world_size]
    for step in worlds.run(world_size, jobs.step, case, {"memory": "constant", "overlap": True}):
        assert table(step.events, world_size, 8 * case.batch * case.dim) == wanted


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("world_size", [2, 3, 4, 5])
def test_autograd_sends_the_same_messages_either_way(worlds: Worlds, exchange: str, world_size: int) -> None:
    case = replace(CASE, exchange=exchange, world_size=world_size)
    plain, ahead = (worlds.run(world_size, jobs.step, case, {"overlap": overlap}) for overlap in (False, True))
    for one, other in zip(plain, ahead, strict=True):
        tables = [table(step.events, world_size, 8 * case.batch * case.dim) for step in (one, other)]
        assert tables[0] == tables[1]


@pytest.mark.parametrize("memory", ["autograd", "constant"])
@pytest.mark.parametrize("exchange", EXCHANGES)
def test_every_hop_with_text_leaves_before_the_blocks_of_the_last_are_looked_at(
    worlds: Worlds, memory: str, exchange: str
) -> None:
    case = replace(CASE, exchange=exchange, world_size=5)
    blocks = 1 if exchange == "shift" else 2
    wanted = ["post", "look"] + ["post", *["look"] * blocks] * (4 // blocks - 1)
    for order in worlds.run(5, jobs.order_of_work, case, {"memory": memory, "overlap": True}):
        assert order[: len(wanted)] == wanted
    for order in worlds.run(5, jobs.order_of_work, case, {"memory": memory}):
        assert order[: len(wanted)] != wanted


@pytest.mark.parametrize("memory", ["autograd", "constant"])
@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("overlap", [True, False])
def test_the_record_shows_each_block_on_its_way_before_it_is_computed_and_without_overlap_after(
    worlds: Worlds, memory: str, exchange: str, overlap: bool
) -> None:
    """A hop passes on what the one before brought, from one rank or two; the first, own texts, may always be early."""
    case = replace(CASE, exchange=exchange, world_size=5)
    blocks, hops = (1, 4) if exchange == "shift" else (2, 2)
    for events, looked_s in worlds.run(5, jobs.recorded_while_looking, case, {"memory": memory, "overlap": overlap}):
        sent_s = [
            [event.posted_s for event in events if event.kind == "send" and event.hop == hop] for hop in range(hops)
        ]
        passed_on = [looked_s[0], *looked_s[1 : 1 + (hops - 1) * blocks : blocks]]  # when each hop's first was computed
        assert [len(posted_s) for posted_s in sent_s] == [blocks] * hops
        for posted_s, computed_s in list(zip(sent_s, passed_on, strict=True))[0 if overlap else 1 :]:
            assert max(posted_s) < computed_s if overlap else min(posted_s) > computed_s


def test_collectives_have_no_hops_to_overlap() -> None:
    for exchange in ("reduce", "gather"):
        with pytest.raises(ValueError, match=f"overlap=True needs hops.*got dist_impl='{exchange}': use 'bidir'"):
            SigLipLoss(dist_impl=exchange, overlap=True)
