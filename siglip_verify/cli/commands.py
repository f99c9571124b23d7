"""The command line: the commands together, each imported when it is run, so that help comes at once."""

from __future__ import annotations

import contextlib
import importlib.metadata
import sys
from collections.abc import Generator

import cyclopts
from cyclopts import App, Parameter
from rich.console import Console

from siglip_verify.cli.completion import completion_of
from siglip_verify.cli.exit_codes import code_of
from siglip_verify.errors import UsageError

COMMANDS = {
    "check": "Hold a distributed loss against one device: the main job.",
    "replay": "Run one case again, as a counterexample printed it.",
    "report": "Render a finished result again, from its JSON.",
    "messages": "Count every message of one step, hop by hop.",
    "bugs": "Plant every known bug, and see it caught.",
    "train": "Train two towers in every form, beside one process.",
    "claims": "Check what is said of this loss, statement by statement.",
    "simulate": "Model the exchanges at thousands of ranks.",
    "calibrate": "Fit the simulator to the ranks that are there.",
    "bench": "Measure time and memory, as ratios.",
    "faults": "Have ranks die or hang in a step, and hold what is said of it.",
    "soak": "Judge random cases and faults for minutes; nothing may leak.",
}
"""The commands in the order in which they are wanted, each with a line for the overview, which imports none of them."""

SETTINGS_ELSEWHERE = (
    cyclopts.config.Env("SIGLIP_VERIFY_", command=False),
    cyclopts.config.Toml(
        "pyproject.toml", root_keys=("tool", "siglip_verify"), search_parents=True, use_commands_as_keys=False
    ),
)


def _default_said(value: object) -> str | None:
    """Return how help says a default; what is off or empty goes without saying."""
    if value is None or value is False or value == ():
        return None
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


app = App(
    name="siglip-verify",
    help="Prove, on real processes, that a distributed SigLIP loss computes the loss and the gradients of one device.",
    version=lambda: importlib.metadata.version("siglip_verify"),
    help_epilogue="Exit codes: 0 pass, 1 mismatch, 2 usage, 3 unknown (a rank died or hung), "
    "70 a fault of siglip-verify, 130 interrupted.",
    help_format="markdown",
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(negative=(), show_default=_default_said),
)
for _place, (_name, _help) in enumerate(COMMANDS.items()):
    app.command(
        f"siglip_verify.cli.{_name}:{_name}",
        name=_name,
        help=_help,
        sort_key=_place,
        config=SETTINGS_ELSEWHERE if _name == "check" else None,
    )
app.command(completion_of(app), sort_key=len(COMMANDS))


def exit_code(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return code_of(lambda: _run(sys.argv[1:] if arguments is None else arguments))


def _run(words: list[str]) -> int:
    for word in words:
        if not word.isascii() and word != word.encode(errors="replace").decode():  # bytes that the locale cannot read
            raise UsageError(f"words of a command are UTF-8; got {word!r}: rename what it names")
    errors = Console(stderr=True)
    with _its_own_help(words):
        return app(words, exit_on_error=False, error_console=errors, result_action="return_value") or 0


@contextlib.contextmanager
def _its_own_help(words: list[str]) -> Generator[None]:
    """Let a command, which is imported now, speak by its own docstring, which says more than the overview's line."""
    if not words or words[0] not in COMMANDS:
        yield
        return
    app[words[0]].help = None
    try:
        yield
    finally:
        app[words[0]].help = COMMANDS[words[0]]
