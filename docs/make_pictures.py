"""Make the pictures of the README and of docs/: `make pictures`.

Screens are what a command prints in a real run, recorded by rich at 100 columns; what a reader can do without is cut
out, and how many lines that are is said. The hop diagrams are drawn from the plan. Charts are drawn from every
bench.json in and below reports/, so that benchmarks which take long can be run one by one, each into a folder of its
own. `--screens`, `--hops` or `--charts` makes those alone.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from hop_diagrams import FORMS, diagram
from rich.console import Console
from rich.text import Text

from siglip_verify.adapt import resolve
from siglip_verify.bench.measure import BenchReport
from siglip_verify.report import render
from siglip_verify.report.bench import charts as draw
from siglip_verify.run.whole import check

PICTURES = Path(__file__).parent / "pictures"
REPORTS = Path(__file__).parents[1] / "reports"
COLUMNS = 100
BROKEN = ("                if remainder:\n", "                if False:\n")  # bidir's last single hop is gone


Part = tuple[str, str]
"""Lines that are shown, from the first that the one pattern is found in to the next that the other is found in."""


def picture(name: str, title: str, parts: Sequence[Part], **arguments: object) -> None:
    """Run a check and write what it prints, parts of it."""
    printed = io.StringIO()
    render(check(**arguments), Console(width=COLUMNS, file=printed, force_terminal=True, color_system="standard"))
    here = f"{Path.cwd()}/"  # a reader has the loss in the folder where he is
    shown = printed.getvalue().replace(here, "").replace(f"{Path.cwd().name}/", "")
    lines = [Text.from_ansi(line) for line in shown.splitlines()]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for line in excerpt(lines, parts):
        line.rstrip()
        console.print(line, overflow="fold")
    console.save_svg(str(PICTURES / f"{name}.svg"), title=title)


def excerpt(lines: Sequence[Text], parts: Sequence[Part]) -> Iterator[Text]:
    """Keep the parts, in order, and say how many lines were cut out between them."""
    at = 0
    for first, last in parts:
        begin = next(index for index in range(at, len(lines)) if re.search(first, lines[index].plain))
        end = next(index for index in range(begin, len(lines)) if re.search(last, lines[index].plain)) + 1
        if begin > at:
            yield from (Text(""), Text(f"  ... {begin - at} lines", style="dim"), Text(""))
        yield from lines[begin:end]
        at = end


def broken_copy(folder: Path) -> None:
    """Copy open_clip's loss file and break it in one place."""
    source = Path(resolve("open_clip").rpartition(":")[0]).read_text()
    assert source.count(BROKEN[0]) == 1
    (folder / "my_loss.py").write_text(source.replace(*BROKEN))


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
        [("^PASS", "chunk="), ("^PASS", "^PASS")],
        loss="siglip_verify.loss:SigLipLoss",
        world_sizes="1-4",
        seed=0,
    )
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        broken_copy(Path(folder))
        picture(
            "broken",
            "siglip-verify check --loss my_loss.py:SigLipLoss --exchanges bidir --world-sizes 1-5",
            [
                ("^MISMATCH", "^  bidir +5"),
                ("Counterexample", "left: images"),
                ("^    replay", "siglip-verify replay"),
                ("^MISMATCH", "^MISMATCH"),
            ],
            loss="my_loss.py:SigLipLoss",
            exchanges=["bidir"],
            world_sizes="1-5",
            seed=0,
        )


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    if sys.argv[1:] in ([], ["--hops"]):
        hop_diagrams()
    if not sys.argv[1:] or sys.argv[1:] == ["--screens"]:
        screens()
    if sys.argv[1:] in ([], ["--charts"]):
        charts()
