"""The verifier held against the catalogue of known bugs.

Oracle: the catalogue's own word on each entry. Sees: a bug that is missed or not named, a right loss that is refused, a
score that does not follow from its entries.
"""

from __future__ import annotations

import pytest

from siglip_verify.bugs import CATALOGUE, CONTROLS
from siglip_verify.errors import UsageError
from siglip_verify.report import bugs as report
from siglip_verify.result import BugResult, CatalogueResult
from siglip_verify.run.catalogue import QUICK, WEAKER, chosen_bugs, run_catalogue
from siglip_verify.world import Worlds

pytestmark = pytest.mark.xdist_group("catalogue")


@pytest.fixture(scope="session")
def quick(worlds: Worlds) -> CatalogueResult:
    return run_catalogue(worlds, chosen_bugs(QUICK), seed=1, weaker=False, controls=[CONTROLS["label-rows"]])


def test_the_quick_tier_is_caught_and_named(quick: CatalogueResult) -> None:
    assert [bug.id for bug in quick.bugs if bug.caught != "mismatch"] == []
    assert [(bug.id, bug.diagnosis) for bug in quick.bugs if not bug.named] == []
    assert [control.verdict for control in quick.controls] == ["pass"]
    assert quick.verdict == "pass"


def test_the_score_names_every_bug_in_every_format(quick: CatalogueResult) -> None:
    text, json = report.markdown(quick), report.json(quick).decode()
    assert text.startswith(
        f"PASS: {len(QUICK)} of {len(QUICK)} planted bugs caught, 1 of 1 right loss accepted, seed 1"
    )
    for bug in quick.bugs:
        assert f"| {bug.id} |" in text
        assert f'"{bug.id}"' in json


def test_weaker_checkers_miss_what_they_do_not_look_at(worlds: Worlds) -> None:
    result = run_catalogue(worlds, chosen_bugs(["gather-no-grad", "bidir-ping-pong"]), seed=0)
    missed = {checker.name: checker.missed for checker in result.weaker}
    assert list(missed) == list(WEAKER)
    assert "gather-no-grad" in missed["loss only"]
    assert "bidir-ping-pong" in missed["W = 2 only"]


def test_a_missed_bug_is_a_mismatch_and_nothing_run_is_unknown() -> None:
    missed = BugResult(
        id="x", sentence="", source="", caught="", cases=25, case="", quantities=(), findings=(), diagnosis="",
        named=False, missed_by=(), elapsed_s=1.0,
    )  # fmt: skip
    assert CatalogueResult(seed=0, bugs=(missed,), elapsed_s=1.0).verdict == "mismatch"
    assert "MISSED in 25 cases" in report.markdown(CatalogueResult(seed=0, bugs=(missed,), elapsed_s=1.0))
    assert CatalogueResult(seed=0, bugs=(), elapsed_s=0.0).verdict == "unknown"


def test_an_unknown_id_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=f"{sorted(CATALOGUE)[0]}.*got 'nothing'"):
        chosen_bugs(["nothing"])
