"""What weaker checkers would have missed of the known bugs: the same check, each looking at less.

Here: what each looks at, and the bugs that it lets pass. Not here: the check itself (`judge`), whether the check as it
stands catches them (`catalogue`). A weaker checker has as many cases, the same judge and the same bounds: but for what
its name says it is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from siglip_verify.bugs.verdict import beyond_bound
from siglip_verify.case import Case, Exchange
from siglip_verify.records import CaseResult
from siglip_verify.result import BugResult, WeakerChecker
from siglip_verify.run.judge import CaseJudge
from siglip_verify.run.search import Outcome, search
from siglip_verify.run.strategies import Dimensions, cases_of


def _fails(result: CaseResult) -> bool:
    return result.verdict != "pass"


def _loss_fails(result: CaseResult) -> bool:
    return bool(result.failures) or "loss" in beyond_bound(result)


@dataclass(frozen=True)
class _Weakness:
    """How a checker is weaker than ours.

    Attributes:
        looks_at: What it looks at, in words.
        narrower: What its cases are drawn from, where ours have these dimensions.
        world_sizes: Its W; empty for ours.
        sees: Whether it sees that a case is wrong.
    """

    looks_at: str
    narrower: Mapping[str, object] = field(default_factory=dict[str, object])
    world_sizes: tuple[int, ...] = ()
    sees: Callable[[CaseResult], bool] = _fails


WEAKER = {
    "loss only": _Weakness("the loss and no gradient, on the full range of cases", sees=_loss_fails),
    "W = 2 only": _Weakness("everything, at two ranks alone", world_sizes=(2,)),
    "b = 1 only": _Weakness("everything, with one row a rank", {"max_batch": 1}),
    "equal data on all ranks": _Weakness(
        "everything, every rank holding the same rows", {"features": ("equal-on-all-ranks",)}
    ),
    "initial scale and bias only": _Weakness("everything, at t = 10, c = -10 alone", {"regimes": ((10.0, -10.0),)}),
}


def missed_by(
    judge: CaseJudge,
    exchanges: Sequence[Exchange],
    world_sizes: Sequence[int],
    of: Dimensions,
    *,
    examples: int,
    seed: int,
) -> Iterable[str]:
    """Name the weaker checkers that see nothing wrong with a loss.

    Args:
        judge: Judges the loss.
        exchanges: Those of the loss.
        world_sizes: Of cases, but where a checker looks at others.
        of: What else of cases is drawn from, but where a checker looks at less.
        examples: How many cases each has.
        seed: Where the draws start.
    """
    for name, weakness in WEAKER.items():
        outcome = Outcome()

        def watch(case: Case, sees: Callable[[CaseResult], bool] = weakness.sees) -> CaseResult:
            result = judge(case)
            return msgspec.structs.replace(result, verdict="mismatch" if sees(result) else "pass")

        narrower = msgspec.structs.replace(of, **weakness.narrower)
        strategy = cases_of(exchanges, weakness.world_sizes or world_sizes, narrower)
        search(strategy, watch, outcome, examples=examples, seed=seed, shrink=False)
        if outcome.first is None:
            yield name


def weaker_checkers(found: Iterable[BugResult]) -> Iterable[WeakerChecker]:
    """Count for each weaker checker what it misses, of the bugs that show in numbers."""
    numeric = [bug for bug in found if bug.quantities]
    for name, weakness in WEAKER.items():
        missed = tuple(bug.id for bug in numeric if name in bug.missed_by)
        yield WeakerChecker(name=name, looks_at=weakness.looks_at, of=len(numeric), missed=missed)
