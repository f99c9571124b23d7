"""Write what an exchange in two levels would win, as modelled, into docs/simulate.md: `make two-level`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from siglip_verify.report.simulation.tables import significant
from siglip_verify.simulate import PRESETS, Setup
from siglip_verify.simulate.two_level import Beside, Kept, beside

PAGE = Path(__file__).with_name("simulate.md")
BEGIN, END = "<!-- written by docs/make_two_level.py -->", "<!-- end of two levels -->"
CLUSTERS = ("h100-ib", "a100-ib", "pcie-100g", "pcie-25g")
WORLD_SIZES = (16, 24, 64, 512, 4096)
BATCH, DIM = 2048, 1152
WAYS: tuple[tuple[Kept, bool], ...] = (("autograd", False), ("autograd", True), ("constant", False), ("constant", True))


def rows() -> Iterator[tuple[str, int, list[Beside]]]:
    """Compare at every W on every cluster of several hosts, in each way."""
    for name in CLUSTERS:
        setup = Setup(cluster=PRESETS[name], batch=BATCH, dim=DIM)
        for size in WORLD_SIZES:
            yield name, size, [beside(setup, size, memory, overlap=overlap) for memory, overlap in WAYS]


def table(found: Iterable[tuple[str, int, list[Beside]]]) -> str:
    """Return the table in Markdown: a step in two levels, the best of today, and how much longer that takes."""
    heads = [f"{memory}, {'overlap' if overlap else 'in turn'}" for memory, overlap in WAYS]
    lines = ["| cluster | W | " + " | ".join(heads) + " |", "|---|--:|" + "---|" * len(WAYS)]
    for name, size, each in found:
        lines.append(f"| `{name}` | {size} | " + " | ".join(map(_said, each)) + " |")
    return "\n".join(lines)


def _said(found: Beside) -> str:
    win = f"**{found.win:+.0%}**" if found.win >= 0.1 else f"{found.win:+.0%}"
    return f"{significant(found.two_level_s * 1e3)}; {found.best} {significant(found.best_s * 1e3)}; {win}"


def write(page: str, said: str) -> str:
    """Put the table in its place on the page."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END, 1)
    return f"{before}{BEGIN}\n{said}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(write(PAGE.read_text(), table(rows())))
    print(f"wrote {PAGE}")
