"""The README's claims, executed.

Oracle: the README. Sees: a command, flag or snippet that does not work as written, a file that it names and is not
there.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from siglip_verify import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()

# What a reader who follows the README has in my_loss.py.
MY_LOSS = '''
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import logsigmoid

from siglip_verify.loss import SigLipLoss


def make(rank, world_size, exchange):
    return SigLipLoss(rank=rank, world_size=world_size, dist_impl=exchange)


def loss(image, text, scale, bias):
    """A sum over ranks of sums divided by N."""
    world_size = dist.get_world_size()
    return SigLipLoss(rank=dist.get_rank(), world_size=world_size)(image, text, scale, bias) / world_size


class Loss(nn.Module):
    """A loss that owns its scale, as a logarithm, and its bias."""

    def __init__(self, rank=0, world_size=1, dist_impl=None, local_loss=True):
        super().__init__()
        self.loss = SigLipLoss(rank=rank, world_size=world_size, dist_impl=dist_impl)
        self.t = nn.Parameter(torch.zeros(()))
        self.b = nn.Parameter(torch.zeros(()))

    def forward(self, image, text, scale=None, bias=None):
        own = (self.t.exp(), self.b) if scale is None else (scale, bias)
        return {"contrastive_loss": self.loss(image, text, *own)}
'''


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def commands() -> list[str]:
    lines = [line.split("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith("siglip-verify ")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_loss.py").write_text(MY_LOSS)
    return tmp_path


def is_tests(snippet: str) -> bool:
    return "def test_" in snippet


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=110, check=False)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, folder: Path, warm: None) -> None:
    """Be in the reader's folder, with settings of the environment that make a run small."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SIGLIP_VERIFY_WORLD_SIZES", "1-2")
    monkeypatch.setenv("SIGLIP_VERIFY_EXAMPLES", "4")
    monkeypatch.setenv("SIGLIP_VERIFY_EXCHANGES", "shift,gather")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("command", commands())
def test_every_command_runs_and_passes_on_a_right_loss(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.exit_code(shlex.split(command)[1:])
    shown = capsys.readouterr()
    assert code == 0, shown
    assert "PASS" in shown.out or command.split()[1] in ("messages", "simulate"), shown


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("snippet", [snippet for snippet in blocks("python") if not is_tests(snippet)])
def test_every_snippet_runs(snippet: str) -> None:
    exec(compile(snippet, "README.md", "exec"), {"__name__": "__main__"})


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("snippet", [snippet for snippet in blocks("python") if is_tests(snippet)])
def test_every_snippet_of_tests_passes(snippet: str, folder: Path) -> None:
    (folder / "test_snippet.py").write_text(snippet)
    done = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_snippet.py"], folder)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_make_target_and_file_that_it_names_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = re.findall(r"\bmake ([a-z]+)\b(?=[ `]|$)", " ".join(blocks("sh") + re.findall(r"`make [a-z]+`", README)))
    assert named
    assert set(named) <= targets
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("example", ["single_process", "output_dict", "compare_exchanges"])
def test_every_example_runs(example: str, folder: Path) -> None:
    done = run([sys.executable, "-W", "error::FutureWarning", str(ROOT / "examples" / f"{example}.py")], folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_training_step_runs_under_torchrun_and_the_loss_falls(folder: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = run([*launcher, str(ROOT / "examples" / "training_step.py")], folder)
    assert done.returncode == 0, done.stderr
    losses = [float(value) for value in re.findall(r"global loss ([\d.]+)", done.stdout)]
    assert len(losses) == 3
    assert losses == sorted(losses, reverse=True)
