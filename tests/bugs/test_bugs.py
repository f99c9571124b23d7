"""Every planted bug on real processes: it shows where its entry says, in the quantities it says, and nowhere else.

The oracle is the single-device reference, through the check as it stands (`run.judge`). This sees a plant that does
not plant, an entry that promises too much or too little, a control that is not right; and, as a control is the plants'
own correct code, a check that rejects everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec
import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify import features
from siglip_verify.bugs import CATALOGUE, CONTROLS, Bug, Control
from siglip_verify.case import Case, Exchange
from siglip_verify.records import CaseResult
from siglip_verify.run.judge import CaseJudge
from siglip_verify.run.loss_run import load_traits
from siglip_verify.world import Worlds

WORLD_SIZES = (1, 2, 3, 4)
LARGER = (5, 6)
CHUNKED_WORLD_SIZES = (1, 2, 3)
TRIES = 5  # of a race

Judge = Callable[[Bug | Control, Case], CaseResult]

NUMERIC = [bug for bug in CATALOGUE.values() if bug.outcomes in (("mismatch",), ("memory",))]
OVERWRITING = [bug for bug in CATALOGUE.values() if bug.outcomes == ("input",)]
FATAL = [bug for bug in CATALOGUE.values() if bug not in NUMERIC + OVERWRITING]


@pytest.fixture(scope="session")
def judge(worlds: Worlds) -> Judge:
    """Judge a case of a planted loss or a control on worlds that stay warm."""
    judges: dict[str, CaseJudge] = {}

    def of(entry: Bug | Control, case: Case) -> CaseResult:
        if entry.id not in judges:
            judges[entry.id] = CaseJudge(worlds, entry.spec, load_traits(worlds, entry.spec))
        return judges[entry.id](case)

    return of


def must_show(bug: Bug, case: Case) -> bool:
    """Tell whether a case is a mismatch; an upstream gradient that was drawn as 1 on every rank hides its neglect."""
    is_one = set(features.draw(case).upstream) == {1.0}
    hidden = bug.where.upstream is not None and is_one
    return bug.where.holds(case) and not hidden and bug.outcomes == ("mismatch",)


def wrong(result: CaseResult) -> set[str]:
    return {share.quantity for share in result.shares if not share.share <= 1}


def assert_shows_or_passes(judge: Judge, bug: Bug, case: Case) -> None:
    """Assert that a case is a mismatch in exactly the quantities declared, or passes where it should."""
    shows = must_show(bug, case)
    result = judge(bug, case)
    tries = 1
    while shows and bug.is_race and result.verdict == "pass" and tries < TRIES:
        result, tries = judge(bug, case), tries + 1
    assert result.verdict == ("mismatch" if shows else "pass"), f"{case}: {result}"
    assert wrong(result) == (set(bug.quantities) if shows else set()), f"{case}: {result.shares}"
    far = [share.share for share in result.shares if share.share > 1]
    assert all(share > 10 for share in far), f"{case}: {result.shares}"


def cases_by_world_size(bug: Bug) -> Iterator[Case]:
    """Yield an example at each W, for the first exchange; for the others at one."""
    for exchange in bug.exchanges:
        for world_size in world_sizes_of(bug) if exchange == bug.exchanges[0] else (3,):
            yield bug.where.example(exchange, world_size)


def world_sizes_of(bug: Bug) -> Sequence[int]:
    return WORLD_SIZES if bug.where.chunk == "any" else CHUNKED_WORLD_SIZES


def cases_with_one_condition_changed(bug: Bug) -> Iterator[Case]:
    """Yield cases around the example, at the least W; what the entry's conditions leave out among them."""
    change, where = msgspec.structs.replace, bug.where
    example = where.example(bug.exchanges[0], max(2, where.min_world_size))
    yield change(example, batch=1)
    yield change(example, layout="transposed")
    if example.world_size in CHUNKED_WORLD_SIZES:
        yield change(example, chunk_size=2)
    if where.chunk != "any":
        yield from (change(example, chunk_size=chunk_size) for chunk_size in (0, 1, 3))
    if where.layouts is not None:
        yield from (change(example, layout=layout) for layout in ("contiguous", "strided"))
    if where.dtypes is not None and where.features is None:
        yield from (change(example, dtype=dtype) for dtype in ("float64", "float32", "bfloat16"))
    if where.upstream is not None:
        yield from (
            change(example, upstream=each) for each in ("one", "by-rank") if each != "by-rank" or not bug.same_upstream
        )
    if where.calls is not None:
        yield change(example, call="first")
    if where.features is not None:
        yield change(example, features="random", scale=Case().scale, bias=Case().bias)


@pytest.mark.parametrize("bug", NUMERIC, ids=lambda bug: bug.id)
def test_a_bug_shows_at_the_world_sizes_and_in_the_quantities_that_it_says(judge: Judge, bug: Bug) -> None:
    for case in cases_by_world_size(bug):
        assert_shows_or_passes(judge, bug, case)


@pytest.mark.long
@pytest.mark.parametrize("world_size", LARGER)
@pytest.mark.parametrize("bug", [bug for bug in NUMERIC if bug.where.chunk == "any"], ids=lambda bug: bug.id)
def test_it_shows_likewise_at_more_ranks(judge: Judge, bug: Bug, world_size: int) -> None:
    assert_shows_or_passes(judge, bug, bug.where.example(bug.exchanges[0], world_size))


@pytest.mark.parametrize("bug", NUMERIC, ids=lambda bug: bug.id)
def test_a_bug_shows_under_the_conditions_that_it_says_and_no_others(judge: Judge, bug: Bug) -> None:
    for case in cases_with_one_condition_changed(bug):
        assert_shows_or_passes(judge, bug, case)


@examples(40)
@given(
    bug=st.sampled_from([bug for bug in NUMERIC if not bug.is_race]),
    batch=st.integers(1, 5),
    dim=st.integers(4, 12),
    seed=st.integers(0, (1 << 32) - 1),
    data=st.data(),
)
def test_a_bug_shows_at_any_batch_and_seed(
    judge: Judge, bug: Bug, batch: int, dim: int, seed: int, data: st.DataObject
) -> None:
    exchange, world_size = data.draw(st.sampled_from(bug.exchanges)), data.draw(st.sampled_from(world_sizes_of(bug)))
    example = bug.where.example(exchange, world_size)
    case = msgspec.structs.replace(example, batch=batch, dim=dim, seed=seed)
    shows = must_show(bug, case)
    result = judge(bug, case)
    assert result.verdict == ("mismatch" if shows else "pass"), f"{case}: {result}"
    assert wrong(result) <= set(bug.quantities)


@pytest.mark.parametrize("bug", OVERWRITING, ids=lambda bug: bug.id)
def test_a_bug_that_overwrites_its_input_shows_in_that_alone(judge: Judge, bug: Bug) -> None:
    for case in cases_by_world_size(bug):
        result = judge(bug, case)
        assert wrong(result) == set()
        named = {finding.name for finding in result.findings}
        assert named == ({"input-changed"} if bug.where.holds(case) else set()), f"{case}: {result}"


@pytest.mark.parametrize("bug", FATAL, ids=lambda bug: bug.id)
def test_a_fatal_bug_ends_its_ranks_as_it_says(
    judge: Judge, worlds: Worlds, monkeypatch: pytest.MonkeyPatch, bug: Bug
) -> None:
    case = bug.where.example(bug.exchanges[0], max(2, bug.where.min_world_size))
    assert judge(CONTROLS["parts"], case).verdict == "pass"  # and every rank has imported what it needs
    monkeypatch.setattr(worlds, "timeout_s", 3.0)
    result = judge(bug, case)
    assert result.verdict != "pass", result
    blamed = [failure for failure in result.failures if failure.blamed]
    kinds = {failure.kind for failure in blamed or result.failures}  # where all wait for each other, none is blamed
    assert kinds <= set(bug.outcomes), result.failures
    assert kinds or "mismatch" in bug.outcomes, result


@pytest.mark.parametrize("bug", FATAL, ids=lambda bug: bug.id)
def test_a_fatal_bug_is_right_below_its_world_size(judge: Judge, bug: Bug) -> None:
    for world_size in range(1, bug.where.min_world_size):
        assert judge(bug, bug.where.example(bug.exchanges[0], world_size)).verdict == "pass"


@pytest.mark.parametrize("control", CONTROLS.values(), ids=lambda control: control.id)
def test_a_control_is_right_at_every_world_size(judge: Judge, control: Control) -> None:
    for world_size in CHUNKED_WORLD_SIZES if control.id == "chunk-of-one" else WORLD_SIZES:
        result = judge(control, Case(world_size=world_size, batch=3, dim=8))
        assert result.verdict == "pass", result


@pytest.mark.parametrize("control", CONTROLS.values(), ids=lambda control: control.id)
@pytest.mark.parametrize(
    "case",
    [
        Case(batch=4, dim=5, dtype="bfloat16", scale=10.0, bias=-10.0, upstream="scaled"),
        Case(batch=2, dim=1, dtype="float32", scale=120.0, bias=-60.0, features="orthogonal"),
        Case(batch=1, dim=3, features="unnormalized", seed=7),
    ],
    ids=["bfloat16 at the start of training", "float32 saturating", "one row, far out"],
)
def test_a_control_is_right_in_other_dtypes_and_regimes(judge: Judge, control: Control, case: Case) -> None:
    result = judge(control, msgspec.structs.replace(case, world_size=3))
    assert result.verdict == "pass", result


@pytest.mark.parametrize("exchange", ["bidir", "shift", "reduce", "gather"])
@pytest.mark.parametrize("chunk_size", [1, 2, 3, 5, 7])
def test_the_parts_of_the_plants_are_right_in_every_exchange_and_chunk_size(
    judge: Judge, exchange: Exchange, chunk_size: int
) -> None:
    case = Case(exchange=exchange, world_size=3, batch=5, dim=4, chunk_size=chunk_size, upstream="by-rank")
    assert judge(CONTROLS["parts"], case).verdict == "pass"
