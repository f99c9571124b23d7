"""`siglip-verify claims` on real processes, from arguments to exit code, output and file.

Oracle: the finished ledger that is printed as JSON. Sees: a statement that is not run, a format that is not the one
asked for.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from siglip_verify import cli
from siglip_verify.claims.result import Ledger

pytestmark = [pytest.mark.xdist_group("cli"), pytest.mark.usefixtures("warm")]
QUICK = ["--only", "shift-slightly-slower", "--only", "bidir-most-efficient"]


def claims(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.exit_code(["claims", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, " ".join(printed.err.split())


def test_what_is_asked_for_is_checked_and_told_as_it_goes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, told = claims(capsys, *QUICK, "--format", "json", "--report-dir", str(tmp_path))
    assert code == 0
    ledger = msgspec.json.decode(out, type=Ledger)
    assert [row.id for row in ledger.rows] == ["shift-slightly-slower", "bidir-most-efficient"]
    assert all(row.finding.figures for row in ledger.rows)
    assert told.startswith("shift-slightly-slower: ")
    assert "wrote " in told
    assert msgspec.json.decode((tmp_path / "claims.json").read_bytes(), type=Ledger) == ledger


@pytest.mark.parametrize(
    ("output", "begin"), [("text", "1 statement checked: "), ("markdown", "# What is said of this loss")]
)
def test_each_format_is_its_own(capsys: pytest.CaptureFixture[str], output: str, begin: str) -> None:
    code, out, _ = claims(capsys, *QUICK[:2], "--format", output)
    assert (code, out[: len(begin)]) == (0, begin)


def test_a_statement_that_is_not_there_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, told = claims(capsys, "--only", "all-is-well")
    assert (code, out) == (2, "")
    assert "a statement is one of bidir-steps" in told


def test_the_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = claims(capsys, "--help")
    assert code == 0
    for words in ("siglip-verify claims --only pairs-independent", "softmax", "holds with a condition"):
        assert words.lower() in out.lower()
