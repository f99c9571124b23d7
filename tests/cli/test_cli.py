"""The command line: arguments in, exit code out.

Oracle: the table of exit codes. Sees: a traceback where a sentence belongs, a code that does not fit the verdict.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify import cli
from siglip_verify.cli import report
from siglip_verify.cli.commands import COMMANDS
from siglip_verify.cli.exit_codes import EXIT_CODES, FAULT_OF_OURS, INTERRUPTED, USAGE
from siglip_verify.report import dump
from tests.report import samples

pytestmark = pytest.mark.xdist_group("cli")
OURS = "siglip_verify.loss:SigLipLoss"
ROOT = Path(__file__).parents[2]
BROKEN = ROOT / "tests" / "run" / "broken.py"


def test_help_teaches_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(["--help"]) == 0
    assert "Exit codes: 0 pass, 1 mismatch, 2 usage, 3 unknown" in " ".join(capsys.readouterr().out.split())


def test_the_overview_fits_80_columns_and_begins_with_the_main_job(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.exit_code(["--help"]) == 0
    shown = capsys.readouterr().out
    rows = re.findall(r"^│ ([a-z]*) +(?:\S.*\S) +│$", shown, re.M)
    assert rows == [*COMMANDS, "completion"], "one line each, and in the order in which they are wanted"


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_import_nothing_slow(flag: str) -> None:
    script = f"""
import sys
from siglip_verify.cli import exit_code
assert exit_code([{flag!r}]) == 0
print(*{{"torch", "numpy", "hypothesis", "jinja2"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize("module", ["cyclopts", "torch"])
def test_a_ctrl_c_while_modules_are_imported_exits_130_without_a_traceback(module: str) -> None:
    script = f"""
import os, signal, sys
class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupted())
from siglip_verify.cli import main
main(["check", "--world-sizes", "0"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (130, False), done.stderr


@pytest.mark.parametrize("command", sorted(name for name in cli.app if not name.startswith("-")))
def test_the_help_of_every_command_has_examples_that_it_takes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code([command, "--help"]) == 0
    help_text = capsys.readouterr().out
    assert f"siglip-verify {command}" in help_text
    assert not re.search(r"default: (\(|False|None)|--empty-", help_text), "what is off or empty goes without saying"
    docstring = inspect.getdoc(cli.app[command].default_command)
    assert docstring
    (block,) = re.findall(r"```\n(.*?)```", docstring, re.S)
    examples = [line.partition(" # ")[0] for line in block.splitlines() if line]
    shown: list[str] = []
    for example in examples:
        *_, said = re.split(r"siglip[-_]verify ", example.partition(" > ")[0], maxsplit=1)  # also under torchrun
        words = shlex.split(said)
        cli.app.parse_args(words, exit_on_error=False, print_error=False)
        shown.append(words[0])
    assert command in shown, "help teaches by example"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_are_told_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(["completion", shell]) == 0
    script = capsys.readouterr().out
    for command in ("check", "replay", "messages", "bugs", "simulate", "report"):
        assert command in script
    assert "world-sizes" in script


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(["--version"]) == 0
    assert capsys.readouterr().out.strip() == "0.1.0"


@pytest.mark.usefixtures("warm")
def test_a_passing_check_writes_its_report_and_exits_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sought = ["--exchanges", "bidir,gather", "--world-sizes", "1-2", "--examples", "6"]
    assert cli.exit_code(["check", "--loss", OURS, *sought, "--report-dir", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "PASS" in shown
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["verdict"], report["settings"]["world sizes"]) == ("pass", "1-2")
    assert "\x1b" not in shown, "plain text where there is no terminal"


@pytest.mark.usefixtures("warm")
def test_a_mismatch_exits_1_and_its_replay_line_exits_1_again(capsys: pytest.CaptureFixture[str]) -> None:
    loss = ["--loss", f"{BROKEN}:WithoutLastHop"]
    sought = ["--exchanges", "bidir", "--world-sizes", "2", "--examples", "3", "--seed", "1", "--timeout", "30"]
    assert cli.exit_code(["check", *loss, *sought]) == 1
    shown = capsys.readouterr().out
    assert "MISMATCH" in shown
    (line,) = re.findall(r"siglip-verify (replay '.*' --loss .* --timeout 30)$", shown, re.M)
    assert cli.exit_code(shlex.split(line)) == 1
    assert line in capsys.readouterr().out, "in the time that it had"
    assert cli.exit_code(["replay", "bidir W=3 b=1 d=1", *loss]) == 0


@pytest.mark.usefixtures("warm")
def test_a_rank_that_raises_exits_3(capsys: pytest.CaptureFixture[str]) -> None:
    loss = ["--loss", f"{BROKEN}:Raising", "--exchanges", "shift", "--world-sizes", "2"]
    assert cli.exit_code(["check", *loss, "--examples", "3"]) == 3
    assert "the deliberate error" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "--loss", "nowhere.py:Loss"], "no such file"),
        (["check", "--world-sizes", "0"], "world sizes must be in 1..64"),
        (["check", "--exchanges", "ring"], "exchanges must be among"),
        (["check", "--examples", "many"], "--examples"),
        (["check", "--arg", "colour"], "--arg takes KEY=VALUE; got 'colour'"),
        (["check", "--timeout", "-1"], "timeout must be more than 0"),
        (["replay", "ring W=2"], "exchange is one of bidir, shift, reduce, gather; got exchange=ring"),
        (["replay"], "--case requires an argument"),
        (["chekc"], "chekc"),
        (["check", "--log-scale"], "--scale-parameter"),
    ],
)
def test_wrong_usage_exits_2_with_one_clear_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.exit_code(arguments) == 2
    error = capsys.readouterr().err
    assert words in " ".join(error.split())
    assert "Traceback" not in error


def test_a_fault_of_ours_exits_70_with_its_traceback_and_says_where_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def faulty(*_: object) -> None:
        raise KeyError("the deliberate fault")

    monkeypatch.setattr(report, "render", faulty)
    (tmp_path / "report.json").write_bytes(dump(samples.passing()))
    assert cli.exit_code(["report", str(tmp_path / "report.json")]) == os.EX_SOFTWARE
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert "KeyError: 'the deliberate fault'" in error
    assert "a fault of siglip-verify, and says nothing of your loss. Please report it" in error


def test_the_documents_and_the_help_name_the_same_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    cli.exit_code(["--help"])
    for text in (capsys.readouterr().out, (ROOT / "README.md").read_text()):
        said = re.search(r"Exit codes: (.*)", " ".join(text.split()))
        assert said
        codes = [int(code) for code in re.findall(r"\b(\d+) (?=pass|mismatch|usage|unknown|a fault|interr)", said[1])]
        assert codes == [*sorted([*EXIT_CODES.values(), USAGE]), FAULT_OF_OURS, INTERRUPTED]


WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
OPTIONS = st.sampled_from(
    ["--exchanges", "--world-sizes", "--examples", "--seed", "--timeout", "--loss", "--arg", "-x"]
)


@examples(60)
@given(st.sampled_from(["check", "replay", "", "report"]), st.lists(st.tuples(OPTIONS, WORDS), max_size=3))
def test_no_arguments_give_a_traceback(command: str, options: list[tuple[str, str]]) -> None:
    # A word that cannot be a setting is always among them, so no run is started.
    arguments = [command, *(word for option in options for word in option), "--profile", "none"]
    assert cli.exit_code(arguments) == 2


@pytest.mark.usefixtures("warm")
def test_settings_come_from_flags_then_environment_then_pyproject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.siglip_verify]\nworld_sizes = "1"\nexchanges = "shift"\nexamples = 3\nseed = 7\n'
    )
    monkeypatch.setenv("SIGLIP_VERIFY_EXAMPLES", "2")
    monkeypatch.setenv("SIGLIP_VERIFY_EXCHANGES", "gather")
    monkeypatch.chdir(tmp_path)
    assert cli.exit_code(["check", "--loss", OURS, "--exchanges", "bidir", "--report-dir", "out"]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["settings"]["exchanges"] == "bidir"
    assert report["settings"]["world sizes"] == "1"
    assert report["settings"]["seed"] == "7"
    assert report["cases"] == 2


def test_an_unknown_key_in_pyproject_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.siglip_verify]\nexmaples = 3\n")
    monkeypatch.chdir(tmp_path)
    assert cli.exit_code(["check", "--world-sizes", "1"]) == 2
    assert "exmaples" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        (["check", "--loss", f"{BROKEN}:Sleeping"], signal.SIGINT),
        pytest.param(["faults", "--only", "stopped"], signal.SIGTERM, marks=pytest.mark.long),
        pytest.param(["check", "--loss", f"{BROKEN}:Sleeping"], signal.SIGTERM, marks=pytest.mark.long),
        pytest.param(["faults", "--only", "stopped"], signal.SIGINT, marks=pytest.mark.long),
    ],
    ids=["check Ctrl-C", "faults SIGTERM", "check SIGTERM", "faults Ctrl-C"],
)
def test_a_command_that_is_broken_off_exits_with_130_and_leaves_nothing_behind(
    arguments: list[str], number: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "siglip_verify", *arguments, "--timeout", "60"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("siglip-verify-*/*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(3)
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)  # a terminal sends Ctrl-C to all
        try:
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
