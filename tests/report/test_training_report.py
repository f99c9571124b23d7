"""Trainings on a console, as JSON and as pictures.

Oracle: the records, made by hand, whose figures must be found where they are shown; an XML reader. Sees: a figure in
the wrong row, a curve that is left out, a seed that is not drawn, a picture that does not open.
"""

from __future__ import annotations

import io
from xml.etree import ElementTree

import msgspec
import pytest
from rich.console import Console

from siglip_verify.report.train import cost_line, curves, dots, files, render_costs, render_equality, run_line
from siglip_verify.train.jobs import FORMS, Form
from siglip_verify.train.loop import Training
from siglip_verify.train.result import BugCost, BugScores, CostReport, EqualityReport, FormRun

SVG = "{http://www.w3.org/2000/svg}"
TRAINING = Training(steps=3)
LOSSES = (9.5, 6.25, 4.0)


def run(form: Form, world_size: int, **changes: object) -> FormRun:
    fields = {"losses": LOSSES, "deviations": (1e-16, 3e-15, 2e-15), "right": (350,) * world_size, "elapsed_s": 2.5}
    return FormRun(form=form, world_size=world_size, **fields | changes)


def equality(*runs: FormRun) -> EqualityReport:
    return EqualityReport(
        task="names",
        metric="zero-shot accuracy",
        training=TRAINING,
        bound=1e-10,
        losses=LOSSES,
        right=350,
        asked=360,
        runs=runs or tuple(run(form, size) for size in (1, 2, 4) for form in FORMS),
        environment={"torch": "2.13.0"},
    )


def costs(name: str = "label-offset") -> CostReport:
    def scores(right: tuple[int | None, ...], failure: str = "") -> tuple[BugScores, ...]:
        losses = tuple(None if each is None else 3.5 for each in right)
        return tuple(
            BugScores(task=task, right=right, final_losses=losses, failure=failure) for task in ("names", "halves")
        )

    return CostReport(
        world_size=4,
        training=TRAINING,
        seeds=(0, 1),
        tasks={"names": "zero-shot accuracy", "halves": "recall at 1"},
        asked={"names": 360, "halves": 360},
        costs=(
            BugCost(bug="", sentence="Nothing is wrong.", exchange="gather", scores=scores((351, 355))),
            BugCost(bug=name, sentence="Wrong & <wrong>.", exchange="gather", scores=scores((270, 288))),
            BugCost(
                bug="gather-no-grad",
                sentence="None.",
                exchange="gather",
                scores=scores((None, None), "a rank raised: RuntimeError: Expected <more>"),
            ),
        ),
        elapsed_s=12.0,
        environment={"torch": "2.13.0"},
    )


def shown(report: EqualityReport | CostReport, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width)
    (render_equality if isinstance(report, EqualityReport) else render_costs)(report, console)
    return console.file.getvalue()


# ------------------------------------------------------------------ equality
def test_the_first_line_says_what_is_equal_and_how_near() -> None:
    first = shown(equality()).splitlines()[0]
    assert first == (
        "PASS: 8 forms at W = 1, 2, 4 train as one process on the whole batch does: "
        "after each of 3 steps parameters lie within 3.0e-15 (bound 1e-10)"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"deviations": (0.0, 2e-10, 0.0)}, "2.0e-10"), ({"right": (350, 349)}, "0.9722")],
)
def test_a_training_that_differs_is_named_first(changes: dict[str, object], words: str) -> None:
    said = shown(equality(run(Form("bidir"), 2), run(Form("shift", "constant"), 2, **changes)))
    assert said.startswith("MISMATCH: shift constant at W = 2 of 2 trainings differ from one process")
    assert words in said


def test_every_training_has_its_row_and_one_process_the_first() -> None:
    rows = [line.split() for line in shown(equality()).splitlines()]
    assert ["1", "one", "process,", "whole", "batch", "-", "4.000000", "0.9722", "-"] in rows
    for size in (1, 2, 4):
        for form in FORMS:
            assert [str(size), *str(form).split(), "3.0e-15", "4.000000", "0.9722", "2.50", "s"] in rows
    assert run_line(run(Form("bidir"), 4)) == "W = 4, bidir: 3.0e-15 from one process, 2.50 s"


def test_curves_has_two_lines_a_training_and_one_process_under_each_panel() -> None:
    root = ElementTree.fromstring(curves(equality()))
    lines = root.findall(f".//{SVG}polyline")
    assert len(lines) == 3 * (1 + 2 * len(FORMS))
    assert all(len(line.attrib["points"].split()) == 3 for line in lines)
    said = [title.text for title in root.iter(f"{SVG}title")]
    for form in FORMS:
        assert said.count(f"{form}, W = 4") == 2
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for line in lines:
        for x, y in (map(float, point.split(",")) for point in line.attrib["points"].split()):
            assert 0 <= x <= width
            assert 0 <= y <= height


def test_curves_are_drawn_of_what_is_not_a_number_too() -> None:
    nan = float("nan")
    ElementTree.fromstring(curves(equality(run(Form("bidir"), 2, losses=(nan,) * 3, deviations=(nan,) * 3))))


# ------------------------------------------------------------------ what bugs cost
def test_each_bug_is_held_against_the_right_loss_of_the_same_seeds() -> None:
    rows = [line.split() for line in shown(costs()).splitlines()]
    assert rows.count(["label-offset", "gather", "0.775", "(0.750", "..", "0.800)", "-20.6", "3.500"]) == 2
    assert rows.count(["gather-no-grad", "gather", "stopped", "-", "-"]) == 2
    assert "gather-no-grad: a rank raised: RuntimeError: Expected <more>" in shown(costs())
    assert cost_line(costs().costs[2]) == "gather-no-grad: right answers by seed: names -, -; halves -, -"


def test_every_seed_is_a_dot_and_what_stopped_says_so() -> None:
    root = ElementTree.fromstring(dots(costs()))
    said = [title.text for title in root.iter(f"{SVG}title")]
    for name, share in (("the right loss", 0.975), ("label-offset", 0.8)):
        assert said.count(f"{name}: {share:.3f}") == 2
    assert len(root.findall(f".//{SVG}circle")) == 2 * 2 * 2
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts.count("stopped: a rank raised: RuntimeError") == 2
    assert "Wrong & <wrong>." in said


def test_pictures_escape_what_they_are_given() -> None:
    root = ElementTree.fromstring(dots(costs("<script>alert(1)</script>")))
    assert not list(root.iter(f"{SVG}script"))


@pytest.mark.parametrize("report", [equality(), costs()])
def test_json_holds_the_whole_result(report: EqualityReport | CostReport) -> None:
    (json_name, text), (picture, _) = files(report)
    assert msgspec.json.decode(text, type=type(report)) == report
    name = "train" if isinstance(report, EqualityReport) else "costs"
    assert (json_name, picture) == (f"{name}.json", f"{name}.svg")
