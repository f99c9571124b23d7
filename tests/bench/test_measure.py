"""How things are compared, and what is said of it.

Oracle: medians and ratios by hand, golden text. Sees: contestants that do not take turns, a ratio upside down, a missed
requirement that passes.
"""

from __future__ import annotations

import io
import json
import math
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from siglip_verify import cli
from siglip_verify.bench import BENCHES, BenchReport, Comparison, Requirement, compare, in_turn, run_benches
from siglip_verify.errors import UsageError
from siglip_verify.report import bench as bench_report


def compared(slow: list[float], requirement: Requirement | None = None) -> Comparison:
    return compare(
        "walking",
        "the way to the post office",
        {"on foot": slow, "by bicycle": [2.0, 2.0]},
        each="trip",
        ratio_of=("on foot", "by bicycle"),
        requirement=requirement,
        notes={"on foot": "uphill"},
    )


def report(*comparisons: Comparison) -> BenchReport:
    return BenchReport(
        started_at="2026-01-02T03:04:05+00:00",
        elapsed_s=81.25,
        turns=2,
        load=(0.5, 3.25),
        environment={"python": "3.11.9", "processors": "2"},
        comparisons=comparisons,
    )


def test_contestants_take_turns_and_every_second_turn_goes_the_other_way() -> None:
    order: list[str] = []

    def named(name: str) -> int:
        order.append(name)
        return len(order)

    values = in_turn({"A": lambda: named("A"), "B": lambda: named("B")}, 3)
    assert order == ["A", "B", "B", "A", "A", "B"]
    assert values == {"A": [1, 4, 5], "B": [2, 3, 6]}


@given(slow=st.lists(st.floats(0.1, 1e6), min_size=2, max_size=9))
def test_the_ratio_is_that_of_the_medians_in_the_order_named(slow: list[float]) -> None:
    comparison = compared(slow)
    assert comparison.ratio == statistics.median(slow) / 2
    assert comparison.contestants[0].values == tuple(slow)
    assert comparison.is_met is None


@pytest.mark.parametrize(
    ("bound", "limit", "is_met"),
    [("at most", 5.0, True), ("at most", 4.9, False), ("at least", 5.0, True), ("at least", 5.1, False)],
)
def test_a_requirement_is_met_on_its_own_side_only(bound: str, limit: float, is_met: bool) -> None:
    requirement = Requirement(bound=bound, ratio=limit)
    assert compared([10.0, 10.0], requirement).is_met is is_met
    assert report(compared([10.0, 10.0], requirement)).passes is is_met
    assert not requirement.is_met_by(math.nan)


def test_a_missed_requirement_is_said_first() -> None:
    missed = compared([10.0, 10.0], Requirement(bound="at most", ratio=3))
    assert bench_report.headline(report(compared([1.0, 2.0]), missed)) == "MISSED: walking; 0 of 1 requirement met"


def test_the_report_shows_every_contestant_its_ratio_and_the_machine() -> None:
    out = io.StringIO()
    comparison = compared([0.0105, 0.0115], Requirement(bound="at most", ratio=1.5))
    bench_report.render(report(comparison), Console(file=out, width=100, color_system=None))
    text = " ".join(out.getvalue().split())
    assert text.startswith("PASS: 1 of 1 requirement met in 81.2 s walking: the way to the post office.")
    assert "on foot 11.00 ms 10.25 ms .. 11.75 ms 2 uphill" in text
    assert "by bicycle 2.00 s 2.00 s .. 2.00 s 2" in text
    assert "on foot / by bicycle = 0.01: at most 1.5 is required, met" in text
    assert text.endswith("python 3.11.9, processors 2, load 0.5 at the start and 3.2 at the end")


def test_the_file_holds_every_value(tmp_path: Path) -> None:
    written = json.loads(bench_report.dump(report(compared([1.0, 3.0]))))
    assert written["schema_version"] == 1
    (comparison,) = written["comparisons"]
    assert comparison["contestants"][0]["values"] == [1.0, 3.0]
    assert (comparison["ratio"], comparison["ratio_of"], comparison["is_met"]) == (1.0, ["on foot", "by bicycle"], None)


def test_benchmarks_run_in_order_and_tell_each_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("siglip_verify.bench.whole.BENCHES", {"walking": lambda turns: iter([compared([1.0] * turns)])})
    told: list[Comparison] = []
    result = run_benches(turns=3, progress=told.append)
    assert list(result.comparisons) == told
    assert len(told[0].contestants[0].values) == result.turns == 3


@pytest.mark.parametrize(
    ("names", "turns", "message"),
    [(["walking"], 2, "a benchmark is one of recording, warm-worlds.*; got 'walking'"), ([], 1, "got turns=1")],
)
def test_what_cannot_be_measured_is_named(names: list[str], turns: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run_benches(names, turns=turns)


@pytest.mark.parametrize("passes", [True, False])
def test_the_command_exits_1_where_a_requirement_is_missed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, passes: bool
) -> None:
    made = compared([10.0, 10.0], Requirement(bound="at least" if passes else "at most", ratio=3))
    monkeypatch.setattr("siglip_verify.bench.whole.BENCHES", {"walking": lambda turns: iter([made])})
    assert cli.exit_code(["bench", "--turns", "2", "--report-dir", str(tmp_path)]) == (0 if passes else 1)
    assert capsys.readouterr().out.startswith("PASS" if passes else "MISSED")
    assert json.loads((tmp_path / "bench.json").read_text())["comparisons"][0]["is_met"] is passes


def test_the_command_names_the_benchmarks_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(["bench", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in BENCHES)
    assert cli.exit_code(["bench", "walking"]) == 2
