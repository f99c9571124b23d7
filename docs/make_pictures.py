"""Make the pictures of the README and of docs/: `make pictures`.

Those of the README are what a command prints in a real run, recorded by rich at 100 columns. The hop diagrams are drawn
from the plan; `--hops` makes them alone.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from hop_diagrams import FORMS, diagram
from rich.console import Console

from siglip_verify.adapt import resolve
from siglip_verify.report import render
from siglip_verify.run import check

PICTURES = Path(__file__).parent / "pictures"
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


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    hop_diagrams()
    if sys.argv[1:] == ["--hops"]:
        sys.exit()
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
