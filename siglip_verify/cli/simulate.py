"""`siglip-verify simulate`: the exchanges at thousands of ranks, modelled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from siglip_verify.cli.exit_codes import EXIT_CODES
from siglip_verify.cli.output import ready_files, write_named
from siglip_verify.report import simulation as simulation_report
from siglip_verify.simulate import (
    PRESETS,
    Algorithm,
    Setup,
    cluster_named,
    dtype_named,
    memory_modes,
    parse_world_sizes,
    timelines,
)
from siglip_verify.simulate import simulate as run_simulation


def simulate(
    *,
    cluster: Annotated[
        str, Parameter(help=f"{', '.join(f'`{name}`' for name in PRESETS)}, or the path of one's own .toml file.")
    ] = "h100-ib",
    world_sizes: Annotated[str, Parameter(help="`8-4096` for its powers of two, or `24,48`.")] = "8-4096",
    batch: Annotated[int, Parameter(help="Rows on each rank, b.")] = 2048,
    dim: Annotated[int, Parameter(help="Feature dimension, d.")] = 1152,
    dtype: Annotated[str, Parameter(help="Of the features: `bf16`, `fp32` ...")] = "bf16",
    collective: Annotated[Algorithm | None, Parameter(help="Default: the fastest for each.")] = None,
    memory: Annotated[str, Parameter(help="What is kept until backward, with commas; also `chunked`, `recompute`.")] = (
        "autograd,constant"
    ),
    chunk_size: Annotated[int, Parameter(help="Rows of logits held at once; 0: what fits a cache.")] = 0,
    overlap: Annotated[bool, Parameter(help="Also each form with overlap=True.")] = False,
    trace: Annotated[Path | None, Parameter(help="Write a timeline for ui.perfetto.dev.")] = None,
    svg: Annotated[Path | None, Parameter(help="Write charts.")] = None,
    json: Annotated[Path | None, Parameter(help="Write every figure.")] = None,
    force: Annotated[bool, Parameter(help="Replace files that are there.")] = False,
) -> int:
    """Model what each exchange costs at thousands of ranks, from the plan that real runs are checked against.

    ```
    siglip-verify simulate --world-sizes 8-4096 --batch 2048 --dim 1152 --dtype bf16 --cluster h100-ib
    siglip-verify simulate --cluster my-cluster.toml --memory autograd,chunked --svg charts.svg --trace trace.json
    ```

    For each exchange and W: time, exposed communication, bytes, memory, and which is fastest. Everything is modelled;
    docs/simulate.md says how, and where it ends.
    """
    ready_files([trace, svg, json], force=force)
    setup = Setup(
        cluster=cluster_named(cluster),
        batch=batch,
        dim=dim,
        dtype=dtype_named(dtype),
        chunk_size=chunk_size,
        collective=collective,
    )
    result = run_simulation(setup, parse_world_sizes(world_sizes), memory_modes(memory), overlap=overlap)
    files = [
        *([(json, simulation_report.dump(result))] if json else []),
        *([(svg, simulation_report.charts(result))] if svg else []),
        *([(trace, simulation_report.trace(setup, timelines(result)))] if trace else []),
    ]
    console = Console()
    simulation_report.render(result, console)
    write_named(files, force=force)
    return EXIT_CODES["pass" if result.proved else "mismatch"]
