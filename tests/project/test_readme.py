"""The README's claims, executed.

Oracle: the README. Sees: a command, flag or snippet that does not work as written, a file that it names and is not
there.
"""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from documents import blocks, commands, is_tests, links

from siglip_verify import cli, pytest_plugin
from siglip_verify.world import Worlds

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("command", commands(README))
def test_every_command_runs_and_passes_on_a_right_loss(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.exit_code(shlex.split(command)[1:])
    shown = capsys.readouterr()
    assert code == 0, shown
    assert "PASS" in shown.out or command.split()[1] in ("messages", "simulate", "claims"), shown


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("snippet", [snippet for snippet in blocks(README, "python") if not is_tests(snippet)])
def test_every_snippet_runs(snippet: str) -> None:
    exec(compile(snippet, "README.md", "exec"), {"__name__": "__main__"})


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("snippet", [snippet for snippet in blocks(README, "python") if is_tests(snippet)])
def test_every_snippet_of_tests_passes(
    snippet: str, folder: Path, worlds: Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pytest_plugin, "_worlds_of", lambda config: worlds)
    (folder / "test_snippet.py").write_text(snippet)
    assert pytest.main(["-p", "no:cacheprovider", "-p", "no:xdist", "test_snippet.py"]) == 0


def test_it_can_be_read_in_a_few_minutes() -> None:
    written = re.sub(r"<!-- made by.*?<!-- end -->", "", README, flags=re.S)
    assert len(written.split()) < 1600, "details belong into docs/"


def test_every_make_target_and_file_that_it_names_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = re.findall(
        r"\bmake ([a-z]+)\b(?=[ `]|$)", " ".join(blocks(README, "sh") + re.findall(r"`make [a-z]+`", README))
    )
    assert named
    assert set(named) <= targets
    for link in links(README):
        assert (ROOT / link).exists(), link


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("example", ["single_process", "output_dict", "compare_exchanges"])
def test_every_example_runs(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "examples" / f"{example}.py"), run_name="__main__")
    assert capsys.readouterr().out


@pytest.mark.long  # of `make test-launched`
def test_the_training_step_runs_under_torchrun_and_the_loss_falls(folder: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, str(ROOT / "examples" / "training_step.py")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    losses = [float(value) for value in re.findall(r"global loss ([\d.]+)", done.stdout)]
    assert len(losses) == 3
    assert losses == sorted(losses, reverse=True)
