"""Make the pictures of the README and of docs/: `make pictures`.

Screens are what a command prints in a real run, recorded by rich at 100 columns. The hop diagrams are drawn from the
plan; `--hops` makes them alone. Charts are drawn from every bench.json in and below reports/, so that benchmarks which
take long can be run one by one, each into a folder of its own; `--charts` makes them alone.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import msgspec
from hop_diagrams import FORMS, diagram
from rich.console import Console

from siglip_verify.adapt import resolve
from siglip_verify.bench import BenchReport
from siglip_verify.report import render
from siglip_verify.report.bench import charts as draw
from siglip_verify.run import check

PICTURES = Path(__file__).parent / "pictures"
REPORTS = Path(__file__).parents[1] / "reports"
BROKEN = ("                if remainder:\n", "                if False:\n")  # bidir's last single hop is gone


def picture(name: str, title: str, **arguments: object) -> None:
    """Run a check and write what it prints."""
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    render(check(**arguments), console)
    console.save_svg(str(PICTURES / f"{name}.svg"), title=title)


def broken_copy(folder: Path) -> Path:
    """Copy open_clip's loss file and break it in one place."""
    source = Path(resolve("open_clip").rpartition(":")[0]).read_text()
    assert source.count(BROKEN[0]) == 1
    path = folder / "my_loss.py"
    path.write_text(source.replace(*BROKEN))
    return path


def hop_diagrams() -> None:
    """Draw every form of every exchange."""
    for name in FORMS:
        (PICTURES / f"hops-{name}.svg").write_bytes(diagram(name))


def charts() -> None:
    """Draw what was measured by the benchmarks, all runs together."""
    runs = [msgspec.json.decode(file.read_bytes(), type=BenchReport) for file in sorted(REPORTS.rglob("bench.json"))]
    if not runs:
        raise SystemExit(
            f"charts are drawn from what make bench measured; got no bench.json in {REPORTS}: run it first"
        )
    together = msgspec.structs.replace(runs[0], comparisons=tuple(one for run in runs for one in run.comparisons))
    for name, content in draw(together):
        (PICTURES / name).write_bytes(content)


def screens() -> None:
    """Run checks and show what they print."""
    picture(
        "check",
        "siglip-verify check --loss siglip_verify.loss:SigLipLoss --world-sizes 1-4",
        loss="siglip_verify.loss:SigLipLoss",
        world_sizes="1-4",
        seed=0,
    )
    with tempfile.TemporaryDirectory(prefix="example-", dir="/tmp") as folder:
        picture(
            "broken",
            "siglip-verify check --loss my_loss.py:SigLipLoss --exchanges bidir --world-sizes 1-5",
            loss=f"{broken_copy(Path(folder))}:SigLipLoss",
            exchanges=["bidir"],
            world_sizes="1-5",
            seed=0,
        )


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    if sys.argv[1:] != ["--charts"]:
        hop_diagrams()
    if not sys.argv[1:]:
        screens()
    if sys.argv[1:] != ["--hops"]:
        charts()
