"""A diagnosis in every report: the sentence first, and pictures that say by characters what they say by colour.

Oracle: the matrices that the pictures are drawn from. Sees: a wrong number drawn as right, a picture that only colour
explains, a sentence that comes after the figures, text from outside that is shown raw.
"""

from __future__ import annotations

import io
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from siglip_verify.records import Clue, Counterexample, Diagnosis, Matrix
from siglip_verify.report import diagnosis, render
from siglip_verify.report.html.page import render as render_page
from siglip_verify.report.junit import render as render_junit
from siglip_verify.report.markdown import render as render_markdown
from siglip_verify.result import Report
from tests.report import samples

SENTENCE = "At W = 4, ranks 0 and 2 never see each other's texts, nor ranks 1 and 3: the last single hop is missing"
ONES = ((1.0,) * 4,) * 4
MISSING = ((1.0, 1.0, 0.0, 1.0), (1.0, 1.0, 1.0, 0.0), (0.0, 1.0, 1.0, 1.0), (1.0, 0.0, 1.0, 1.0))
ODD = ((1.0, 2.0, 0.25, math.nan), *ONES[1:])


def matrix(values: tuple[tuple[float, ...], ...], title: str = "counted in forward") -> Matrix:
    return Matrix(title=title, rows="images of rank", columns="texts of rank", values=values, expected=ONES)


def diagnosed(**changes: object) -> Diagnosis:
    fields: dict[str, object] = {
        "sentence": SENTENCE,
        "cause": "blocks-unseen",
        "evidence": (Clue(title="world sizes", text="only even W fail"),),
        "matrices": (matrix(MISSING), matrix(ODD, "heard of in backward"), matrix(ONES, "a right one")),
        "fails_at": (2, 4),
        "passes_at": (1, 3, 5),
        "smallest_world_size": 2,
        "smallest_batch": 1,
    }
    return Diagnosis(**fields | changes)  # type: ignore[arg-type]


def report(said: Diagnosis) -> Report:
    found: Counterexample = samples.counterexample(diagnosis=said)
    cells = (samples.cell("bidir", 2, "mismatch"),)
    return samples.report(samples.loss("my_loss.py:Loss", cells=cells, messages=(), counterexamples=(found,)))


def on_console(said: Diagnosis, width: int = 120, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding) as file:
        render(report(said), Console(file=file, width=width))
        file.flush()
        return raw.getvalue().decode(encoding)


def test_the_sentence_comes_before_pictures_and_figures() -> None:
    text = on_console(diagnosed())
    places = [text.index(word) for word in ("Counterexample", SENTENCE, "counted in forward", "smallest  ", "quantity")]
    assert places == sorted(places)


def test_pictures_stand_side_by_side_and_mark_by_characters() -> None:
    lines = [line.rstrip() for line in on_console(diagnosed()).splitlines()]
    top = lines.index("    counted in forward    heard of in backward")
    assert lines[top + 1 : top + 7] == [
        "      0 1 2 3               0 1    2 3",
        "    0 · · 0 ·             0 · 2 0.25 ?",
        "    1 · · · 0             1 · ·    · ·",
        "    2 0 · · ·             2 · ·    · ·",
        "    3 · 0 · ·             3 · ·    · ·",
        "    left: images of rank, top: texts of rank; · as it should be, a number where not; ? cannot be seen",
    ]
    assert "a right one" not in "\n".join(lines)


def test_a_console_without_the_middle_dot_shows_full_stops() -> None:
    text = on_console(diagnosed(), encoding="ascii")
    assert "    0 . . 0 .             0 . 2 0.25 ?" in text
    assert "\\xb7" not in text


@pytest.mark.parametrize("to_bytes", [render_page, render_junit, render_markdown])
def test_every_other_report_shows_the_sentence_and_the_pictures(to_bytes: object) -> None:
    text = to_bytes(report(diagnosed(sentence="ranks 0 and 2 never meet"))).decode()  # type: ignore[operator]
    assert "ranks 0 and 2 never meet" in text
    assert "counted in forward" in text
    assert "0.25" in text
    assert "a right one" not in text


def test_text_from_outside_is_made_harmless_everywhere() -> None:
    said = diagnosed(sentence=samples.NASTY, evidence=(Clue(title=samples.NASTY, text=samples.NASTY),))
    said = msgspec.structs.replace(said, matrices=(matrix(ODD, samples.NASTY),))
    assert "\x1b" not in on_console(said)
    assert samples.HOSTILE.encode() not in render_page(report(said))
    assert b"\x1b" not in render_junit(report(said)) + render_markdown(report(said))


def test_a_picture_too_wide_for_a_page_is_left_out() -> None:
    large = ((0.0,) * 17,) * 17
    wide = Matrix(title="counted", rows="", columns="", values=large, expected=((1.0,) * 17,) * 17)
    assert diagnosis.heat_maps(diagnosed(matrices=(wide,))) == ()


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 0.25, math.nan]), min_size=16, max_size=16))
def test_a_cell_is_marked_where_it_is_wrong_and_only_there(numbers: list[float]) -> None:
    values = tuple(tuple(numbers[row * 4 : row * 4 + 4]) for row in range(4))
    (shown,) = diagnosis.heat_maps(diagnosed(matrices=(matrix(values),))) or (None,)
    if shown is None:
        assert values == ONES
        return
    texts = [[cell.text for cell in row] for row in shown.cells]
    marks = {1.0: "·", 0.0: "0", 2.0: "2", 0.25: "0.25"}
    assert texts == [[marks.get(value, "?") for value in row] for row in values]
    assert diagnosis.as_text(shown).splitlines()[1].split() == ["0", *texts[0]]
