"""The report on one step's messages, as text.

Oracle: golden texts that were looked at, and the record itself. Sees: a figure under the wrong name, a finding that is
not shown, a table that breaks with many ranks, text from outside that steers the terminal.
"""

from __future__ import annotations

import io

import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from siglip_verify.report import render_messages
from siglip_verify.report.messages import ROWS_SHOWN, headline, hops
from siglip_verify.result import MessageReport, StepMessages

from . import steps
from .golden import assert_golden


def shown(report: MessageReport, width: int = 100) -> str:
    out = io.StringIO()
    render_messages(report, Console(file=out, width=width, color_system=None))
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("name", ["passing", "mismatching"])
def test_the_report_reads_as_it_was_looked_at(name: str, width: int) -> None:
    assert_golden(f"messages-{name}-{width}.txt", shown(getattr(steps, name)(), width))


def test_a_collective_of_all_ranks_is_one_row_a_hop() -> None:
    forward, backward = hops(steps.step("reduce", 4))
    for table in (forward, backward):
        assert [row[1].text for row in table.rows] == ["4 ranks"] * 4
        assert [row[2].text for row in table.rows] == ["all_reduce"] * 4


def test_a_finding_in_another_exchange_is_shown_and_decides_the_verdict() -> None:
    broken = steps.mismatching().step
    beside = steps.report(steps.step("bidir", 2), wrong_beside=(broken,))
    assert beside.verdict == "mismatch"
    assert headline(beside) == "MISMATCH: unmatched-send in shift; 8 operations recorded in one step of bidir at W = 2"
    assert "unmatched-send: rank 0: send to rank 1" in shown(beside)


def test_a_step_that_did_not_end_is_unknown_and_says_which() -> None:
    broken = steps.mismatching().step
    report = steps.report(StepMessages(case=broken.case, events=(), wire=None, failures=broken.failures))
    assert (
        headline(report) == "UNKNOWN: shift at W = 2 did not end; 0 operations recorded in one step of shift at W = 2"
    )
    assert "no answer after 5 s" in shown(report)


@pytest.fixture(scope="module")
def hostile() -> str:
    return shown(steps.hostile())


def test_many_ranks_and_hops_are_cut_and_the_cut_is_said(hostile: str) -> None:
    text = hostile
    assert "38 more hops, in messages.jsonl" in text
    assert "28 more ranks, in messages.jsonl" in text
    assert all(len(table.rows) <= ROWS_SHOWN for table in hops(steps.step("shift", 40)))


def test_no_text_from_outside_reaches_the_terminal_as_it_is(hostile: str) -> None:
    assert not {"\x1b", "\x00", "\u202e"} & set(hostile)


@examples(20)
@given(step=steps.steps(), width=st.integers(40, 200))
def test_any_step_can_be_shown_and_every_operation_is_in_its_hops(step: StepMessages, width: int) -> None:
    text = shown(steps.report(step), width)
    assert text.startswith("PASS" if not step.findings else "MISMATCH")
    tables = hops(step)
    assert len(tables) == len({event.phase for event in step.events})
    for table in tables:
        assert all(len(row) == len(table.columns) for row in table.rows)
