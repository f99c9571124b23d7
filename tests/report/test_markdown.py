"""The Markdown report: readable as a CI job summary, whatever the result.

Oracle: markdown-it, a CommonMark parser, and the texts of the result. Can see: text from outside that becomes markup,
tables that fall apart, a summary that is too long for GitHub, parts left out unsaid.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from markdown_it import MarkdownIt

from siglip_verify.report import markdown
from siglip_verify.report.headline import headline
from siglip_verify.result import Report

from . import samples
from .golden import assert_golden


def parsed(report: Report) -> str:
    return MarkdownIt("commonmark").enable("table").render(markdown.render(report).decode())


def unescaped(html: str) -> str:
    return html.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")


@pytest.mark.parametrize("name", ["passing", "mismatching", "unjudged"])
def test_the_summary_reads_as_it_was_approved(name: str) -> None:
    assert_golden(f"{name}.md", markdown.render(getattr(samples, name)()).decode())


def test_the_first_heading_is_the_verdict_in_words() -> None:
    first = re.search(r"<h2>(.*?)</h2>", parsed(samples.mismatching()))
    assert first
    assert first[1] == f"❌ {headline(samples.mismatching())}"


def test_every_table_has_all_its_rows_and_cells() -> None:
    html = parsed(samples.mismatching())
    tables = [re.findall(r"<tr>(.*?)</tr>", table, re.S) for table in re.findall(r"<table>(.*?)</table>", html, re.S)]
    assert [len(rows) for rows in tables] == [17, 2, 17, 3, 2], "equivalence, by dtype, messages, bugs, right losses"
    assert {row.count("</td>") for row in tables[0][1:]} == {9}
    assert {row.count("</td>") for row in tables[1][1:]} == {7}
    assert {row.count("</td>") for row in tables[2][1:]} == {10}


def test_text_from_outside_stays_text() -> None:
    html = parsed(samples.hostile())
    assert "<script" not in html
    assert "<em>" not in html
    assert html.count(samples.HOSTILE.replace("<", "&lt;").replace(">", "&gt;")) > 10
    assert "[bold red]x[/] [/nope] \\x1b[31mred\\x1b[0m \\x00 \\u202e ]]> | ` * _ &" in unescaped(html)


def test_a_fence_is_longer_than_any_in_the_text() -> None:
    failure = samples.failures()[1]
    told = samples.msgspec.structs.replace(failure, traceback="```\n</details>\n````\nend")
    result = samples.msgspec.structs.replace(samples.unknown_result(), failures=(told,))
    html = parsed(samples.report(samples.loss(unknowns=(result,))))
    assert '<code class="language-text">```\n&lt;/details&gt;\n````\nend\n</code>' in html


@pytest.mark.parametrize("limit", [1 << 20, 40_000, 4_000, 1_000])
def test_it_never_is_longer_than_the_limit_and_says_what_is_missing(limit: int) -> None:
    whole = markdown.render(samples.large(), limit_bytes=1 << 30)
    text = markdown.render(samples.large(), limit_bytes=limit)
    assert len(text) <= limit
    assert (text == whole) == (len(whole) <= limit - 300)
    assert (b"left out for want of room" in text) == (text != whole)
    assert text.startswith(b"## ")


@given(report=samples.reports())
@samples.ANY_RESULT
def test_any_result_gives_a_summary_within_the_limit(report: Report) -> None:
    text = markdown.render(report)
    assert len(text) <= markdown.LIMIT_BYTES
    assert report.verdict.upper() in text.decode().splitlines()[0]
    html = MarkdownIt("commonmark").enable("table").render(text.decode())
    assert "<script" not in html
    assert html.count("<details>") == html.count("</details>")
