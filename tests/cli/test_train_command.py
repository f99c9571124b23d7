"""`siglip-verify train` on real processes, from arguments to exit code, output and files.

Oracle: the table of exit codes, and the finished result in the file. Sees: an argument that does not reach the
training, a mismatch that does not reach the exit code.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from siglip_verify import cli
from siglip_verify.train import equality
from siglip_verify.train.jobs import FORMS
from siglip_verify.train.result import CostReport, EqualityReport

pytestmark = [pytest.mark.xdist_group("cli"), pytest.mark.usefixtures("warm")]


def train(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.exit_code(["train", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, " ".join(printed.err.split())


def test_a_training_that_equals_one_process_exits_0_and_writes_what_it_found(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, told = train(capsys, "--world-sizes", "2", "--steps", "2", "--report-dir", str(tmp_path))
    assert code == 0
    assert out.startswith("PASS: 8 forms at W = 2 train as one process")
    assert all(f"W = 2, {form}: " in told for form in FORMS)
    report = msgspec.json.decode((tmp_path / "train.json").read_bytes(), type=EqualityReport)
    assert (len(report.runs), report.training.steps) == (8, 2)
    assert (tmp_path / "train.svg").read_text().startswith("<svg")


def test_a_training_that_differs_exits_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equality, "BOUND", 0.0)
    code, out, _ = train(capsys, "--world-sizes", "2", "--steps", "2")
    assert (code, out.split(":")[0]) == (1, "MISMATCH")


def test_bugs_that_are_named_are_trained_beside_the_right_loss(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["--bugs", "--only", "self-negative", "--seeds", "1", "--steps", "2", "--world-sizes", "2"]
    code, out, told = train(capsys, *arguments, "--report-dir", str(tmp_path))
    assert code == 0
    assert out.startswith("1 planted bug beside the right loss, W = 2, 1 seed")
    assert "self-negative: right answers by seed: names" in told
    report = msgspec.json.decode((tmp_path / "costs.json").read_bytes(), type=CostReport)
    assert [cost.bug for cost in report.costs] == ["", "self-negative"]
    assert (tmp_path / "costs.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--world-sizes", "3"], "got W = 3: take a divisor of 128"),
        (["--steps", "0"], "at least one step; got steps=0"),
        (["--bugs", "--only", "gremlin"], "got 'gremlin'"),
        (["--bugs", "--seeds", "0"], "at least one seed"),
        (["--only", "self-negative"], "goes with --bugs"),
    ],
)
def test_wrong_usage_exits_2(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    code, out, told = train(capsys, *arguments)
    assert (code, out) == (2, "")
    assert words in told


def test_the_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = train(capsys, "--help")
    assert code == 0
    for words in ("siglip-verify train --bugs", "DistributedDataParallel", "scikit-learn"):
        assert words in out
