"""What every command does with its result: show it, write it, and turn its verdict into an exit code."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console

from siglip_verify.errors import UsageError
from siglip_verify.report import FORMATS, ConsoleListener, append_summary, render, write
from siglip_verify.report import faults as fault_report
from siglip_verify.result import Report
from siglip_verify.run.events import Listener
from siglip_verify.run.faults import Act, run_faults

EXIT_CODES = {"pass": 0, "mismatch": 1, "unknown": 3}
ALL_FORMATS = ",".join(FORMATS)


def show(go: Callable[[Listener], Report], report_dir: Path | None, reports: str) -> int:
    """Run something while showing how it goes on, then show and write what came out."""
    names = formats(reports, *FORMATS)
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
    if not 0 < timeout_s <= 86_400:
        raise UsageError(f"timeout must be more than 0 and at most 86400 seconds; got {timeout_s:g}")
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
    return names


def write_reports(result: Report, names: list[str], folder: Path) -> None:
    """Write a result in the formats named, and say where."""
    say_written(write(result, names, folder))


def say_written(paths: Iterable[Path]) -> None:
    """Say which files were written."""
    console = Console()
    for path in paths:
        console.print(f"wrote {path}", markup=False, highlight=False)
