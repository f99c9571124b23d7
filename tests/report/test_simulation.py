"""A simulation on a console and in files, and the command that shows it.

Oracle: the record, whose figures must be found where they are shown; XML and JSON readers; a golden text. Sees: a
figure in the wrong row, a label over another, a file that does not open.
"""

from __future__ import annotations

import io
import json
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from rich.console import Console

from siglip_verify import cli
from siglip_verify.report.simulation import charts, dump, render, trace
from siglip_verify.report.simulation.tables import significant
from siglip_verify.simulate import MEMORY_MODES, PRESETS, Setup, Simulation, simulate, timelines

from .golden import assert_golden

SVG = "{http://www.w3.org/2000/svg}"
SETUP = Setup(cluster=PRESETS["h100-ib"], batch=2048, dim=1152)


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    made = simulate(SETUP, [8, 64, 4096], MEMORY_MODES)
    return msgspec.structs.replace(made, took_s={8: 0.01, 64: 0.02, 4096: 0.04})


def printed(simulation: Simulation, width: int, **options: object) -> str:
    console = Console(file=io.StringIO(), width=width, **options)
    render(simulation, console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 160])
def test_the_console_shows_what_it_showed(simulation: Simulation, width: int) -> None:
    assert_golden(f"simulation-{width}.txt", printed(simulation, width))


@pytest.mark.parametrize("width", [80, 160])
def test_every_cost_has_its_row(simulation: Simulation, width: int) -> None:
    shown = printed(simulation, width)
    rows = [line.split("  ") for line in shown.splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    for cost in simulation.costs:
        (row,) = (row for row in cells if len(row) > 4 and row[:2] == [f"{cost.world_size:,}", str(cost.form)])
        assert significant(cost.step_s * 1e3) in row
        assert significant(cost.memory.peak_bytes / 1e9) in row
        assert ("too large" in row) == (not cost.fits)
    assert "modelled" in shown.lower()


def test_a_wrong_schedule_would_be_said_first(simulation: Simulation) -> None:
    assert "A SCHEDULE IS WRONG" in printed(msgspec.structs.replace(simulation, proved=False), 120)


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0"), (0.0123456, "0.012"), (1.8904, "1.890"), (66.06, "66.06"), (1318.6, "1,319"), (2e7, "20,000,000")],
)
def test_numbers_have_four_digits(value: float, said: str) -> None:
    assert significant(value) == said


# ------------------------------------------------------------------ files
def test_the_charts_are_one_document_with_a_line_for_each_form_and_chart(simulation: Simulation) -> None:
    root = ElementTree.fromstring(charts(simulation))
    lines = root.findall(f".//{SVG}polyline")
    assert len(lines) == 3 * len(simulation.forms)
    assert all(len(line.attrib["points"].split()) == 3 for line in lines)
    texts = {text.text for text in root.iter(f"{SVG}text")}
    assert {"Step", "Exposed communication", "Held by a rank", "h100-ib, b = 2048, d = 1152, bfloat16"} <= texts
    assert {str(form) for form in simulation.forms} <= texts
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for line in lines:
        for x, y in (map(float, point.split(",")) for point in line.attrib["points"].split()):
            assert 0 <= x <= width
            assert 0 <= y <= height
    said = {title.text for title in root.iter(f"{SVG}title")}
    for cost in simulation.costs:
        assert f"{cost.form}, W = {cost.world_size}: {significant(cost.step_s * 1e3)}" in said


def test_labels_of_a_chart_do_not_cover_each_other(simulation: Simulation) -> None:
    for panel in ElementTree.fromstring(charts(simulation)).findall(f"{SVG}g"):
        heights = sorted(float(text.attrib["y"]) for text in panel.findall(f"{SVG}g/{SVG}text"))
        assert all(after - before >= 11.9 for before, after in pairwise(heights))


def test_charts_of_one_world_size_and_of_nothing_sent_are_drawn() -> None:
    for sizes in ([8], [1]):
        ElementTree.fromstring(charts(simulate(SETUP, sizes)))


def test_charts_escape_what_a_cluster_is_called() -> None:
    hostile = msgspec.structs.replace(PRESETS["h100-ib"], name="<script>&", about="\x1b[31m")
    made = simulate(Setup(cluster=hostile, batch=8, dim=8), [8])
    root = ElementTree.fromstring(charts(made))
    assert not list(root.iter("script"))
    assert "\x1b" not in printed(made, 120)


def test_json_holds_the_whole_result(simulation: Simulation) -> None:
    assert msgspec.json.decode(dump(simulation), type=Simulation) == simulation
    assert json.loads(dump(simulation))["basis"] == "modelled"


def test_the_trace_has_a_process_a_form_and_two_tracks_a_rank(simulation: Simulation) -> None:
    content = json.loads(trace(SETUP, timelines(simulation)))
    assert content["otherData"]["basis"] == "modelled"
    events = content["traceEvents"]
    processes = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert list(processes.values()) == [f"{form}, W = 64, one host (modelled)" for form in simulation.forms]
    for pid, form in zip(processes, simulation.forms, strict=True):
        tracks = [event for event in events if event["pid"] == pid and event["name"] == "thread_name"]
        assert {event["args"]["name"] for event in tracks} == {
            f"rank {rank}: {kind}" for rank in range(8) for kind in ("communication", "compute")
        }
        slices = [event for event in events if event["pid"] == pid and event["ph"] == "X"]
        end = max(event["ts"] + event["dur"] for event in slices)
        assert end == pytest.approx(simulation.cost(form, 64).step_s * 1e6, rel=1e-9)
        assert {event["tid"] for event in slices} == {event["tid"] for event in tracks}


# ------------------------------------------------------------------ the command
def test_the_command_prints_and_writes_what_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {name: tmp_path / "out" / name for name in ("r.json", "c.svg", "t.json")}
    setup = "--world-sizes 8-64 --batch 256 --dim 64 --dtype bf16 --cluster a100-ib --collective ring --overlap"
    written = ["--json", str(files["r.json"]), "--svg", str(files["c.svg"]), "--trace", str(files["t.json"])]
    code = cli.exit_code(["simulate", *setup.split(), "--memory", "autograd,chunked,constant", *written])
    shown = capsys.readouterr().out
    assert code == 0
    assert shown.startswith("MODELLED: fastest on a100-ib")
    assert all(f"wrote {path}" in re.sub(r"\n", "", shown) for path in files.values())
    result = msgspec.json.decode(files["r.json"].read_bytes(), type=Simulation)
    assert (result.world_sizes, result.setup.batch) == ((8, 16, 32, 64), 256)
    assert any(form.overlap for form in result.forms)
    ElementTree.parse(files["c.svg"])
    json.loads(files["t.json"].read_text())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cluster", "mine"], "or the path of a .toml file; got 'mine'"),
        (["--world-sizes", "12"], "W is a multiple of 8 on 'h100-ib'; got W = 12"),
        (["--world-sizes", "24", "--collective", "recursive-doubling"], "take ring or tree, or powers of two"),
        (["--world-sizes", "1024", "--trace", "t.json"], "a timeline has up to 512 ranks"),
        (["--memory", "flat"], "memory is some of autograd, chunked, constant"),
        (["--dtype", "int8"], "dtype is one of"),
        (["--batch", "0"], "batch must be a whole number from 1 on"),
    ],
)
def test_wrong_usage_exits_2_and_prints_no_table(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.exit_code(["simulate", *arguments]) == 2
    shown = capsys.readouterr()
    assert words in " ".join(shown.err.split())
    assert not shown.out
