"""The command line: arguments in, exit code out; a module for each command, and no logic of its own."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from siglip_verify.cli import interrupts

if TYPE_CHECKING:
    from siglip_verify.cli.commands import app, exit_code

__all__ = ["app", "exit_code", "main"]


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code; a Ctrl-C ends imports, too, without a traceback."""
    with interrupts.delivered():
        try:
            commands = importlib.import_module("siglip_verify.cli.commands")
        except KeyboardInterrupt:
            sys.exit(interrupts.EXIT_CODE)
        code = commands.exit_code(arguments)
    sys.exit(code)


def __getattr__(name: str) -> Any:
    if name not in ("app", "exit_code"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("siglip_verify.cli.commands"), name)
