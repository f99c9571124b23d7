"""`siglip-verify bench`: timings and peak memory, each as a ratio."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from siglip_verify.bench.measure import Comparison
from siglip_verify.bench.published import TURNS, published
from siglip_verify.bench.whole import BENCHES, named, run_benches
from siglip_verify.cli.exit_codes import EXIT_CODES
from siglip_verify.cli.output import Folder, ready_folder, say_written
from siglip_verify.errors import UsageError
from siglip_verify.report import bench as bench_report
from siglip_verify.report import write_files


def bench(
    *,
    only: Annotated[
        tuple[str, ...],
        Parameter(help="Such as `steps`, `steps/8x64` or `steps/8x64/W4`; may be repeated."),
    ] = (),
    all: Annotated[bool, Parameter(help="Every benchmark, large sizes too: an hour or two.")] = False,  # noqa: A002
    shown: Annotated[bool, Parameter(help="Those that README and docs show; --turns is of steps.")] = False,
    turns: Annotated[int | None, Parameter(help="How often each thing is measured; default: its own number.")] = None,
    report_dir: Annotated[Folder, Parameter(help="Write bench.json and charts into this folder.")] = None,
) -> int:
    """Measure time and memory, as ratios of things that are measured in turn on this machine.

    ```
    siglip-verify bench                                    # those that take seconds: some minutes in all
    siglip-verify bench --only steps/1024x512/W4           # a step of every form, ours and open_clip's
    siglip-verify bench --only memory/1024x512 --report-dir reports
    siglip-verify bench --only recording --turns 300
    siglip-verify bench --shown --report-dir reports       # what docs/benchmarks.md shows: twenty minutes on two cores
    ```

    `steps/BxD/W`: a step of each exchange and memory mode against open_clip's, and what it sends. `memory/BxD`: peak
    memory of one step in fresh processes, for W = 2, 4, 8, 16. `local-block`: one block against its matrix products.
    `recording`: a recorded step against an unrecorded one. `warm-worlds`: a case on warm ranks against ranks that are
    started for it. Exits with 1 where a ratio is not what is required of it. A timing on loopback is never that of a
    cluster.
    """
    told = Console(stderr=True)

    def tell(news: str | Comparison) -> None:
        said = f"measuring {news} ..." if isinstance(news, str) else bench_report.line(news)
        told.print(said, style="dim", markup=False, highlight=False, soft_wrap=True)

    if shown and (only or all):
        raise UsageError(f"--shown is a set of benchmarks of its own; got --shown with {'--only' if only else '--all'}")
    ready_folder(report_dir)
    if shown:
        result = run_benches(published(TURNS if turns is None else turns), progress=tell)
    else:
        short = {name: one for name, one in BENCHES.items() if all or one.is_short}
        result = run_benches(named(only) if only else short, turns=turns, progress=tell)
    console = Console()
    bench_report.render(result, console)
    if report_dir is not None:
        files = [(bench_report.FILE_NAME, bench_report.dump(result)), *bench_report.charts(result)]
        say_written(write_files(files, report_dir))
    return EXIT_CODES["pass" if result.passes else "mismatch"]
