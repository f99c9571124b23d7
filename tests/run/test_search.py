"""The search, with judges that need no process.

Oracle: a predicate on cases. Sees: an unknown that is shrunk or stops the search, a duplicate that counts twice, a
shrunk case that is not minimal, a race that is shown as certain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from siglip_verify.case import Case
from siglip_verify.records import CaseResult, RankFailure, Verdict
from siglip_verify.run.search import Outcome, search
from siglip_verify.run.strategies import allot, cases


def run(verdict_of: Callable[[Case], Verdict], examples: int = 60, *, shrink: bool = True) -> Outcome:
    outcome = Outcome()
    search(
        cases("bidir", [2, 3, 4]),
        lambda case: CaseResult(case=case, verdict=verdict_of(case)),
        outcome,
        examples=examples,
        seed=3,
        shrink=shrink,
    )
    return outcome


def test_a_search_that_finds_nothing_judges_as_many_distinct_cases_as_asked() -> None:
    outcome = run(lambda case: "pass", examples=60)
    assert len(outcome.results) == 60
    assert outcome.first is outcome.smallest is None


def test_the_simplest_case_comes_first() -> None:
    assert next(iter(run(lambda case: "pass", examples=5).results)) == Case(exchange="bidir", world_size=2)


def test_a_mismatch_is_shrunk_to_the_smallest_case_that_fails() -> None:
    outcome = run(lambda case: "mismatch" if case.world_size > 2 and case.batch > 2 else "pass")
    assert outcome.smallest is not None
    assert outcome.smallest.case == Case(exchange="bidir", world_size=3, batch=3)
    assert outcome.shrink_calls > 0
    assert outcome.reproducible


def test_without_shrinking_the_first_failing_case_stands() -> None:
    outcome = run(lambda case: "mismatch" if case.batch > 2 else "pass", shrink=False)
    assert outcome.first is not None
    assert outcome.smallest is not None
    assert outcome.first.case == outcome.smallest.case


def test_an_unknown_is_never_shrunk_and_does_not_end_the_search() -> None:
    outcome = run(lambda case: "unknown" if case.batch == 2 else "pass")
    assert len(outcome.results) == 60
    assert outcome.first is None
    assert any(result.verdict == "unknown" for result in outcome.results.values())


@pytest.mark.parametrize(("kind", "is_shrunk"), [("hung", False), ("stopped", False), ("died", True), ("raised", True)])
def test_a_mismatch_that_took_its_whole_deadline_is_not_shrunk(kind: str, is_shrunk: bool) -> None:
    outcome, failure = Outcome(), RankFailure(rank=0, kind=kind, blamed=True, detail="")

    def judge(case: Case) -> CaseResult:
        failed = case.batch > 2
        return CaseResult(case=case, verdict="mismatch" if failed else "pass", failures=(failure,) * failed)

    search(cases("bidir", [2, 3, 4]), judge, outcome, examples=60, seed=3)
    assert outcome.first is not None
    assert (outcome.shrink_calls > 0) is is_shrunk
    assert (outcome.smallest is outcome.first) is not is_shrunk
    assert outcome.reproducible


def test_a_judge_can_end_the_search_from_inside_and_what_was_found_stays() -> None:
    class EndedError(BaseException):
        pass

    outcome = Outcome()

    def judge(case: Case) -> CaseResult:
        if len(outcome.results) == 7:
            raise EndedError
        return CaseResult(case=case, verdict="pass")

    with pytest.raises(EndedError):
        search(cases("shift", [2]), judge, outcome, examples=50, seed=1)
    assert len(outcome.results) == 7


def test_a_failure_that_does_not_come_back_is_called_not_reproducible() -> None:
    seen: list[Case] = []

    def verdict(case: Case) -> Verdict:
        seen.append(case)
        return "mismatch" if len(seen) == 5 else "pass"

    outcome = run(verdict)
    assert outcome.smallest is not None
    assert not outcome.reproducible


@pytest.mark.parametrize("examples", [1, 8, 40, 160, 1000])
def test_every_world_size_gets_cases_and_the_middle_ones_most(examples: int) -> None:
    allotted = allot(examples, range(1, 9))
    assert min(allotted.values()) >= 1
    assert allotted[2] == allotted[5] >= allotted[1] == allotted[8]
    if examples == 160:
        assert sum(allotted.values()) == 160
        assert min(allotted.values()) == 10


@pytest.mark.parametrize("seed", range(10))
def test_few_cases_are_spread_over_sizes(seed: int) -> None:
    """No world size and no batch has more than half of 25 cases; with sizes drawn alike one had 15 and one row 12."""
    outcome = Outcome()
    strategy = cases("shift", [2, 3, 4, 5])
    search(strategy, lambda case: CaseResult(case=case, verdict="pass"), outcome, examples=25, seed=seed)
    assert max(Counter(case.world_size for case in outcome.results).values()) <= 12
    assert max(Counter(case.batch for case in outcome.results).values()) <= 12
