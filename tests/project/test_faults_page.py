"""The page of faults, which `make faults` and `make faults-in-a-row` write.

Oracle: the kinds of fault as they are, results written by hand. Sees: a kind, exchange or W without its row, a page
that shows a wrong verdict or a leak; a script that hides one.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from siglip_verify.case import EXCHANGES, Case
from siglip_verify.fault import EXPECTED, KINDS, Fault, FaultOutcome, FaultReport, Leak

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "faults.md").read_text()


@pytest.fixture(scope="module")
def script() -> ModuleType:
    sys.path.insert(0, str(DOCS))  # it takes its table from the script beside it
    try:
        spec = importlib.util.spec_from_file_location("make_faults", DOCS / "make_faults.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(DOCS))
    return module


def rows(name: str, page: str = PAGE) -> list[list[str]]:
    table = page.split(f"<!-- {name} -->")[1].split(f"<!-- end of {name} -->")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_kind_at_every_exchange_and_world_size_is_as_it_must_be() -> None:
    shown = {(row[0].strip("`"), row[1], int(row[2])): row[5:] for row in rows("matrix")}
    assert set(shown) == {(kind, exchange, size) for kind in KINDS for exchange in EXCHANGES for size in (2, 3, 4)}
    for (kind, *_), (verdict, names_rank, names_hop, seconds, left) in shown.items():
        expected = EXPECTED[kind].verdicts or ("all gone",)  # type: ignore[index]
        assert verdict in expected, kind
        named = "-" if verdict in ("pass", "all gone") else "yes"
        assert (names_rank, names_hop, left) == (named, named, "nothing"), kind
        assert float(seconds) < 1.5 + 5, kind


def test_two_hundred_faults_in_a_row_left_nothing() -> None:
    said = PAGE.split("<!-- in-a-row -->")[1]
    assert said.startswith("\n**PASS: 200 faults")
    assert "0 wrong, leaks: none" in said


# ------------------------------------------------------------------ the script
OUTCOME = FaultOutcome(
    fault=Fault(kind="killed", rank=1, phase="backward", hop=0),
    case=Case(exchange="shift", world_size=3),
    verdict="unknown",
    said="rank 1",
    elapsed_s=1.25,
    names_rank=True,
    names_hop=True,
    wrong=(),
)
REPORT = FaultReport(
    outcomes=(OUTCOME,),
    cases=7,
    wrong_cases=(),
    rebuilt=2,
    leaks=(Leak(what="processes", before=0, after=0),),
    seed=5,
    timeout_s=1.5,
    elapsed_s=9.0,
)


def test_a_fault_is_a_row_with_what_was_said_of_it(script: ModuleType) -> None:
    row = ["`killed`", "shift", "3", "1", "backward hop 0", "unknown", "yes", "yes", "1.25", "nothing"]
    assert rows("matrix", script.written(PAGE, "matrix", REPORT)) == [row]


def test_what_is_wrong_or_left_is_shown(script: ModuleType) -> None:
    wrong = msgspec.structs.replace(
        OUTCOME, names_hop=False, left=("a | file",), wrong=("does not name <it>", "a | file")
    )
    page = script.written(PAGE, "matrix", msgspec.structs.replace(REPORT, outcomes=(wrong,)))
    assert "unknown, WRONG: does not name &lt;it&gt;; a \\| file | yes | NO | 1.25 | a \\| file |" in page


def test_each_table_leaves_the_other_as_it_is(script: ModuleType) -> None:
    page = script.written(script.written(PAGE, "matrix", REPORT), "in-a-row", REPORT)
    assert rows("matrix", page) == rows("matrix", script.written(PAGE, "matrix", REPORT))
    assert rows("in-a-row", page)[0] == ["`killed`: is killed by SIGKILL", "1", "0", "1.25"]
    assert script.written(page, "in-a-row", REPORT) == page
