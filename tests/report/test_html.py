"""The page as text: complete, escaped, self-contained, the same for the same result.

Oracle: the standard library's HTML parser and the fields of the result. Can see: figures that are lost, text that
becomes markup, anything that would be fetched, output that depends on the process. What it looks like is for
`test_page_in_browser`.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given

from siglip_verify.report import dump, html, load, sections, words
from siglip_verify.report.headline import headline
from siglip_verify.report.html.page import SECTIONS
from siglip_verify.result import Report

from . import samples

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Document(HTMLParser):
    """Elements, texts and attributes of a page; raises where tags are not nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], "elements are left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def page(report: Report) -> Document:
    return Document(html.render(report).decode())


# ------------------------------------------------------------------ complete
def test_the_first_line_is_the_verdict_in_words() -> None:
    document = page(samples.passing())
    first = re.search(r"<h1>(.*?)</h1>", html.render(samples.passing()).decode(), re.S)
    assert first
    assert re.sub(r"<[^>]*>", "", first[1]) == str(headline(samples.passing())).replace("PASS:", "PASS")
    assert document.open == []


def test_every_share_and_every_count_stands_on_the_page() -> None:
    text = page(samples.passing()).words
    for loss in samples.passing().losses:
        for cell in loss.cells:
            for quantities in sections.QUANTITY_GROUPS.values():
                worst = max(cell.worst[quantity].share for quantity in quantities)
                assert words.share(worst) in text
        for row in loss.messages:
            assert words.count(row.wire_bytes) in text


def test_every_share_is_a_mark_in_a_chart_and_says_what_it_is() -> None:
    source = html.render(samples.mismatching()).decode()
    shares = re.findall(r'<g class="mark (\w+)"><title>([^<]* of its bound)</title>', source)
    assert len(shares) == 16 * len(sections.QUANTITY_GROUPS)
    assert [tone for tone, _ in shares].count("mismatch") == 2 * len(sections.QUANTITY_GROUPS)
    assert ("pass", "bidir, W = 1, text: 0.258 of its bound") in shares


def test_marks_stand_above_the_bound_where_the_share_does() -> None:
    source = html.render(samples.mismatching()).decode()
    bidir = source[source.index('id="equivalence-1-chart-1-title"') :]
    bound = float(re.search(r'<line class="bound" .*?y1="([\d.]+)"', bidir)[1])  # type: ignore[index]
    marks = re.findall(
        r'<g class="mark (\w+)"><title>.*?<use [^>]*? y="([\d.]+)"', bidir[: bidir.index("</svg>")], re.S
    )
    assert len(marks) == 20
    assert all((float(y) < bound) == (tone == "mismatch") for tone, y in marks)


def test_exchanges_with_the_same_counts_share_a_line() -> None:
    source = html.render(samples.report(samples.loss())).decode()
    calls = source[source.index('id="compared-1-chart-1-title"') :]
    calls = calls[: calls.index("</svg>")]
    assert re.findall(r'<text class="name".*?>(.*?)</text>', calls) == ["bidir", "shift", "reduce", "gather"]
    assert calls.count("<polyline") == 3


def test_labels_of_lines_neither_cover_each_other_nor_leave_the_chart() -> None:
    source = html.render(samples.passing()).decode()
    charts = re.findall(r'<svg class="chart".*?</svg>', source, re.S)
    lined = [chart for chart in charts if "<polyline" in chart]
    assert len(lined) == 12, "four charts for each loss, four modelled"
    for chart in lined:
        heights = sorted(float(y) for y in re.findall(r'<text class="name" x="[\d.]+" y="([\d.]+)"', chart))
        assert all(below - above >= 14.9 for above, below in itertools.pairwise(heights))
        assert heights[0] >= 40
        assert heights[-1] <= 205


def test_every_case_is_a_dot_and_many_are_a_density() -> None:
    few, many = html.render(samples.passing()).decode(), html.render(samples.many()).decode()
    drawn = "".join(re.findall(r'<path class="dots [a-z]*" d="(.*?)"', few))
    assert drawn.count("M") == sum(
        len(shares) for loss in samples.passing().losses for cell in loss.cells for shares in cell.shares.values()
    )
    assert "shade-5" not in few.partition("</style>")[2]
    assert 'class="dots' not in many
    assert "10,000 cases as a density" in many
    assert len(set(re.findall(r'<path class="(shade-\d)"', many))) == 5


def test_dots_beyond_the_bound_stand_out() -> None:
    source = html.render(samples.mismatching()).decode()
    beyond = "".join(re.findall(r'<path class="dots mismatch" d="(.*?)"', source))
    cells = samples.mismatching().losses[0].cells
    assert beyond.count("M") == sum(not s <= 1 for cell in cells for each in cell.shares.values() for s in each)


def test_a_block_that_is_not_counted_stands_out_in_forward_and_backward() -> None:
    source = html.render(samples.mismatching()).decode()
    maps = re.findall(r'<table class="heat">.*?</table>', source[source.index('id="coverage"') :], re.S)
    wrong = [[re.sub("<.*?>", "", cell) for cell in re.findall(r'<td class="mismatch.*?</td>', each)] for each in maps]
    assert wrong[:2] == [["0"], ["0"]]
    assert len(maps) == 4 + 2 * 3, "all four where one is wrong, else two"


def test_what_is_modelled_stands_apart_from_what_was_measured() -> None:
    source = html.render(samples.passing()).decode()
    apart = source[source.index('<div class="modelled">') : source.index('<section id="known_bugs"')]
    assert apart.count("modelled</tspan>") == 4
    assert "measured</tspan>" not in apart
    assert "modelled</tspan>" not in source.replace(apart, "")


def test_a_planted_bug_that_was_missed_is_said_in_the_head_and_in_its_row() -> None:
    document = page(samples.mismatching())
    assert "1 of 2 planted bugs caught" in document.words
    assert "MISSED 25 cases" in document.words


def test_the_sample_step_is_shown_hop_by_hop() -> None:
    text = page(samples.passing()).words
    assert "Payload of messages, bytes" in text
    assert "Forward, hop by hop: 1 hop." in text
    assert "Backward, hop by hop: 1 hop." in text


def test_a_counterexample_is_linked_from_the_head_and_can_be_run_again() -> None:
    document = page(samples.mismatching())
    linked = [link["href"] for link in document.all("a")]
    assert "#counterexample-1-1" in linked
    assert samples.mismatching().counterexamples[0].replay in document.words


def test_what_has_nothing_to_show_is_left_out() -> None:
    text = page(samples.report()).words
    assert "Counterexamples" not in text
    assert "nothing was checked" in text


def test_each_section_has_its_template() -> None:
    folder = Path(html.__file__).with_name("templates") / "sections"
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{part.name}.html.j2" for part in SECTIONS)


# ------------------------------------------------------------------ escaped and self-contained
def test_text_from_outside_stays_text() -> None:
    source = html.render(samples.hostile()).decode()
    document = Document(source)
    assert document.all("script") == []
    assert "<script" not in source
    assert samples.HOSTILE in document.words
    assert "\x00" not in source
    assert "\u202e" not in source


def test_nothing_is_fetched_and_nothing_runs() -> None:
    for name in ("passing", "mismatching", "unjudged", "hostile"):
        source = html.render(getattr(samples, name)()).decode()
        document = Document(source)
        assert not re.search(r"https?://|@import|url\(", source)
        for tag, attributes in document.elements:
            assert tag not in {"script", "iframe", "object", "embed", "img", "form"}
            assert not [attribute for attribute in attributes if attribute.startswith("on") or attribute == "src"]
            assert (attributes.get("href") or "#").startswith(("#", "data:,"))


@given(report=samples.reports())
@samples.ANY_RESULT
def test_any_result_has_a_printable_page_with_names_that_are_used_once(report: Report) -> None:
    document = page(report)
    assert not [char for char in document.words if not char.isprintable()]
    names = [attributes["id"] for _, attributes in document.elements if "id" in attributes]
    assert len(names) == len(set(names))
    referred = [
        name
        for _, attributes in document.elements
        for key in ("aria-labelledby", "href")
        for name in (attributes.get(key) or "").split()
        if not name.startswith("data:")
    ]
    assert {name.removeprefix("#") for name in referred} <= set(names)


# ------------------------------------------------------------------ the same bytes
@pytest.mark.long  # `make package` compares the page of a check with one that is made again
def test_the_page_made_again_from_json_in_another_process_is_the_same(tmp_path: Path) -> None:
    reports = [samples.mismatching(), samples.hostile()]
    paths = [tmp_path / f"{index}.json" for index in range(len(reports))]
    for path, report in zip(paths, reports, strict=True):
        path.write_bytes(dump(report))
    program = (
        "import sys; from pathlib import Path; from siglip_verify.report import html, load;"
        "[sys.stdout.buffer.write(html.render(load(Path(path).read_bytes()))) for path in sys.argv[1:]]"
    )
    again = subprocess.run(
        [sys.executable, "-c", program, *map(str, paths)],
        env=os.environ | {"PYTHONHASHSEED": "12345"},
        capture_output=True,
        check=True,
    )
    assert again.stdout == b"".join(html.render(load(dump(report))) for report in reports)
    assert again.stdout == b"".join(map(html.render, reports))


def test_the_sizes_that_the_documentation_states_are_those_of_reports_today() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "reading_a_report.md").read_text()
    stated = re.findall(r"^\| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", page, re.M)
    assert [cases for cases, _, _ in stated] == ["100", "1,000", "10,000"]
    for numbers in stated:
        cases, *kilobytes = (int(number.replace(",", "")) for number in numbers)
        report = samples.many(cases)
        assert sum(cell.cases for each in report.losses for cell in each.cells) == cases
        for said, written in zip(kilobytes, (html.render(report), dump(report)), strict=True):
            assert said == pytest.approx(len(written) / 1000, rel=0.1), (cases, len(written))


@pytest.mark.parametrize("name", ["large", "many", "passing"])
def test_a_page_is_small_enough_to_send(name: str) -> None:
    assert len(html.render(getattr(samples, name)())) < 1 << 19


def test_ten_thousand_cases_are_rendered_within_seconds_from_json_of_a_few_megabytes() -> None:
    text = dump(samples.many())
    assert len(text) < 4 << 20
    started = time.process_time()
    assert html.render(load(text)) == html.render(samples.many())
    assert time.process_time() - started < 10
