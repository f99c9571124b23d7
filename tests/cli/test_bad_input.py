"""What nobody can run: each is one sentence with the value and the mend, and exit code 2, before any rank is started.

Oracle: the table of exit codes, and the sentence. Sees: a traceback, a file of a user's that is replaced, work that is
done before it turns out that its result cannot be written.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from siglip_verify import cli
from siglip_verify.report import dump
from siglip_verify.world import Worlds
from tests.report import samples

SMALL = ["simulate", "--world-sizes", "8"]


@pytest.fixture(autouse=True)
def _no_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("ranks were asked for")

    monkeypatch.setattr(Worlds, "_live_template", started)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code = cli.exit_code([*arguments])
    error = capsys.readouterr().err
    assert (code, "Traceback" in error) == (2, False), error
    assert error.count("\n") == 1, "one line, whatever the width"
    return error


LONG = "ä" * 150  # fewer characters than a name may have bytes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bugs", "--timeout", "-1"], "timeout must be more than 0 and at most 86400 seconds; got -1"),
        (["bugs", "--timeout", "nan"], "got nan"),
        (["bugs", "--seed", "-1"], "seed must be in 0..2**63-1; got -1"),
        (["bugs", "--quick", "--json", "--format", "markdown"], "leave one out"),
        (["calibrate", "--batch", "0"], "at least one row and one column; got batch=0"),
        (["faults", "--seed", "-1"], "seed must be in"),
        (["replay", LONG], "not a case"),
        (["replay", "bidir W=2 features=given source=nowhere.npz"], "cannot read nowhere.npz"),
        (["replay", "nowhere/case"], "or a file that holds it; got 'nowhere/case': no such file"),
        (["replay", "my cases.txt"], "got 'my cases.txt': no such file"),
        (["replay", "bidir b=0"], "b is a whole number, 1 at least and 1048576 at most; got b=0"),
        (["replay", "bidir features=given"], "got no source: add source=FILE"),
        (["replay", "bidir features=given source=a/b.txt"], "features are read from .npz or .safetensors files"),
        (["check", "--loss", f"{LONG}.py:Loss"], "no such file"),
        (["check", "--loss", "~nobody-of-that-name/loss.py:Loss"], "home directory"),
        (["check", "--features", "~nobody-of-that-name/batch.npz"], "home directory"),
        ([*SMALL[:-1], "9" * 5000], "world sizes are numbers"),
        ([*SMALL, "--json", "."], "got '.': that is no file; name one"),
        ([*SMALL, "--json", "/dev/null"], "got '/dev/null': that is no file; name one"),
        ([*SMALL, "--svg", "/dev/null/chart.svg"], "name another"),
        (["check", "--arg", "k=\udcff"], r"words of a command are UTF-8; got 'k=\udcff'"),
        (["replay", "\udcff"], "rename what it names"),
        (["report", "."], "cannot read .: Is a directory"),
        (["check", "--world-sizes", ""], "got none: name some, or leave --world-sizes out"),
        (["train", "--world-sizes", " "], "got none: name some, or leave --world-sizes out"),
        (["calibrate", "--world-sizes", ""], "world sizes are numbers"),
        (["check", "--report", "html"], "written into a folder; got --report 'html': name one with --report-dir"),
        (["replay", "bidir", "--report", ""], "written into a folder; got --report '': name one with --report-dir"),
        (["check", "--report", ",", "--report-dir", "reports"], "got none: name some, with commas"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_value_that_cannot_be_is_named(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words in refused(capsys, *arguments)


def test_a_case_is_read_from_a_text_file_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "case"
    path.write_bytes(b"bidir W=2 \xd0")
    assert f"a text file is needed; got '{path}', which is not UTF-8" in refused(capsys, "replay", str(path))


@pytest.mark.parametrize("command", ["check", "replay bidir", "messages", "train", "claims", "bench --only recording"])
def test_a_folder_that_cannot_be_made_is_named_before_the_work(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("precious")
    said = refused(capsys, *command.split(), "--report-dir", str(tmp_path / "taken"))
    assert "reports need a folder that can be written" in said
    assert "name another with --report-dir" in said
    assert (tmp_path / "taken").read_text() == "precious"


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize("command", ["check", "replay bidir", "messages", "train", "claims", "bench", "report x.json"])
def test_an_empty_word_is_no_folder(
    command: str, empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.exit_code([*command.split(), "--report-dir", empty]) == 2
    said = capsys.readouterr().err
    assert "--report-dir" in said
    assert "a folder is needed" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [[*SMALL, "--json"], [*SMALL, "--svg"], [*SMALL, "--trace"], ["calibrate", "--output"], ["calibrate", "--json"]],
    ids=lambda words: f"{words[0]} {words[-1]}",
)
def test_a_file_that_is_there_is_not_replaced_unasked(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("precious")
    said = refused(capsys, *arguments, str(mine))
    assert f"got '{mine}': there is one; name another, or replace it with --force" in said
    assert mine.read_text() == "precious"


def test_force_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    mine = tmp_path / "mine.json"
    mine.write_text("precious")
    assert cli.exit_code([*SMALL, "--json", str(mine), "--force"]) == 0
    assert mine.read_text().startswith("{")
    assert list(tmp_path.iterdir()) == [mine]
    assert cli.exit_code([*SMALL, "--json", str(tmp_path), "--force"]) == 2
    assert tmp_path.is_dir()


def test_beside_its_source_a_report_replaces_nothing_and_in_a_folder_that_is_named_it_may(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, mine = tmp_path / "report.json", tmp_path / "junit.xml"
    source.write_bytes(dump(samples.passing()))
    mine.write_text("precious")
    said = refused(capsys, "report", str(source), "--format", "html,junit")
    assert f"got '{mine}': there is one; name a folder for reports with --report-dir" in said
    assert sorted(tmp_path.iterdir()) == [mine, source], "all or none"
    assert mine.read_text() == "precious"
    assert cli.exit_code(["report", str(source), "--format", "junit", "--report-dir", str(tmp_path)]) == 0
    assert mine.read_text().startswith("<?xml")
