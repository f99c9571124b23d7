"""The ledger of claims on a console, as Markdown and as JSON.

Oracle: a ledger made by hand, whose words and figures must be found where they are shown. Sees: an answer beside
another statement, a figure that is left out, a text that Markdown reads as its own.
"""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from siglip_verify.claims.result import Figure, Finding, Ledger, Row
from siglip_verify.report import claims

NASTY = "a|b `c` *d* <script>alert(1)</script> \x1b[31m"


def row(name: str, answer: str, *figures: Figure, because: str = "of what was seen") -> Row:
    finding = Finding(answer=answer, because=because, figures=figures)
    return Row(id=name, says=f"{name} is so.", source="a page", how="Holds if so.", finding=finding, elapsed_s=1.5)


LEDGER = Ledger(
    rows=(
        row("one", "holds", Figure("hops, W = 3", 2.0, "", "counted"), Figure("held", 1234567.0, "bytes", "counted")),
        row("two", "holds with a condition", Figure("step", 0.012345, "s", "modelled")),
        row("three", "does not hold"),
        row("four", "not checkable here", because=NASTY),
    ),
    elapsed_s=6.0,
    environment={"python": "3.11", "torch": "2.13.0", "platform": "Linux of somebody", "back end": "gloo"},
)


@pytest.mark.parametrize("width", [80, 160])
def test_every_statement_is_shown_with_its_answer_reason_and_rule(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    claims.render(LEDGER, console)
    shown = console.file.getvalue()
    flat = " ".join(shown.split())
    assert flat.startswith(
        "4 statements checked: 1 holds, 1 holds with a condition, 1 does not hold, 1 not checkable here"
    )
    for each in LEDGER.rows:
        assert f"{each.id} {each.finding.answer} {len(each.finding.figures)}" in flat
        assert each.says in shown
    assert "\x1b" not in shown


def test_markdown_has_every_answer_and_figure_and_nothing_of_the_machine() -> None:
    page = claims.markdown(LEDGER)
    assert "| one is so. | **holds** | of what was seen |" in page
    assert "| held | 1,234,567 | bytes | counted |" in page
    assert "| step | 0.01235 | s | modelled |" in page
    assert page.count("<details>") == 2
    assert "Linux of somebody" not in page
    for escaped in (r"a\|b \`c\` \*d\*", "&lt;script&gt;"):
        assert escaped in page
    assert "\x1b" not in page
    assert page.endswith("gloo.\n")


def test_several_of_one_answer_are_counted_in_the_plural() -> None:
    more = msgspec.structs.replace(LEDGER, rows=LEDGER.rows * 2)
    assert claims.headline(more) == (
        "8 statements checked: 2 hold, 2 hold with a condition, 2 do not hold, 2 not checkable here"
    )
    assert claims.line(LEDGER.rows[1]) == "two: holds with a condition, 1.50 s"


def test_json_holds_the_whole_ledger() -> None:
    assert msgspec.json.decode(claims.dump(LEDGER), type=Ledger) == LEDGER
