"""What steps hold in memory: chunks that bound nothing and steps that stay are found, right losses are not.

Oracle: the catalogue's two memory bugs, its controls, and our own loss, chunked. Sees: a planted bug that the numbers
cannot show going unseen, and a right loss that is refused for its memory.
"""

from __future__ import annotations

import re

import pytest

from siglip_verify.adapt import LossSpec
from siglip_verify.bugs import CATALOGUE, CONTROLS
from siglip_verify.case import EXCHANGES, Exchange
from siglip_verify.checks.memory import MEMORY_FINDINGS, flat
from siglip_verify.run import loss_run
from siglip_verify.run.catalogue import run_catalogue
from siglip_verify.run.cost import step_costs
from siglip_verify.run.counting import table_case
from siglip_verify.run.declare import with_own_convention
from siglip_verify.run.limits import load_traits
from siglip_verify.run.memory import diagnosis_of, judge_memory
from siglip_verify.run.whole import check
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
    result = run_catalogue(worlds, [CATALOGUE["memory-grows"]], seeds=(0,), weaker=False)
    (bug,) = result.bugs
    assert (bug.caught, bug.amiss, bug.findings) == ("memory", (), ("memory-grows",))
    assert result.verdict == "pass"


@pytest.mark.parametrize("exchange", ["bidir", "shift"])
@pytest.mark.parametrize("memory", ["autograd", "constant", "recompute"])
def test_what_is_kept_for_backward_is_counted_wherever_it_is_kept(
    worlds: Worlds, exchange: Exchange, memory: str
) -> None:
    spec = with_own_convention(LossSpec(args={"memory": memory}))
    traits = load_traits(worlds, spec)
    cases = [table_case(exchange, world_size) for world_size in (2, 4)]
    kept = {cost.world_size: cost.kept_bytes for cost in step_costs(worlds, spec, traits, cases)}
    block_bytes = cases[0].batch * cases[0].dim * 4
    if memory == "autograd":
        assert [finding.name for finding in flat(kept, block_bytes)] == ["memory-grows"]
    else:
        assert flat(kept, block_bytes) == []
        assert kept[4] >= (2 * block_bytes if memory == "constant" else 0)  # the gradients of images and texts


def test_a_form_that_promises_flat_memory_and_keeps_blocks_is_a_mismatch(
    worlds: Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_run, "promises_flat_memory", lambda spec: True)
    report = check(LossSpec(), exchanges=["shift"], world_sizes="2,4", examples=2, seed=1, worlds=worlds)
    (found,) = report.counterexamples
    assert report.verdict == "mismatch"
    assert found.replay == "siglip-verify check --exchanges shift --world-sizes 2,4 --examples 1"
    assert found.diagnosis is not None
    assert found.diagnosis.cause == "memory-grows"
    assert re.search(r"keeps [\d,]+ bytes for backward at W = 2 and [\d,]+ at W = 4", found.diagnosis.sentence)
