"""`siglip-verify check`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from siglip_verify.cli.launcher import joined_worlds, most_ranks, on_every_rank, usual_world_sizes
from siglip_verify.cli.loss_flags import UNDECLARED, LossFlags
from siglip_verify.cli.output import Folder, show
from siglip_verify.run.settings import settings
from siglip_verify.run.whole import run
from siglip_verify.world.pool import DEFAULT_TIMEOUT_S


@on_every_rank
def check(
    *,
    flags: LossFlags = UNDECLARED,
    exchanges: Annotated[str, Parameter(help="Which exchanges, with commas.")] = "bidir,shift,reduce,gather",
    world_sizes: Annotated[
        str | None, Parameter(help="Numbers of ranks, such as `2,4`; default: `1-8`, or a launcher's.")
    ] = None,
    examples: Annotated[int | None, Parameter(help="Cases for each exchange; default: the profile's.")] = None,
    profile: Annotated[Literal["dev", "ci", "nightly"], Parameter(help="How much to check.")] = "dev",
    seed: Annotated[int | None, Parameter(help="Where the draws start; default: a new one, shown.")] = None,
    timeout: Annotated[float, Parameter(help="Seconds that a rank may take for one case.")] = DEFAULT_TIMEOUT_S,
    features: Annotated[Path | None, Parameter(help="A batch of your own: .npz or .safetensors.")] = None,
    bugs: Annotated[Literal["none", "quick", "all"], Parameter(help="Known bugs to plant, to see them caught.")] = (
        "none"
    ),
    report_dir: Annotated[Folder, Parameter(help="Write reports into this folder.")] = None,
    report: Annotated[str | None, Parameter(help="Which reports, with commas; default: all.")] = None,
) -> int:
    """Hold a distributed loss against a single-device float64 oracle, on real gloo processes.

    Started by a launcher, such as `torchrun`, it joins the ranks that are there (docs/clusters.md).

    Without `--loss`, checks this package's own loss, and open_clip's beside it where that is installed.

    ```
    siglip-verify check
    siglip-verify check --loss my_loss.py:SigLipLoss --exchanges bidir --world-sizes 2-5
    siglip-verify check --loss my_pkg.loss:SigLipLoss --arg local_loss=true --examples 500
    siglip-verify check --bugs quick --report-dir reports --report html,json
    torchrun --standalone --nproc-per-node 4 -m siglip_verify check
    ```

    Every setting may also stand in the environment (`SIGLIP_VERIFY_WORLD_SIZES=1-4`) or in `[tool.siglip_verify]` of
    pyproject.toml; flags come first, then the environment, then the file. A features file holds image_features and
    text_features [N, d], logit_scale (exponentiated) and logit_bias; it is checked at every W that divides N.
    """
    chosen = settings(
        flags.specs(),
        exchanges=[name.strip() for name in exchanges.split(",") if name.strip()],
        world_sizes=usual_world_sizes() if world_sizes is None else world_sizes,
        examples=examples,
        profile=profile,
        seed=seed,
        timeout_s=timeout,
        report_dir=report_dir,
        features=features,
        bugs=bugs,
        most_ranks=most_ranks(),
    )
    return show(lambda listener: run(chosen, listener, joined_worlds()), report_dir, report)
