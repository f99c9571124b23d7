"""The console report: every figure of a finished result, at any width, with and without colour, terminal or not.

Oracle: golden texts that were read by a person, and the fields of the result itself. Can see: figures that are lost,
layout that breaks, markup or escape codes from outside that get through, output lost on Ctrl-C.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from siglip_verify.case import Case
from siglip_verify.report import ConsoleListener, render
from siglip_verify.report.headline import headline
from siglip_verify.result import Report
from siglip_verify.run.events import CaseJudged, CellDone, Counting, Event, LossDone, LossStarted, RunDone, RunStarted
from siglip_verify.run.settings import settings

from . import samples
from .golden import assert_golden

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Screen(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def printed(report: Report, width: int, **options: object) -> str:
    file = io.StringIO()
    render(report, Console(file=file, width=width, _environ={}, **options))  # type: ignore[arg-type]
    return file.getvalue()


def happened(report: Report) -> list[Event]:
    """List the events of a run that would have had this result."""
    events: list[Event] = [RunStarted(settings(world_sizes="1-4", seed=0))]
    for loss in report.losses:
        events.append(LossStarted(loss.name, 25 * len(loss.cells)))
        for cell in loss.cells:
            case = Case(exchange=cell.exchange, world_size=cell.world_size)
            shares = (samples.text_share(0.25 if cell.verdict == "pass" else 4.1e14),)
            result = samples.CaseResult(case=case, verdict=cell.verdict, shares=shares)
            events += [CaseJudged(loss.name, result, shrinking=False), CellDone(loss.name, cell, 25)]
        events += [Counting(loss.name, "bidir", 2), LossDone(loss)]
    return [*events, RunDone(report)]


def ticks() -> Iterable[float]:
    return itertools.count(0, 0.5)


def logged(events: Iterable[Event], console: Console) -> None:
    clock = iter(ticks())
    with ConsoleListener(console, clock=lambda: next(clock)) as listener:
        for event in events:
            listener(event)


# ------------------------------------------------------------------ the finished result
@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("name", ["passing", "mismatching", "unjudged"])
def test_the_report_reads_as_it_was_approved(name: str, width: int) -> None:
    text = printed(getattr(samples, name)(), width)
    assert not ESCAPE.search(text)
    assert_golden(f"{name}-{width}.txt", text)


@pytest.mark.parametrize("width", [80, 160])
def test_colour_adds_nothing_but_colour(width: int) -> None:
    coloured = printed(samples.mismatching(), width, force_terminal=True, color_system="standard")
    assert_golden(f"mismatching-{width}-colour.txt", coloured)
    assert ESCAPE.sub("", coloured) == printed(samples.mismatching(), width, force_terminal=True, color_system=None)


def test_a_terminal_breaks_the_verdict_between_words_and_a_log_not_at_all() -> None:
    on_terminal = printed(samples.passing(), 60, force_terminal=True, color_system=None).splitlines()
    assert on_terminal[:2] == [
        "PASS: 2 losses equal one device in 4 exchanges: 640 cases, W",
        "= 1..4; 2 of 2 planted bugs caught",
    ]
    assert printed(samples.passing(), 60).splitlines()[0] == str(headline(samples.passing()))


def test_no_color_is_respected_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Screen()
    monkeypatch.setenv("NO_COLOR", "1")
    render(samples.mismatching(), Console(file=file, width=80))
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", file.getvalue())


def test_the_first_line_is_the_verdict_in_words() -> None:
    first = printed(samples.passing(), 80).splitlines()[0]
    assert first == str(headline(samples.passing()))


def test_no_line_of_a_table_is_wider_than_eighty_columns() -> None:
    for report in (samples.passing(), samples.mismatching(), samples.unjudged()):
        long = [line.rstrip() for line in printed(report, 80).splitlines() if len(line.rstrip()) > 80]
        said = str(headline(report))
        assert [line for line in long if "siglip-verify replay" not in line and line != said] == []


def test_the_replay_line_stands_whole_on_one_line() -> None:
    replay = samples.mismatching().counterexamples[0].replay
    assert replay in [line.strip() for line in printed(samples.mismatching(), 40).splitlines()]


def test_every_figure_of_the_worst_quantity_is_shown() -> None:
    worst = samples.text_share()
    text = printed(samples.mismatching(), 80)
    for figure in (repr(worst.expected), repr(worst.observed), repr(worst.bound), "[0, 0]", "4.1e14", "text gradient"):
        assert figure in text


def test_what_is_long_is_cut_and_the_cut_is_said() -> None:
    text = printed(samples.large(), 80)
    assert "9,980 more like these, in report.json" in text
    assert "980 more like these, in report.json" in text
    assert len(text) < 1 << 18
    assert "... 12 lines left out" in printed(samples.unjudged(), 80)


def test_text_from_outside_is_printed_as_it_is() -> None:
    text = printed(samples.hostile(), 200, force_terminal=True, color_system="standard")
    assert "[bold red]x[/] [/nope]" in ESCAPE.sub("", text)
    assert "\\x1b[31mred\\x1b[0m \\x00 \\u202e" in ESCAPE.sub("", text)
    assert "\x00" not in text
    assert "\u202e" not in text


def test_a_console_that_has_only_ascii_shows_the_rest_as_escapes() -> None:
    binary = io.BytesIO()
    file = io.TextIOWrapper(binary, encoding="ascii", newline="\n")
    render(samples.hostile(), Console(file=file, width=80))
    file.flush()
    assert rb"\u6570" in binary.getvalue()


@given(report=samples.reports(), width=st.integers(40, 200), colour=st.booleans())
@samples.ANY_RESULT
def test_any_result_can_be_printed_at_any_width(report: Report, width: int, colour: bool) -> None:
    options = {"force_terminal": True, "color_system": "truecolor"} if colour else {}
    text = printed(report, width, **options)
    assert report.verdict.upper() in text.splitlines()[0]
    assert not [char for char in ESCAPE.sub("", text) if char != "\n" and not char.isprintable()]


# ------------------------------------------------------------------ while it runs
def test_a_log_has_one_line_for_each_cell_and_then_the_report() -> None:
    file = io.StringIO()
    console = Console(file=file, width=80, _environ={})
    logged(happened(samples.mismatching()), console)
    render(samples.mismatching(), console)
    assert not ESCAPE.search(file.getvalue())
    assert_golden("log-80.txt", file.getvalue())


def test_a_terminal_shows_what_is_under_way_and_leaves_nothing_of_it() -> None:
    file = Screen()
    console = Console(file=file, width=80, height=40, force_terminal=True, color_system=None, _environ={})
    events = happened(samples.passing())
    *before, done = events
    cut = next(
        index for index, event in enumerate(before) if isinstance(event, CellDone) and event.cell.world_size == 3
    )
    with ConsoleListener(console, clock=lambda: 12.0) as listener:
        for event in before[:cut]:
            listener(event)
        listener._live.refresh()  # type: ignore[union-attr]  # what the refreshing thread would do by then
        picture = file.getvalue()
        for event in before[cut:]:
            listener(event)
        listener(done)
    assert "bidir, W = 3" in picture
    assert "51 of at most 400 cases" in picture
    assert "worst text gradient, 0.250 of its bound" in picture
    end = file.getvalue()
    assert end.rindex("\x1b[?25h") > end.rindex("\x1b[?25l"), "the cursor is left hidden"
    erased = end[end.rindex("\x1b[?25h") :]
    assert ESCAPE.sub("", erased).strip() == ""
    assert erased.count("\x1b[2K") == len(samples.passing().losses), "a line of the picture is left"


@pytest.mark.parametrize("is_terminal", [False, True])
def test_ctrl_c_leaves_what_was_found_until_then(is_terminal: bool) -> None:
    file = Screen() if is_terminal else io.StringIO()
    console = Console(file=file, width=80, height=40, force_terminal=is_terminal, color_system=None, _environ={})
    smaller = samples.counterexample().result
    seen = [*happened(samples.mismatching())[:6], CaseJudged("my_loss.py:Loss", smaller, shrinking=True)]

    def interrupted() -> None:
        with ConsoleListener(console, clock=lambda: 12.0) as listener:
            for event in seen:
                listener(event)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    text = file.getvalue()
    assert "Broken off after 0.00 s: 2 cases judged, no verdict on the rest" in text
    assert "Fails, not shrunk to the end: bidir at W = 2" in text
    assert "unmatched-send" in text, "the smaller case replaces the first one"
    assert re.search(r"^  bidir     2     20 .* mismatch", text, re.MULTILINE)
    assert "PASS" not in text


def test_a_larger_world_that_fails_too_does_not_replace_the_shrunk_case() -> None:
    file = io.StringIO()
    shrunk = samples.counterexample().result
    larger = samples.CaseResult(case=Case(world_size=4, batch=7), verdict="mismatch", shares=(samples.text_share(9.9),))
    with ConsoleListener(Console(file=file, width=80, _environ={})) as listener:
        listener(LossStarted("a", 10))
        for result, shrinking in ((shrunk, False), (shrunk, True), (larger, False), (larger, True)):
            listener(CaseJudged("a", result, shrinking=shrinking))
    assert file.getvalue().count("Fails, not shrunk to the end: bidir at W = 2") == 1
    assert "to the end: bidir at W = 4" not in file.getvalue()
