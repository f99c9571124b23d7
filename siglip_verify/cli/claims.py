"""`siglip-verify claims`: what is said of the loss, checked statement by statement."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import Console

from siglip_verify.claims.ledger import check_claims
from siglip_verify.cli.exit_codes import EXIT_CODES
from siglip_verify.cli.output import Folder, ready_folder, say_written
from siglip_verify.report import claims as claims_report
from siglip_verify.report import write_files
from siglip_verify.world import Worlds

_TIMEOUT_S = 120.0


def claims(
    *,
    only: Annotated[tuple[str, ...], Parameter(help="Ids of statements; may be repeated.")] = (),
    output: Annotated[
        Literal["text", "json", "markdown"], Parameter(name="--format", help="What is printed.")
    ] = "text",
    report_dir: Annotated[Folder, Parameter(help="Write claims.json into this folder.")] = None,
) -> int:
    """Check what is said of this loss: each statement, how it was checked, and what came out.

    Holds, holds with a condition, does not hold, or cannot be checked here. Every figure is counted or measured on real
    gloo processes, or modelled, when the command runs. The comparison is a softmax loss that is distributed likewise.

    ```
    siglip-verify claims
    siglip-verify claims --only pairs-independent --only bidir-steps
    siglip-verify claims --format markdown > claims.md
    ```

    The answers are the result, whatever they are: exits with 0 when each statement has one.
    """
    ready_folder(report_dir)
    told = Console(stderr=True)
    with Worlds(timeout_s=_TIMEOUT_S) as worlds:
        ledger = check_claims(
            worlds,
            only,
            lambda row: told.print(claims_report.line(row), style="dim", markup=False, highlight=False),
        )
    if output == "text":
        claims_report.render(ledger, Console())
    else:
        print(claims_report.dump(ledger).decode() if output == "json" else claims_report.markdown(ledger), end="")
    if report_dir is not None:
        written = write_files([(claims_report.FILE_NAME, claims_report.dump(ledger))], report_dir)
        say_written(written, aside=output != "text")
    return EXIT_CODES["pass"]
