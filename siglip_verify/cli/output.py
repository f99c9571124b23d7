"""What every command does with its result: show it, write it, and turn its verdict into an exit code."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, Token
from rich.console import Console

from siglip_verify.cli.exit_codes import EXIT_CODES
from siglip_verify.errors import UsageError
from siglip_verify.report import (
    FORMATS,
    ConsoleListener,
    append_summary,
    check_file,
    make_folder,
    render,
    write,
    write_file,
)
from siglip_verify.report import faults as fault_report
from siglip_verify.result import Report
from siglip_verify.run.events import Listener
from siglip_verify.run.faults import Act, run_faults
from siglip_verify.run.settings import checked_seed, checked_timeout


def _folder(_: type, tokens: Sequence[Token]) -> Path:
    """Read a folder; an empty word is none, where a path would be the working directory."""
    (token,) = tokens
    if not token.value.strip():
        raise ValueError(f"a folder is needed; got {token.value!r}: name one, or leave it out (. is this one)")
    return Path(token.value)


Folder = Annotated[Path | None, Parameter(converter=_folder)]
"""A folder for reports, as a flag names it."""


def show(go: Callable[[Listener], Report], report_dir: Path | None, reports: str | None) -> int:
    """Run something while showing how it goes on, then show and write what came out; all reports, if none is named."""
    if report_dir is None and reports is not None:
        raise UsageError(f"reports are written into a folder; got --report {reports!r}: name one with --report-dir")
    names = list(FORMATS) if reports is None else formats(reports, *FORMATS)
    ready_folder(report_dir)
    console = Console()
    with ConsoleListener(console) as listener:
        result = go(listener)
    render(result, console)
    if report_dir is not None:
        write_reports(result, names, report_dir)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:  # a CI system's own file, to which every step adds
        append_summary(result, Path(summary))
    return EXIT_CODES[result.verdict]


def show_faults(acts: Iterable[Act], *, timeout_s: float, seed: int, output: str) -> int:
    """Set off faults while saying what comes of each, then show what came out."""
    checked_timeout(timeout_s)
    checked_seed(seed)
    told = Console(stderr=True)
    result = run_faults(
        acts,
        timeout_s=timeout_s,
        seed=seed,
        progress=lambda done: told.print(fault_report.line(done), style="dim", markup=False, highlight=False),
    )
    if output == "json":
        print(fault_report.dump(result).decode(), end="")
    else:
        fault_report.render(result, Console())
    return EXIT_CODES["pass" if result.passes else "mismatch"]


def formats(text: str, *known: str) -> list[str]:
    """Read names with commas, each of which must be known."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise UsageError(f"a report is written as one of {', '.join(known)}; got {name!r}")
    if not names:
        raise UsageError(f"a report is written as one of {', '.join(known)}; got none: name some, with commas")
    return names


def ready_folder(folder: Path | None) -> None:
    """Make the folder for reports, where one is named, before what stands in them is worked for."""
    if folder is not None:
        make_folder(folder)


def ready_files(paths: Iterable[Path | None], *, force: bool) -> None:
    """See, before what stands in them is worked for, that the files that are named can be written."""
    for path in paths:
        if path is not None:
            check_file(path, _mend(force))


def write_named(files: Iterable[tuple[Path, bytes]], *, force: bool) -> None:
    """Write files that were named, and say where."""
    say_written([write_file(path, content, _mend(force)) for path, content in files])


def _mend(force: bool) -> str:
    return "" if force else "name another, or replace it with --force"


def write_reports(result: Report, names: list[str], folder: Path) -> None:
    """Write a result in the formats named, and say where."""
    say_written(write(result, names, folder))


def say_written(paths: Iterable[Path], *, aside: bool = False) -> None:
    """Say which files were written; `aside`, on standard error, where standard output is a document."""
    console = Console(stderr=aside)
    for path in paths:
        console.print(f"wrote {path}", markup=False, highlight=False)
