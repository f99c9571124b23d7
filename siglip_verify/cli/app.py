"""The command line: the commands together."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import NoReturn

import cyclopts
from cyclopts import App
from rich.console import Console

from siglip_verify.cli import interrupts
from siglip_verify.cli.bench import bench
from siglip_verify.cli.bugs import bugs
from siglip_verify.cli.calibrate import calibrate
from siglip_verify.cli.check import check
from siglip_verify.cli.claims import claims
from siglip_verify.cli.completion import completion_of
from siglip_verify.cli.exit_codes import code_of
from siglip_verify.cli.faults import faults
from siglip_verify.cli.launcher import on_every_rank
from siglip_verify.cli.messages import messages
from siglip_verify.cli.replay import replay
from siglip_verify.cli.report import render_again
from siglip_verify.cli.simulate import simulate
from siglip_verify.cli.soak import soak
from siglip_verify.cli.train import train
from siglip_verify.errors import UsageError

SETTINGS_ELSEWHERE = (
    cyclopts.config.Env("SIGLIP_VERIFY_", command=False),
    cyclopts.config.Toml(
        "pyproject.toml", root_keys=("tool", "siglip_verify"), search_parents=True, use_commands_as_keys=False
    ),
)

app = App(
    name="siglip-verify",
    help="Prove, on real processes, that a distributed SigLIP loss computes the loss and the gradients of one device.",
    version=lambda: importlib.metadata.version("siglip_verify"),
    help_epilogue="Exit codes: 0 pass, 1 mismatch, 2 usage, 3 unknown (a rank died or hung), "
    "70 a fault of siglip-verify, 130 interrupted.",
    help_format="markdown",
    suppress_keyboard_interrupt=False,
)
app.command(on_every_rank(check), config=SETTINGS_ELSEWHERE)
app.command(on_every_rank(replay))
app.command(on_every_rank(messages))
app.command(on_every_rank(calibrate))
for _command in (bugs, train, claims, simulate, bench, faults, soak):
    app.command(_command)
app.command(render_again, name="report")
app.command(completion_of(app))


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    with interrupts.delivered():
        code = exit_code(arguments)
    sys.exit(code)


def exit_code(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return code_of(lambda: _run(sys.argv[1:] if arguments is None else arguments))


def _run(words: list[str]) -> int:
    for word in words:
        if not word.isascii() and word != word.encode(errors="replace").decode():  # bytes that the locale cannot read
            raise UsageError(f"words of a command are UTF-8; got {word!r}: rename what it names")
    errors = Console(stderr=True)
    return app(words, exit_on_error=False, error_console=errors, result_action="return_value") or 0
