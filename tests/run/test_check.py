"""The whole run on losses that are broken in known ways, and on ours.

Oracle: what was broken. Sees: a verdict that is wrong, a counterexample that is not the smallest, an outcome that
names the wrong rank, a process or folder left behind.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from siglip_verify import LossSpec
from siglip_verify.adapt import LossSpecError
from siglip_verify.records import CaseResult
from siglip_verify.run.events import CaseJudged, CellDone, LossDone, RunDone, RunStarted
from siglip_verify.run.settings import SettingsError
from siglip_verify.run.whole import check

pytestmark = [pytest.mark.xdist_group("check"), pytest.mark.usefixtures("warm")]
BROKEN = Path(__file__).with_name("broken.py")


def path_of(name: str) -> str:
    return f"{BROKEN}:{name}"


def test_our_loss_passes_and_every_cell_is_filled() -> None:
    events: list[object] = []
    report = check("siglip_verify.loss:SigLipLoss", world_sizes="1-4", examples=12, seed=1, listener=events.append)
    (loss,) = report.losses
    assert report.verdict == loss.verdict == "pass"
    assert {(cell.exchange, cell.world_size) for cell in loss.cells} == {
        (exchange, world_size) for exchange in ("bidir", "shift", "reduce", "gather") for world_size in range(1, 5)
    }
    assert report.cases == sum(cell.cases for cell in loss.cells) == 4 * (1 + 4 + 4 + 4)
    assert all(0 < worst.share <= 1 for cell in loss.cells for name, worst in cell.worst.items() if name == "text_grad")
    for cell in loss.cells:
        assert sum(of.cases for of in cell.by_dtype.values()) == cell.cases
        for name, worst in cell.worst.items():
            assert max(of.worst[name] for of in cell.by_dtype.values() if name in of.worst) == worst.share
    assert [type(event) for event in (events[0], events[-2], events[-1])] == [RunStarted, LossDone, RunDone]
    assert sum(isinstance(event, CaseJudged) for event in events) == report.cases
    assert sum(isinstance(event, CellDone) for event in events) == len(loss.cells)
    assert all(row.counted_messages == row.planned_messages for row in loss.messages)
    assert len(loss.messages) == len(loss.cells)


def test_the_same_seed_gives_the_same_cases() -> None:
    drawn: list[list[str]] = []
    for _ in range(2):
        cases: list[str] = []

        def note(event: object, cases: list[str] = cases) -> None:
            if isinstance(event, CaseJudged):
                cases.append(str(event.result.case))

        check("siglip_verify.loss:SigLipLoss", exchanges=["shift"], world_sizes="2", examples=12, seed=5, listener=note)
        drawn.append(cases)
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 12


@pytest.mark.parametrize(("name", "world_size"), [("WithoutLastHop", 2), ("ForwardingSwapped", 4)])
def test_a_broken_bidir_shrinks_to_its_smallest_case(name: str, world_size: int) -> None:
    report = check(path_of(name), exchanges=["bidir"], world_sizes="1-5", examples=40, seed=2)
    (found,) = report.counterexamples
    case = found.result.case
    assert report.verdict == "mismatch"
    assert (case.world_size, case.batch, case.dim) == (world_size, 1, 1)
    assert found.replay.startswith("siglip-verify replay 'bidir ")
    assert found.replay.endswith(f" --loss {path_of(name)}")
    failing = {cell.world_size for cell in report.losses[0].cells if cell.verdict == "mismatch"}
    assert failing == ({2, 4} if name == "WithoutLastHop" else {4, 5})


@pytest.mark.parametrize(("name", "size"), [("WholeTilesAlone", "b=17"), ("SixteenDimensions", "d=40")])
def test_what_shows_in_larger_cases_alone_is_found(name: str, size: str) -> None:
    report = check(path_of(name), exchanges=["gather"], world_sizes="1-2", examples=60, seed=1)
    assert report.verdict == "mismatch"
    assert f" {size} " in report.counterexamples[0].replay


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("Killed", "died", "SIGKILL"),
        ("Sleeping", "hung", "time.sleep"),
        ("Raising", "raised", "the deliberate error"),
    ],
)
def test_a_rank_that_fails_is_named_with_what_happened(name: str, kind: str, words: str) -> None:
    started = time.monotonic()
    report = check(path_of(name), timeout_s=3, seed=1, examples=20)
    assert time.monotonic() - started < 60
    assert report.verdict == "unknown"
    assert report.counterexamples == ()
    assert len(report.unknowns) == 2, "the second case without judgement ends the exchange, and then the loss"
    for unknown in report.unknowns:
        assert_names_rank_one(unknown, kind, words)
    assert {cell.verdict for cell in report.losses[0].cells if cell.world_size > 1} == {"unknown"}


def assert_names_rank_one(unknown: CaseResult, kind: str, words: str) -> None:
    blamed = [failure for failure in unknown.failures if failure.blamed]
    assert [(failure.rank, failure.kind) for failure in blamed] == [(1, kind)]
    assert words in blamed[0].detail + blamed[0].traceback


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere.py:Loss", r"no such file: .*nowhere.py"),
        ("nowhere", r"MODULE:ATTRIBUTE or FILE.py:ATTRIBUTE.*got 'nowhere'"),
        ("no_such_module_anywhere:Loss", r"importing no_such_module_anywhere raised ModuleNotFoundError"),
        (path_of("Nothing"), r"has no attribute 'Nothing'; it has .*WithoutLastHop"),
        (path_of("number"), r"is a int"),
        (path_of("NoLoss"), r"NoLoss\(rank=0, world_size=\d, dist_impl='bidir'\) raised KeyError: 'no such setting'"),
        (path_of("NotScalar"), r"must return one float number; it returned shape \(3,\)"),
    ],
)
def test_a_loss_that_cannot_be_used_is_an_error_that_says_why(target: str, message: str) -> None:
    with pytest.raises(LossSpecError, match=message):
        check(target, world_sizes="1-2", examples=2)


def test_an_argument_that_a_loss_does_not_take_is_named() -> None:
    with pytest.raises(LossSpecError, match=r"takes no argument 'colour'; it takes cache_labels, rank"):
        check(LossSpec(args={"colour": 1}), world_sizes="1", examples=1)


@pytest.mark.parametrize(("name", "mend"), [("dist_impl", "name exchanges with --exchanges"), ("chunk_size", "leave")])
def test_an_argument_that_each_case_brings_cannot_be_declared(name: str, mend: str) -> None:
    with pytest.raises(LossSpecError, match=f"each case brings its own {name}; got {name}=2: {mend}"):
        check(LossSpec(args={name: 2}), world_sizes="1", examples=1)


@pytest.mark.parametrize("name", ["NotANumber", "WithoutGradient"])
def test_nan_and_a_missing_gradient_are_mismatches(name: str) -> None:
    report = check(path_of(name), exchanges=["shift"], world_sizes="2", examples=3, seed=1)
    assert report.verdict == "mismatch"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"exchanges": ["ring"]}, r"exchanges must be among bidir, shift, reduce, gather; got 'ring'"),
        ({"exchanges": []}, r"name at least one exchange"),
        ({"loss": []}, r"name at least one loss, or leave it out to check our own; got loss=\[\]"),
        ({"world_sizes": "0-3"}, r"world sizes must be in 1\.\.64; got \[0, 3\]"),
        ({"world_sizes": "1-999999999"}, r"world sizes must be in 1\.\.64"),
        ({"world_sizes": "4-2"}, r"goes upwards; got '4-2'"),
        ({"world_sizes": "two"}, r"numbers and ranges such as 1-8 or 2,4,8; got 'two'"),
        ({"world_sizes": []}, r"world sizes must be in"),
        ({"examples": 0}, r"examples must be at least 1.*got 0"),
        ({"profile": "quick"}, r"profile must be one of dev, ci, nightly; got 'quick'"),
        ({"timeout_s": 0}, r"timeout must be more than 0.*got 0"),
        ({"timeout_s": float("nan")}, r"timeout must be more than 0.*got nan"),
        ({"seed": -1}, r"seed must be in 0\.\.2\*\*63-1; got -1"),
    ],
)
def test_a_wrong_setting_is_named_before_any_process_starts(setting: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check(**setting)


def test_torchs_own_checks_are_refused_because_they_send_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_DISTRIBUTED_DEBUG", "detail")
    with pytest.raises(SettingsError, match=r"got TORCH_DISTRIBUTED_DEBUG=DETAIL: unset it"):
        check(world_sizes="2")


def test_open_clips_error_on_strided_text_is_a_known_limit_and_not_a_mismatch() -> None:
    report = check("open_clip", exchanges=["bidir", "gather"], world_sizes="2", examples=3, seed=1)
    assert report.verdict == "pass"
    limits = {left.what: left.why for left in report.losses[0].left_out}
    assert "input tensor has to be contiguous" in limits["strided features, bidir"]
    assert limits["strided features, gather"].startswith("accepted")
    assert "none in a subgroup" in limits["group"]
    assert "counted only" in limits["memory"]
