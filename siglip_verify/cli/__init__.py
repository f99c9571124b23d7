"""The command line: arguments in, exit code out; a module for each command, and no logic of its own."""

from siglip_verify.cli.app import app, exit_code, main

__all__ = ["app", "exit_code", "main"]
