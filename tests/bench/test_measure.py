"""How things are compared, and what is said of it.

Oracle: medians and ratios by hand, golden text. Sees: contestants that do not take turns, a ratio upside down, a missed
requirement that passes.
"""

from __future__ import annotations

import functools
import io
import json
import math
import random
import statistics
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from siglip_verify import cli
from siglip_verify.bench.measure import (
    BenchReport,
    Comparison,
    Requirement,
    Setup,
    Traffic,
    compare,
    in_turn,
    median_interval,
    ratio,
)
from siglip_verify.bench.published import published
from siglip_verify.bench.steps import NO_SLOWER
from siglip_verify.bench.whole import BENCHES, Bench, named, run_benches
from siglip_verify.errors import UsageError
from siglip_verify.report import bench as bench_report

PAIR = ("on foot", "by bicycle")


def compared(slow: list[float], requirement: Requirement | None = None, **more: Any) -> Comparison:
    return compare(
        "walking",
        "the way to the post office",
        {"on foot": slow, "by bicycle": [2.0] * len(slow)},
        each="trip",
        ratios={PAIR: requirement},
        notes={"on foot": "uphill"},
        **more,
    )


def report(*comparisons: Comparison) -> BenchReport:
    return BenchReport(
        started_at="2026-01-02T03:04:05+00:00",
        elapsed_s=81.25,
        load=(0.5, 3.25),
        environment={"python": "3.11.9", "processors": "2"},
        comparisons=comparisons,
    )


def test_contestants_take_turns_and_places() -> None:
    order: list[str] = []

    def named(name: str) -> int:
        order.append(name)
        return len(order)

    values = in_turn({name: functools.partial(named, name) for name in "ABC"}, 5)
    assert order == [*"ABC", *"CBA", *"BCA", *"ACB", *"CAB"]
    assert values == {"A": [1, 6, 9, 10, 14], "B": [2, 5, 7, 12, 15], "C": [3, 4, 8, 11, 13]}


@given(slow=st.lists(st.floats(0.1, 1e6), min_size=2, max_size=9), seed=st.integers(0, 99))
def test_a_ratio_is_the_median_of_the_turns_ratios_in_the_order_named(slow: list[float], seed: int) -> None:
    fast = [1.0 + (seed * turn) % 7 for turn in range(len(slow))]
    made = ratio({"A": slow, "B": fast}, ("A", "B"))
    assert made.value == statistics.median(a / b for a, b in zip(slow, fast, strict=True))
    assert made.interval[0] <= made.value <= made.interval[1]
    assert made.is_met is None


def test_what_slows_a_whole_turn_down_does_not_show_in_the_ratio() -> None:
    made = ratio({"A": [2.0, 20.0, 2.0, 200.0], "B": [1.0, 10.0, 1.0, 100.0]}, ("A", "B"))
    assert (made.value, made.interval) == (2.0, (2.0, 2.0))


@pytest.mark.parametrize(("num", "left_out"), [(3, 0), (5, 0), (6, 0), (9, 1), (15, 3), (25, 7), (100, 39)])
def test_the_interval_of_a_median_leaves_out_as_many_values_as_binomial_tables_say(num: int, left_out: int) -> None:
    """For six values and more: 95 % confidence intervals of a median by rank, as statistics handbooks list them."""
    assert median_interval([float(value) for value in reversed(range(num))]) == (left_out, num - 1 - left_out)


def test_the_interval_holds_the_true_median_as_often_as_it_says() -> None:
    draw = random.Random(1)
    drawn = [median_interval([draw.expovariate(1.0) for _ in range(15)]) for _ in range(2000)]
    held = sum(low <= math.log(2) <= high for low, high in drawn) / len(drawn)
    assert 0.95 <= held < 0.985


@pytest.mark.parametrize(
    ("bound", "limit", "is_met"),
    [("at most", 5.0, True), ("at most", 4.9, False), ("at least", 5.0, True), ("at least", 5.1, False)],
)
def test_a_requirement_is_met_on_its_own_side_only(bound: str, limit: float, is_met: bool) -> None:
    requirement = Requirement(bound=bound, ratio=limit)
    comparison = compared([10.0, 10.0], requirement)
    assert comparison.ratios[0].is_met is comparison.is_met is is_met
    assert report(comparison).passes is is_met
    assert not requirement.is_met_by(math.nan, (math.nan, math.nan))


@pytest.mark.parametrize(
    ("low", "high", "is_met"),
    [(0.9, 1.09, True), (0.9, 1.1, False), (0.9, 2.0, False), (1.0, 1.05, True), (1.01, 1.05, False), (0.8, 0.9, True)],
)
def test_with_a_margin_the_interval_reaches_the_right_side_and_ends_before_what_must_be_found_out(
    low: float, high: float, is_met: bool
) -> None:
    at_most = Requirement(bound="at most", ratio=1.0, margin=0.1)
    at_least = Requirement(bound="at least", ratio=1.0, margin=0.1)
    assert at_most.is_met_by((low + high) / 2, (low, high)) is is_met
    assert at_least.is_met_by(2 / (low + high), (1 / high, 1 / low)) is is_met
    assert not at_most.is_met_by(math.nan, (math.nan, math.nan))


@pytest.mark.parametrize("spread", [0.02, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("turns", [6, 15, 40])
def test_a_loss_that_is_a_tenth_slower_is_found_slower_however_noisy_the_run(spread: float, turns: int) -> None:
    """Times of machines that others use: log-normal, one turn in ten several times as long for either."""
    draw = random.Random(turns)

    def passes() -> bool:
        pairs = [[_time(draw, spread) for _ in PAIR] for _ in range(turns)]
        measured = {PAIR[0]: [1.1 * slow for slow, _ in pairs], PAIR[1]: [fast for _, fast in pairs]}
        return ratio(measured, PAIR, NO_SLOWER).is_met is True

    assert sum(passes() for _ in range(400)) / 400 <= 0.045  # 1 in 40 by the law of the interval, and luck


@pytest.mark.parametrize(("spread", "turns"), [(0.02, 15), (0.1, 120), (0.2, 400)])
def test_a_loss_that_is_as_fast_passes_given_the_turns_that_the_noise_needs(spread: float, turns: int) -> None:
    draw = random.Random(turns)

    def passes() -> bool:
        return (
            ratio({name: [_time(draw, spread) for _ in range(turns)] for name in PAIR}, PAIR, NO_SLOWER).is_met is True
        )

    assert sum(passes() for _ in range(200)) / 200 > 0.9


def _time(draw: random.Random, spread: float) -> float:
    return draw.lognormvariate(0, spread) * (draw.uniform(1, 5) if draw.random() < 0.1 else 1)


@pytest.mark.parametrize(("limit", "is_met"), [(10.0, True), (9.9, False)])
def test_a_limit_is_kept_by_the_median(limit: float, is_met: bool) -> None:
    comparison = compared([8.0, 12.0, 10.0], limits={"on foot": limit})
    assert [contestant.is_met for contestant in comparison.contestants] == [is_met, None]
    assert report(comparison).passes is is_met
    assert bench_report.headline(report(comparison)).startswith("PASS" if is_met else "MISSED: walking;")


def test_a_missed_requirement_is_said_first() -> None:
    missed = compared([10.0, 10.0], Requirement(bound="at most", ratio=3))
    assert bench_report.headline(report(compared([1.0, 2.0]), missed)) == "MISSED: walking; 0 of 1 requirement met"


def printed(comparison: Comparison) -> str:
    out = io.StringIO()
    bench_report.render(report(comparison), Console(file=out, width=100, color_system=None))
    return " ".join(out.getvalue().split())


def test_the_report_shows_every_contestant_its_ratio_and_the_machine() -> None:
    text = printed(compared([0.0105, 0.0115], Requirement(bound="at most", ratio=1.5)))
    assert text.startswith("PASS: 1 of 1 requirement met in 81.2 s walking: the way to the post office.")
    assert "on foot 11.00 ms 10.25 ms .. 11.75 ms 2 uphill" in text
    assert "by bicycle 2.00 s 2.00 s .. 2.00 s 2" in text
    assert "on foot / by bicycle 0.01 0.01 .. 0.01 at most 1.5: met" in text
    assert text.endswith("python 3.11.9, processors 2, load 0.5 at the start and 3.2 at the end")


def test_the_report_shows_limits_noise_and_what_is_sent() -> None:
    comparison = compared(
        [3.0, 3.0],
        Requirement(bound="at most", ratio=1, margin=0.1),
        unit="B",
        limits={"by bicycle": 1.0},
        traffic=dict.fromkeys(PAIR, Traffic(messages=6, collectives=0, payload_bytes=12288, wire_bytes=None)),
    )
    text = printed(comparison)
    assert "by bicycle 0.0 MiB 0.0 MiB .. 0.0 MiB 2 at most 0.0 MiB: MISSED" in text
    assert "on foot; by bicycle 6 0 12,288 -" in text
    assert "at most 1, surely not 1.1: MISSED" in text
    assert bench_report.line(comparison) == ("walking: on foot / by bicycle = 1.50 (at most 1, surely not 1.1: MISSED)")


def test_the_file_holds_every_value(tmp_path: Path) -> None:
    made = report(compared([1.0, 3.0], setup=Setup(world_size=4, batch=8, dim=64)))
    written = json.loads(bench_report.dump(made))
    assert written["schema_version"] == 3
    assert written["comparisons"][0]["contestants"][0]["values"] == [1.0, 3.0]
    assert msgspec.json.decode(bench_report.dump(made), type=BenchReport) == made


# ------------------------------------------------------------------ charts
def measured(name: str, world_size: int, values: dict[str, float]) -> Comparison:
    setup = Setup(world_size=world_size, batch=8, dim=64)
    return compare(
        name, "a step", {key: [value] * 2 for key, value in values.items()}, each="step", ratios={}, setup=setup
    )


def test_charts_show_each_form_at_each_w_and_leave_out_what_tables_show() -> None:
    seconds = {"products": 0.001, "open_clip bidir": 0.004, "ours shift, constant": 0.002, "ours shift, recompute": 1.0}
    made = report(
        *(measured(f"steps/8x64/W{size}", size, {name: size * s for name, s in seconds.items()}) for size in (2, 4)),
        measured("memory/8x64/W2", 2, {"open_clip bidir": 2e6}),
    )
    (drawn,) = bench_report.charts(made)  # one W is no chart
    assert drawn[0] == "bench-steps.svg"
    root = ElementTree.fromstring(drawn[1])
    titles = {title.text for title in root.iter("{http://www.w3.org/2000/svg}title")}
    assert {"products, W = 2: 2", "open_clip bidir, W = 4: 16", "ours shift, constant, W = 4: 8"} <= titles
    assert not any("recompute" in str(title) for title in titles)
    kinds = [group.attrib["class"] for group in root.iter("{http://www.w3.org/2000/svg}g") if "class" in group.attrib]
    assert kinds == ["series floor", "series bidir", "series shift"]
    assert "b = 8, d = 64" in drawn[1].decode()


# ------------------------------------------------------------------ the run, and the command
def walking(turns: int = 7, is_short: bool = True, requirement: Requirement | None = None) -> dict[str, Bench]:
    return {"walking": Bench(lambda turns: iter([compared([10.0] * turns, requirement)]), turns, is_short)}


def test_benchmarks_run_in_order_and_tell_what_they_do() -> None:
    told: list[str | Comparison] = []
    result = run_benches(walking(), progress=told.append)
    assert told == ["walking", *result.comparisons]
    assert len(result.comparisons[0].contestants[0].values) == 7
    assert len(run_benches(walking(), turns=3).comparisons[0].contestants[0].values) == 3


def test_a_word_means_all_benchmarks_below_it() -> None:
    assert list(named(["recording"])) == ["recording"]
    assert list(named(["steps/8x64"])) == [f"steps/8x64/W{size}" for size in (2, 4, 8, 16)]
    assert list(named(["steps/1024x512/W16", "memory/8x64"])) == ["steps/1024x512/W16", "memory/8x64"]
    assert len(named(["steps", "steps/8x64"])) == 12
    with pytest.raises(UsageError, match=r"one of recording, .*, or a part such as steps/8x64/W4; got 'steps/8x6'"):
        named(["steps/8x6"])


def test_what_is_shown_holds_every_size_in_fifteen_turns_or_more() -> None:
    shown = published(15)
    assert [name for name in shown if name.startswith("steps/")] == [
        *(f"steps/8x64/W{size}" for size in (4, 8, 16)),
        *(f"steps/256x256/W{size}" for size in (4, 8)),
        *(f"steps/1024x512/W{size}" for size in (2, 4, 8)),
    ]
    assert all(one.turns >= 15 for name, one in shown.items() if name.split("/")[0] in ("steps", "local-block"))
    assert (shown["memory/1024x512"].turns, set(shown) > {"warm-worlds", "recording"}) == (3, True)


def test_at_least_two_turns_are_asked_for() -> None:
    with pytest.raises(UsageError, match="got turns=1"):
        run_benches(walking(), turns=1)
    with pytest.raises(UsageError, match="got turns=1"):
        run_benches(published(1))


@pytest.mark.parametrize("passes", [True, False])
def test_the_command_exits_1_where_a_requirement_is_missed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, passes: bool
) -> None:
    requirement = Requirement(bound="at least" if passes else "at most", ratio=3)
    for module in ("bench.whole", "cli.bench"):
        monkeypatch.setattr(f"siglip_verify.{module}.BENCHES", walking(requirement=requirement))
    assert cli.exit_code(["bench", "--turns", "2", "--report-dir", str(tmp_path)]) == (0 if passes else 1)
    shown = capsys.readouterr()
    assert shown.out.startswith("PASS" if passes else "MISSED")
    assert shown.err.startswith("measuring walking ...\nwalking: on foot / by bicycle = 5.00")
    assert json.loads((tmp_path / "bench.json").read_text())["comparisons"][0]["ratios"][0]["is_met"] is passes


@pytest.mark.parametrize(("words", "runs"), [([], False), (["--all"], True), (["--only", "walking"], True)])
def test_long_benchmarks_run_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], runs: bool
) -> None:
    for module in ("bench.whole", "cli.bench"):
        monkeypatch.setattr(f"siglip_verify.{module}.BENCHES", walking(is_short=False))
    assert cli.exit_code(["bench", *words]) == 0
    assert ("on foot" in capsys.readouterr().out) is runs


@pytest.mark.parametrize(("words", "turns"), [([], 15), (["--turns", "20"], 20)])
def test_what_is_shown_runs_with_the_turns_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], turns: int
) -> None:
    monkeypatch.setattr("siglip_verify.cli.bench.published", lambda turns: walking(turns, is_short=False))
    assert cli.exit_code(["bench", "--shown", *words]) == 0
    assert f"on foot 10.00 s 10.00 s .. 10.00 s {turns} uphill" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("words", [["--all"], ["--only", "recording"]])
def test_what_is_shown_goes_with_no_other_choice(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert cli.exit_code(["bench", "--shown", *words]) == 2
    assert f"got --shown with {words[0]}" in " ".join(capsys.readouterr().err.split())


def test_the_command_names_the_benchmarks_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(["bench", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(name.split("/")[0] in text for name in BENCHES)
    assert cli.exit_code(["bench", "--only", "walking"]) == 2
