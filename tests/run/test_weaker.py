"""What weaker checkers see and miss: only what they look at less makes them miss, and a right loss is right to all.

Oracle: losses of which it is known where they are wrong. Sees: a weaker checker that cries wolf (and so
misses nothing), or that is weaker in more than its name says.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from siglip_verify.adapt import LossSpec
from siglip_verify.run.catalogue import CASES
from siglip_verify.run.judge import CaseJudge
from siglip_verify.run.limits import dimensions_of, load_traits
from siglip_verify.run.weaker import WEAKER, missed_by
from siglip_verify.world import Worlds

BROKEN = Path(__file__).with_name("broken.py")
pytestmark = pytest.mark.xdist_group("catalogue")


def missed(worlds: Worlds, spec: LossSpec) -> set[str]:
    traits = load_traits(worlds, spec)
    judge, of = CaseJudge(worlds, spec, traits), dimensions_of(spec, traits)[0]
    return set(missed_by(judge, ("shift",), (2, 3), of, examples=CASES, seed=0))


def test_a_right_loss_is_right_to_every_weaker_checker(worlds: Worlds) -> None:
    assert missed(worlds, LossSpec()) == set(WEAKER)


def test_what_shows_at_a_great_scale_alone_is_missed_at_the_initial_scale(worlds: Worlds) -> None:
    assert missed(worlds, LossSpec(target=f"{BROKEN}:WrongAtGreatScale")) == {"initial scale and bias only"}
