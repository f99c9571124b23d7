"""`siglip-verify calibrate`: the numbers of the machine or cluster that is there, for `simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from siglip_verify.cli.exit_codes import EXIT_CODES
from siglip_verify.cli.launcher import joined_worlds, on_every_rank
from siglip_verify.cli.output import ready_files, write_named
from siglip_verify.report import simulation as simulation_report
from siglip_verify.run.calibration import calibrate as run_calibration
from siglip_verify.simulate import dtype_named, parse_world_sizes, write_cluster
from siglip_verify.world import Worlds


@on_every_rank
def calibrate(
    *,
    output: Annotated[Path, Parameter(help="The cluster file.")] = Path("cluster.toml"),
    world_sizes: Annotated[
        str | None, Parameter(help="Where to measure, such as `2,4,8`; default: that, or a launcher's ranks.")
    ] = None,
    batch: Annotated[int, Parameter(help="Rows on each rank of the steps that are measured.")] = 64,
    dim: Annotated[int, Parameter(help="Their feature dimension.")] = 256,
    dtype: Annotated[str, Parameter(help="Of the features: `bf16`, `fp32` ...")] = "fp32",
    turns: Annotated[int, Parameter(help="How often each thing is measured.")] = 15,
    validate: Annotated[
        bool, Parameter(help="Also count what is sent, at W = 1 to 8 and as one of 1,024.", negative="--no-validate")
    ] = True,
    json: Annotated[Path | None, Parameter(help="Write every figure.")] = None,
    force: Annotated[bool, Parameter(help="Replace files that are there.")] = False,
) -> int:
    """Measure the ranks that are there, fit a cluster to them, and hold the simulator against what was measured.

    ```
    siglip-verify calibrate --output here.toml
    siglip-verify simulate --cluster here.toml --world-sizes 2-32 --dtype fp32
    torchrun --nnodes 2 --nproc-per-node 8 ... -m siglip_verify calibrate --dtype bf16
    ```

    Fitted are latency, bandwidth and the time of a call, from hops and collectives, and the time of a block. The file
    is fitted at the largest W; on one machine ranks share processors, so it holds near that W. Exits with 1 where the
    simulator sends anything else than the loss, or ranks two exchanges otherwise than they were measured.
    """
    sizes = () if world_sizes is None else parse_world_sizes(world_sizes)
    ready_files([output, json], force=force)
    told = Console(stderr=True)

    def tell(line: str) -> None:
        told.print(line, style="dim", markup=False, highlight=False)

    joined = joined_worlds()
    with joined or Worlds() as worlds:
        result = run_calibration(
            worlds,
            sizes or _usual(worlds),
            batch=batch,
            dim=dim,
            dtype=dtype_named(dtype),
            turns=turns,
            validate=validate,
            tell=tell,
        )
    console = Console()
    simulation_report.render_calibration(result, console)
    files = [(output, write_cluster(result.cluster).encode())]
    if json is not None:
        files.append((json, simulation_report.dump_calibration(result)))
    write_named(files, force=force)
    return EXIT_CODES["pass" if result.counts_are_equal and result.is_ordered_as_measured else "mismatch"]


def _usual(worlds: Worlds) -> tuple[int, ...]:
    """Return 2, 4 and 8; of a launcher's ranks one host and all."""
    if joined_worlds() is None:
        return 2, 4, 8
    return tuple(sorted({max(2, worlds.ranks_per_host), worlds.most_ranks}))
