"""`siglip-verify train`: two towers trained in every form beside one process, or with known bugs planted."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from siglip_verify.cli.exit_codes import EXIT_CODES
from siglip_verify.cli.output import Folder, ready_folder, say_written
from siglip_verify.errors import UsageError
from siglip_verify.report import train as train_report
from siglip_verify.report import write_files
from siglip_verify.run.settings import parse_world_sizes
from siglip_verify.train.costs import BUGS, SEEDS, WORLD_SIZE, bug_costs
from siglip_verify.train.equality import TIMEOUT_S, prove_training
from siglip_verify.train.loop import Training
from siglip_verify.world import Worlds


def train(
    *,
    world_sizes: Annotated[
        str | None, Parameter(help=f"Numbers of ranks; default: `1,2,4`, or {WORLD_SIZE} with `--bugs`.")
    ] = None,
    steps: Annotated[int, Parameter(help="Of each training.")] = 200,
    bugs: Annotated[bool, Parameter(help="Plant known bugs, and say what each costs.")] = False,
    only: Annotated[tuple[str, ...], Parameter(help="With `--bugs`: ids of the catalogue; may be repeated.")] = (),
    seeds: Annotated[int, Parameter(help="With `--bugs`: how often each training is done, from seed 0 on.")] = len(
        SEEDS
    ),
    report_dir: Annotated[Folder, Parameter(help="Write JSON and a picture into this folder.")] = None,
) -> int:
    """Train two small towers on handwritten digits, distributed in every form, beside one process on the whole batch.

    Each exchange and memory mode trains under DistributedDataParallel on real gloo processes, in float64. After every
    step every parameter of every rank must equal that of one process, and so must the answers at the end.

    ```
    siglip-verify train
    siglip-verify train --world-sizes 2 --steps 20 --report-dir reports
    siglip-verify train --bugs --report-dir reports
    ```

    With `--bugs` the right loss and known bugs are trained over several seeds, on two tasks; what comes out is what
    each bug costs, whatever that is. The digits are scikit-learn's: install this package with its extra `train`.
    """
    if only and not bugs:
        raise UsageError("--only names bugs to plant, and goes with --bugs")
    ready_folder(report_dir)
    told = Console(stderr=True)

    def tell(line: str) -> None:
        told.print(line, style="dim", markup=False, highlight=False)

    usual = str(WORLD_SIZE) if bugs else "1,2,4"
    sizes = parse_world_sizes(usual if world_sizes is None else world_sizes)
    training = Training(steps=steps)
    console = Console()
    with Worlds(timeout_s=TIMEOUT_S) as worlds:
        if bugs:
            report = bug_costs(
                worlds,
                training,
                only=only or BUGS,
                seeds=range(seeds),
                world_size=sizes[-1],
                progress=lambda cost: tell(train_report.cost_line(cost)),
            )
            train_report.render_costs(report, console)
            code = EXIT_CODES["pass"]
        else:
            report = prove_training(worlds, training, sizes, progress=lambda run: tell(train_report.run_line(run)))
            train_report.render_equality(report, console)
            code = EXIT_CODES[report.verdict]
    if report_dir is not None:
        say_written(write_files(train_report.files(report), report_dir))
    return code
