"""`siglip-verify messages`: what one step sends, hop by hop."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from siglip_verify.adapt import LossSpec
from siglip_verify.case import DType, Exchange, Frozen, parse_case
from siglip_verify.cli.exit_codes import EXIT_CODES
from siglip_verify.cli.launcher import joined_worlds, most_ranks, on_every_rank
from siglip_verify.cli.loss_flags import UNDECLARED, LossFlags
from siglip_verify.cli.output import Folder, ready_folder, say_written
from siglip_verify.errors import UsageError
from siglip_verify.report import render_messages, write_step
from siglip_verify.run.messages import count_messages
from siglip_verify.run.settings import settings


@on_every_rank
def messages(
    *,
    flags: LossFlags = UNDECLARED,
    exchange: Annotated[Exchange, Parameter(help="The exchange that is shown hop by hop.")] = "bidir",
    world_size: Annotated[int, Parameter(help="Number of ranks.")] = 4,
    batch: Annotated[int, Parameter(help="Rows of images and of texts on each rank.")] = 8,
    dim: Annotated[int, Parameter(help="Numbers in a row.")] = 64,
    dtype: Annotated[DType, Parameter(help="Dtype of the features.")] = "float32",
    frozen: Annotated[Frozen, Parameter(help="The tower that needs no gradient.")] = "none",
    timeout: Annotated[float, Parameter(help="Seconds that a rank may take for one step.")] = 20.0,
    report_dir: Annotated[Folder, Parameter(help="Write messages.jsonl and trace.json into this folder.")] = None,
) -> int:
    """Count every message of one step: who sends what to whom in each hop, and what it costs on the wire.

    One forward and one backward are run on real gloo processes. Each operation is recorded as it is posted (*counted*),
    the kernel says what the sockets sent (*measured*), the plan says what should be sent (*modelled*). The other three
    exchanges are run beside it.

    ```
    siglip-verify messages --world-size 5
    siglip-verify messages --exchange gather --batch 64 --dim 512 --dtype bfloat16
    siglip-verify messages --loss open_clip --report-dir reports
    torchrun --standalone --nproc-per-node 4 -m siglip_verify messages
    ```

    A fault in the messages has a name, such as `unmatched-send`, and exits with 1; the numbers of the loss are not
    judged here, `check` does that. messages.jsonl holds one event a line; trace.json opens in ui.perfetto.dev.
    """
    case = parse_case(
        f"{exchange} W={world_size} b={batch} d={dim} dtype={dtype} frozen={frozen} seed=1"  # which checks each value
    )
    specs = flags.specs() or [LossSpec()]
    if len(specs) > 1:
        raise UsageError(f"messages are counted of one loss; got {len(specs)} times --loss")
    chosen = settings(
        specs,
        exchanges=[exchange],
        world_sizes=[world_size],
        examples=1,
        timeout_s=timeout,
        most_ranks=most_ranks(),
    )
    ready_folder(report_dir)
    report = count_messages(chosen, case, joined_worlds())
    console = Console()
    render_messages(report, console)
    if report_dir is not None:
        say_written(write_step(report.step, report_dir))
    return EXIT_CODES[report.verdict]
