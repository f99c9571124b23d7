"""Time and peak memory of a step against W, as SVG files: one chart a size (see `log_chart`).

Shown are open_clip's exchanges, ours with autograd and in constant memory, and the floor of the computation; overlap
and recompute stand in the tables.
"""

from __future__ import annotations

from collections.abc import Iterator

from siglip_verify.bench.measure import BenchReport, Comparison, Setup
from siglip_verify.report.log_chart import Panel, Series, document

_UNITS = {"steps": ("ms, measured", 1e-3, "Time"), "memory": ("MiB, measured", float(1 << 20), "Peak memory")}
_DASHES = {"open_clip": "6 3", "ours": "", "constant": "2 3"}
_FLOOR, _LEFT_OUT = "products", ("overlap", "recompute", "again")


def charts(report: BenchReport) -> Iterator[tuple[str, bytes]]:
    """Draw what was measured at two values of W or more: names of files and their content."""
    for family, (unit, scale, title) in _UNITS.items():
        panels = [Panel(name, unit, lines) for name, lines in _panels(report, family, scale)]
        if panels:
            said = f"{title} of one step, float32, gloo on loopback"
            text = f"{said}: a line a form, against W"
            yield f"bench-{family}.svg", document(said, text, panels, "{:,.3g}".format, columns=2)


def _panels(report: BenchReport, family: str, scale: float) -> Iterator[tuple[str, list[Series]]]:
    """List the sizes measured, each with its lines."""
    by_size: dict[tuple[int, int], list[tuple[Setup, Comparison]]] = {}
    for comparison in report.comparisons:
        setup = comparison.setup
        if setup is not None and comparison.name.startswith(f"{family}/"):
            by_size.setdefault((setup.batch, setup.dim), []).append((setup, comparison))
    for (batch, dim), measured in by_size.items():
        if len(measured) > 1:
            yield f"b = {batch}, d = {dim}", _series(measured, scale)


def _series(measured: list[tuple[Setup, Comparison]], scale: float) -> list[Series]:
    names = [contestant.name for contestant in measured[0][1].contestants]
    return [
        Series(
            name,
            "floor" if name == _FLOOR else name.split()[1].rstrip(","),
            "1 2" if name == _FLOOR else _DASHES["constant" if name.endswith("constant") else name.split()[0]],
            sorted(
                (setup.world_size, contestant.median / scale)
                for setup, comparison in measured
                for contestant in comparison.contestants
                if contestant.name == name
            ),
        )
        for name in names
        if not name.endswith(_LEFT_OUT)
    ]
