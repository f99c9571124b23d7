"""The search for a counterexample: Hypothesis draws cases, and shrinks the first that fails.

Here: what is done with each verdict while searching. Not here: what a verdict rests on (`judge`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import hypothesis
import msgspec
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis.errors import Flaky
from hypothesis.strategies import SearchStrategy

from siglip_verify.case import Case
from siglip_verify.records import CaseResult

Judge = Callable[[Case], CaseResult]


class Outcome(msgspec.Struct, kw_only=True):
    """What a search found.

    Attributes:
        results: Distinct cases judged before shrinking began, in order.
        first: The first case that failed, as drawn.
        smallest: The case that shrinking ended on.
        shrink_calls: Cases tried after the first failure.
        reproducible: False if a failing case passed when it was run again.
    """

    results: dict[Case, CaseResult] = msgspec.field(default_factory=dict)
    first: CaseResult | None = None
    smallest: CaseResult | None = None
    shrink_calls: int = 0
    reproducible: bool = True


class _MismatchFoundError(Exception):
    """Tells Hypothesis that a case failed."""


class _SearchEndedError(BaseException):  # not an Exception: Hypothesis would shrink it
    """A case failed that ended only with its deadline: to shrink it would take as long again for each try."""


def hung(result: CaseResult) -> bool:
    """Tell whether a case ended only with its deadline."""
    return any(failure.kind in ("hung", "stopped") for failure in result.failures)


def search(
    strategy: SearchStrategy[Case], judge: Judge, outcome: Outcome, *, examples: int, seed: int, shrink: bool = True
) -> None:
    """Judge cases until one is a mismatch, and shrink that one, as long as no case hangs.

    A case that comes to no judgement (unknown) is not a failure to Hypothesis, so it is never shrunk; `judge` may end
    the search from inside by raising something that is not an Exception. What was found by then is in `outcome`.

    Args:
        strategy: Where cases come from.
        judge: Judges one case.
        outcome: Filled while the search goes on.
        examples: How many cases to judge at most.
        seed: Where the draws start; the same seed gives the same cases.
        shrink: Whether to look for the smallest failing case.
    """

    @hypothesis.seed(seed)
    @settings(
        max_examples=examples,
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        database=None,
        deadline=None,
        derandomize=False,
        report_multiple_bugs=False,
        print_blob=False,
        suppress_health_check=tuple(HealthCheck),  # pyright: ignore[reportArgumentType]
    )
    @given(strategy)
    def every_case_passes(case: Case) -> None:
        if outcome.first is None:
            assume(case not in outcome.results)  # a case that was judged before does not count again
        result = judge(case)
        if outcome.first is None:
            outcome.results[case] = result
        else:
            outcome.shrink_calls += 1
        if result.verdict == "mismatch":
            outcome.first = outcome.first or result
            outcome.smallest = result
            if hung(result):
                raise _SearchEndedError
            raise _MismatchFoundError

    try:
        with contextlib.suppress(_MismatchFoundError, _SearchEndedError):
            every_case_passes()
    except Flaky:  # a race: it failed, and did not when run again
        outcome.reproducible = False
