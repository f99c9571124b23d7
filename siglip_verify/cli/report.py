"""`siglip-verify report`: a finished result, rendered again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from siglip_verify.cli.exit_codes import EXIT_CODES
from siglip_verify.cli.output import Folder, formats, write_reports
from siglip_verify.errors import UsageError
from siglip_verify.report import FORMATS, check_file, load, render


def report(
    source: Annotated[Path, Parameter(help="A report.json that an earlier run wrote.")],
    *,
    output: Annotated[str, Parameter(name="--format", help="text, or other formats, with commas.")] = "text",
    report_dir: Annotated[
        Folder, Parameter(help="Where files go; default: beside the source, where nothing is replaced.")
    ] = None,
) -> int:
    """Render a finished result again from its JSON alone, and exit with its verdict's code.

    ```
    siglip-verify report reports/report.json
    siglip-verify report reports/report.json --format html,junit --report-dir pages
    ```
    """
    try:
        text = source.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}") from None
    result = load(text)
    names = formats(output, "text", *FORMATS)
    files = [name for name in names if name != "text"]
    if report_dir is None:
        for name in files:
            check_file(source.parent / FORMATS[name].file_name, "name a folder for reports with --report-dir")
    if "text" in names:
        render(result, Console())
    write_reports(result, files, report_dir or source.parent)
    return EXIT_CODES[result.verdict]
