"""`siglip-verify bench`: timings, each a ratio."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from siglip_verify.bench import BENCHES, run_benches
from siglip_verify.cli.output import EXIT_CODES, say_written
from siglip_verify.report import bench as bench_report
from siglip_verify.report import write_files


def bench(
    names: Annotated[tuple[str, ...], Parameter(help=f"Which: {', '.join(BENCHES)}; default: all.")] = (),
    /,
    *,
    turns: Annotated[int, Parameter(help="How often each thing is measured.")] = 100,
    report_dir: Annotated[Path | None, Parameter(help="Write bench.json into this folder.")] = None,
) -> int:
    """Measure what this package costs, as ratios of things that are measured in turn on this machine.

    ```
    siglip-verify bench
    siglip-verify bench recording --turns 300 --report-dir reports
    ```

    `recording` holds a recorded step against the same step unrecorded, torch's CommDebugMode beside it; `warm-worlds`
    holds a case on warm ranks against one on ranks that are started for it. Exits with 1 where a ratio is not what is
    required of it. A timing on loopback is never that of a cluster.
    """
    told = Console(stderr=True)
    result = run_benches(
        names,
        turns=turns,
        progress=lambda done: told.print(bench_report.line(done), style="dim", markup=False, highlight=False),
    )
    console = Console()
    bench_report.render(result, console)
    if report_dir is not None:
        say_written(write_files([(bench_report.FILE_NAME, bench_report.dump(result))], report_dir))
    return EXIT_CODES["pass" if result.passes else "mismatch"]
