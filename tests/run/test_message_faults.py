"""Faults planted in what is sent, each found by its name through the whole check, and what cannot be judged, said.

Oracle: what was planted. Sees: a finding that has another name or none, that is lost on its way to the console or the
JSON report, or that a hang hides; a verdict of pass that rests on a record that is not whole.
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from siglip_verify.adapt import LossSpec
from siglip_verify.case import Case
from siglip_verify.report import dump, load, render
from siglip_verify.result import Report
from siglip_verify.run.counting import count_step
from siglip_verify.run.judge import CaseJudge
from siglip_verify.run.limits import load_traits
from siglip_verify.run.whole import check
from siglip_verify.world import Worlds

pytestmark = [pytest.mark.xdist_group("check"), pytest.mark.usefixtures("warm")]
BROKEN = Path(__file__).with_name("broken_messages.py")
TIMEOUT_S = 4


def checked(name: str, world_sizes: str = "2", examples: int = 3) -> Report:
    return check(
        f"{BROKEN}:{name}",
        exchanges=["shift"],
        world_sizes=world_sizes,
        examples=examples,
        seed=1,
        timeout_s=TIMEOUT_S,
    )


def on_console(report: Report) -> str:
    out = io.StringIO()
    render(report, Console(file=out, width=120, color_system=None))
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("DroppedReceive", "unmatched-send"),
        ("OtherSize", "size-differs"),
        ("OtherDtype", "dtype-differs"),
        ("SwappedOrder", "collective-order"),
        ("SelfSend", "self-send"),
        ("NarrowWire", "narrow-wire"),
    ],
)
def test_a_planted_fault_is_a_mismatch_and_is_found_by_name(name: str, finding: str) -> None:
    report = checked(name)
    assert report.verdict == "mismatch"
    for read in (report, load(dump(report))):
        (found,) = read.counterexamples
        assert finding in {each.name for each in found.result.findings}
    assert finding in on_console(report)


def test_a_loss_that_hangs_is_not_shrunk_and_hangs_no_more_than_twice() -> None:
    report = checked("DroppedReceive", world_sizes="2-5")
    (found,) = report.counterexamples
    assert found.calls == 0
    assert [cell.verdict for cell in report.losses[0].cells] == ["mismatch", "mismatch", "unknown", "unknown"]
    assert "2 cases of shift hung" in report.losses[0].cells[-1].note


def test_a_fault_that_only_the_counted_step_shows_is_a_mismatch_that_can_be_replayed() -> None:
    report = checked("NarrowWhenLarge")
    (loss,) = report.losses
    assert [cell.verdict for cell in loss.cells] == ["pass"]
    assert report.verdict == loss.verdict == "mismatch"
    (found,) = loss.counterexamples
    assert {finding.name for finding in found.result.findings} == {"narrow-wire"}
    assert "shift W=2 b=8 d=64 dtype=float32" in found.replay


def test_a_finding_is_a_mismatch_where_the_numbers_are_right(worlds: Worlds) -> None:
    spec = LossSpec(target=f"{BROKEN}:OtherDtype")
    judge = CaseJudge(worlds, spec, load_traits(worlds, spec))
    result = judge(Case(exchange="shift", world_size=2, batch=2, dim=3, frozen="text"))
    assert max(share.share for share in result.shares) <= 1
    assert ({finding.name for finding in result.findings}, result.verdict) == ({"dtype-differs"}, "mismatch")


def test_an_operation_that_the_recorder_does_not_know_is_said() -> None:
    report = checked("UnknownOperation")
    (loss,) = report.losses
    assert report.verdict == "pass"
    assert [left.what for left in loss.left_out if "unknown" in left.what] == ["unknown-operation c10d::mystery_"]
    assert "unknown-operation c10d::mystery_" in on_console(report)
    assert "1 unknown" in loss.messages[0].operations


def test_a_log_that_overflows_is_no_pass_and_is_said_plainly() -> None:
    report = checked("Chatty", world_sizes="1", examples=1)
    assert report.verdict == "unknown"
    (failure,) = report.unknowns[0].failures
    assert failure.detail == (
        "LogOverflowError: a step posts at most 4,095 operations a rank to be counted whole; got 5,000: send fewer and "
        "larger messages, or check a smaller batch"
    )
    assert report.unknowns[0].shares, "the numbers were judged all the same"
    assert "got 5,000" in on_console(report)


def test_a_step_that_does_not_end_shows_what_was_posted_by_then(
    worlds: Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = LossSpec(target=f"{BROKEN}:DroppedReceive")
    monkeypatch.setattr(worlds, "timeout_s", TIMEOUT_S)
    counted = count_step(worlds, spec, load_traits(worlds, spec), Case(exchange="shift", batch=2, dim=3))
    assert counted.verdict == "mismatch"
    assert [(event.rank, event.kind) for event in counted.events] == [(0, "send"), (1, "send"), (1, "recv")]
    assert {failure.kind for failure in counted.failures} == {"hung"}
    assert counted.wire is None
