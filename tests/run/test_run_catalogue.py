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
from siglip_verify.run.catalogue import CASES, QUICK, chosen_bugs, run_catalogue
from siglip_verify.run.weaker import WEAKER
from siglip_verify.world import Worlds

pytestmark = pytest.mark.xdist_group("catalogue")


SOME = QUICK[::3]
"""`make verify` plants all of the quick tier."""


@pytest.fixture(scope="session")
def quick(worlds: Worlds) -> CatalogueResult:
    return run_catalogue(worlds, chosen_bugs(SOME), seeds=(1,), weaker=False, controls=[CONTROLS["label-rows"]])


def test_some_of_the_quick_tier_are_caught_and_named(quick: CatalogueResult) -> None:
    assert [(bug.id, bug.caught, bug.amiss, bug.diagnosis) for bug in quick.bugs if not bug.passes] == []
    assert [control.verdict for control in quick.controls] == ["pass"]
    assert quick.verdict == "pass"


def test_the_score_names_every_bug_in_every_format(quick: CatalogueResult) -> None:
    text, json = report.markdown(quick), report.json(quick).decode()
    assert text.startswith(f"PASS: {len(SOME)} of {len(SOME)} planted bugs caught, 1 of 1 right loss accepted, seed 1")
    for bug in quick.bugs:
        assert f"| {bug.id} |" in text
        assert f'"{bug.id}"' in json


@pytest.mark.long  # the table of `make bug-table` shows it too
def test_weaker_checkers_miss_what_they_do_not_look_at(worlds: Worlds) -> None:
    result = run_catalogue(worlds, chosen_bugs(["shift-not-reversed", "non-contiguous-grad"]), seeds=(0,))
    missed = {checker.name: set(checker.missed) for checker in result.weaker}
    assert missed == {
        "loss only": {"shift-not-reversed", "non-contiguous-grad"},
        "W = 2 only": {"shift-not-reversed"},
        "b = 1 only": {"non-contiguous-grad"},
        "equal data on all ranks": {"shift-not-reversed"},
        "initial scale and bias only": set(),
    }
    assert list(missed) == list(WEAKER)


def test_a_bug_is_shown_as_it_came_at_the_worst_seed(worlds: Worlds) -> None:
    bug = chosen_bugs(["bidir-ping-pong"])
    (worst,) = run_catalogue(worlds, bug, seeds=(0, 2), weaker=False).bugs
    (other,) = run_catalogue(worlds, bug, seeds=(2 - worst.seed,), weaker=False).bugs
    assert other.cases < worst.cases <= CASES, "take other seeds"


def test_a_missed_bug_is_a_mismatch_and_nothing_run_is_unknown() -> None:
    missed = BugResult(
        id="x", sentence="", source="", caught="", seed=0, cases=25, case="", quantities=(), findings=(), diagnosis="",
        amiss=(), missed_by=(), elapsed_s=1.0,
    )  # fmt: skip
    result = CatalogueResult(seeds=(0, 1, 2), bugs=(missed,), elapsed_s=1.0)
    assert result.verdict == "mismatch"
    assert "| x | MISSED | 25 cases |" in report.markdown(result)
    assert CatalogueResult(seeds=(0,), bugs=(), elapsed_s=0.0).verdict == "unknown"


def test_a_bug_that_shows_otherwise_than_declared_is_not_caught() -> None:
    otherwise = BugResult(
        id="x", sentence="", source="", caught="hung", seed=0, cases=1, case="", quantities=(), findings=(),
        diagnosis="rank 1 hung", amiss=("outcome hung in place of mismatch",), missed_by=(), elapsed_s=1.0,
    )  # fmt: skip
    result = CatalogueResult(seeds=(0,), bugs=(otherwise,), elapsed_s=1.0)
    assert result.verdict == "mismatch"
    text = report.markdown(result)
    assert text.startswith("MISMATCH: 0 of 1 planted bug caught, 1 otherwise than declared, seed 0")
    assert "OTHERWISE than declared: outcome hung in place of mismatch; says: rank 1 hung" in text


@pytest.mark.parametrize(
    ("caught", "outcome", "at"),
    [
        ("mismatch", "wrong numbers", "case 3"),
        ("raised", "a rank raised", "case 3"),
        ("died", "a rank died", "case 3"),
        ("hung", "hung", "case 3"),
        ("memory", "memory", "memory check after 3 cases"),
        ("input", "input overwritten", "case 3"),
    ],
)
def test_each_way_to_show_is_an_outcome_of_its_own(caught: str, outcome: str, at: str) -> None:
    bug = BugResult(
        id="x", sentence="", source="", caught=caught, seed=0, cases=3, case="shift W=4", quantities=(), findings=(),
        diagnosis="why", amiss=(), missed_by=(), elapsed_s=1.0,
    )  # fmt: skip
    assert f"| x | {outcome} | {at} | 4 |" in report.markdown(CatalogueResult(seeds=(0,), bugs=(bug,), elapsed_s=1.0))


def test_an_unknown_id_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=f"{sorted(CATALOGUE)[0]}.*got 'nothing'"):
        chosen_bugs(["nothing"])
