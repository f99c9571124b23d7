"""What steps hold in memory: chunks that bound nothing and steps that stay are found, right losses are not.

Oracle: the catalogue's two memory bugs, its controls, and our own loss, chunked. Sees: a planted bug that the numbers
cannot show going unseen, and a right loss that is refused for its memory.
"""

from __future__ import annotations

import pytest

from siglip_verify.adapt import LossSpec
from siglip_verify.bugs import CATALOGUE, CONTROLS
from siglip_verify.case import EXCHANGES, Exchange
from siglip_verify.checks.memory import MEMORY_FINDINGS
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
    result = run_catalogue(worlds, [CATALOGUE["memory-grows"]], seeds=(0,), weaker=False)
    (bug,) = result.bugs
    assert (bug.caught, bug.amiss, bug.findings) == ("memory", (), ("memory-grows",))
    assert result.verdict == "pass"
