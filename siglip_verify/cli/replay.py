"""`siglip-verify replay`: one case again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from siglip_verify import paths
from siglip_verify.adapt import LossSpec
from siglip_verify.case import EXCHANGES, parse_case
from siglip_verify.cli.launcher import joined_worlds, most_ranks, on_every_rank
from siglip_verify.cli.loss_flags import UNDECLARED, LossFlags
from siglip_verify.cli.output import Folder, show
from siglip_verify.errors import UsageError
from siglip_verify.run.settings import settings
from siglip_verify.run.whole import run_case
from siglip_verify.world.pool import DEFAULT_TIMEOUT_S


@on_every_rank
def replay(
    case: Annotated[str, Parameter(help="The line that a counterexample printed, or a file that holds it.")],
    *,
    flags: LossFlags = UNDECLARED,
    timeout: Annotated[float, Parameter(help="Seconds that a rank may take.")] = DEFAULT_TIMEOUT_S,
    report_dir: Annotated[Folder, Parameter(help="Write reports into this folder.")] = None,
    report: Annotated[str | None, Parameter(help="Which reports, with commas; default: all.")] = None,
) -> int:
    """Run one case again, as a counterexample printed it.

    ```
    siglip-verify replay 'bidir W=2 b=1 d=1 seed=0' --loss my_loss.py:SigLipLoss
    ```

    Fields that the line leaves out take their defaults. Without --loss, runs it with this package's own loss.
    """
    parsed = parse_case(_line(case))
    chosen = settings(
        flags.specs() or [LossSpec()],
        exchanges=[parsed.exchange],
        world_sizes=[parsed.world_size],
        examples=1,
        seed=parsed.seed,
        timeout_s=timeout,
        report_dir=report_dir,
        most_ranks=most_ranks(),
    )
    return show(lambda listener: run_case(chosen, parsed, listener, joined_worlds()), report_dir, report)


def _line(case: str) -> str:
    """Return the line of a case, or what stands in the file that holds it."""
    if paths.is_file(case):
        return paths.read_text(Path(case))
    first = case.split(maxsplit=1)[0] if case.strip() else ""
    if first not in EXCHANGES and not first.startswith("{") and ("/" in first or case.endswith(".txt")):
        raise UsageError(
            f"a case is its line, such as 'bidir W=2 b=1 d=1', or a file that holds it; got {case!r}: no such file"
        )
    return case
