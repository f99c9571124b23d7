"""Reports as files in one folder: each is written whole or not at all.

Here: names of formats and files, and safe writing. Not here: what stands in a file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from siglip_verify.errors import ReportFolderError, UsageError
from siglip_verify.report import html, json, jsonl, junit, markdown, trace
from siglip_verify.result import Report, StepMessages

_LEAST_SUMMARY_BYTES = 1 << 10  # in less, little but the verdict fits


class Format(NamedTuple):
    """The file that a format is written to, and what makes its bytes."""

    file_name: str
    render: Callable[[Report], bytes]


def _sample_messages(report: Report) -> bytes:
    return jsonl.dump(report.sample_step)


def _sample_trace(report: Report) -> bytes:
    return trace.dump(report.sample_step)


FORMATS: Mapping[str, Format] = {
    "html": Format("report.html", html.render),
    "json": Format("report.json", json.dump),
    "junit": Format("junit.xml", junit.render),
    "md": Format("report.md", markdown.render),
    "messages": Format("messages.jsonl", _sample_messages),
    "trace": Format("trace.json", _sample_trace),
}


def write(report: Report, formats: Iterable[str], folder: Path | str) -> list[Path]:
    """Write a result in some formats into a folder, which is made if it is not there.

    A file appears under its name only when it is complete; an earlier one of that name is replaced then. Nothing
    outside the folder is touched: where a name is a link, the link is replaced and not what it points to.

    Args:
        report: The finished result.
        formats: Names from `FORMATS`.
        folder: Where to.

    Returns:
        The files written, in the order of the formats.

    Raises:
        ValueError: A format is not known.
        ReportFolderError: The folder cannot be made or written to.
    """
    names = list(dict.fromkeys(formats))
    for name in names:
        if name not in FORMATS:
            raise UsageError(f"a report is written as one of {', '.join(FORMATS)}; got {name!r}")
    return write_files([(FORMATS[name].file_name, FORMATS[name].render(report)) for name in names], Path(folder))


def write_step(step: StepMessages, folder: Path | str) -> list[Path]:
    """Write one step's messages as events and as a trace into a folder, which is made if it is not there.

    Returns:
        The files written: `messages.jsonl` and `trace.json`.

    Raises:
        ReportFolderError: The folder cannot be made or written to.
    """
    return write_files([("messages.jsonl", jsonl.dump(step)), ("trace.json", trace.dump(step))], Path(folder))


def append_summary(report: Report, path: Path | str) -> None:
    """Append the Markdown report to a CI job summary, within what is left of the size that such a file may have.

    Args:
        report: The finished result.
        path: What GitHub Actions names in `$GITHUB_STEP_SUMMARY`.

    Raises:
        ReportFolderError: The file cannot be written.
    """
    try:
        with Path(path).open("ab") as summary:
            room = markdown.LIMIT_BYTES - summary.tell()
            if room >= _LEAST_SUMMARY_BYTES:
                summary.write(markdown.render(report, room))
    except OSError as error:
        raise ReportFolderError(
            f"a job summary needs a file that can be written; got {str(path)!r}: {error.strerror or error}; "
            "unset GITHUB_STEP_SUMMARY or name another file in it"
        ) from error


def make_folder(folder: Path) -> None:
    """Make a folder for reports if it is not there.

    Raises:
        ReportFolderError: It cannot be made, or its files not be replaced.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(None, "it cannot be written to")
    except OSError as error:
        raise _folder_error(folder, error) from error


def write_files(contents: Iterable[tuple[str, bytes]], folder: Path) -> list[Path]:
    """Write files by name into a folder, which is made if it is not there; each whole or not at all.

    Raises:
        ReportFolderError: The folder cannot be made or written to.
    """
    make_folder(folder)
    try:
        return [replace_file(folder / file_name, content) for file_name, content in contents]
    except OSError as error:
        raise _folder_error(folder, error) from error


def _folder_error(folder: Path, error: OSError) -> ReportFolderError:
    reason = error.strerror or error
    return ReportFolderError(
        f"reports need a folder that can be written; got {str(folder)!r}: {reason}; name another with --report-dir"
    )


def replace_file(path: Path, content: bytes) -> Path:
    """Write a file beside its final name and move it there in one step: whole or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    try:
        with unfinished.open("xb") as file:  # x: never through a link
            file.write(content)
        return unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
