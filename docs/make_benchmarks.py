"""Make docs/bench.json, docs/benchmarks.md, the README's table and the charts from one run: `make bench-all`.

The first argument is the `bench.json` that the run wrote. docs/bench.json is its digest, every value of every turn left
out; all that is shown is made from it. Without an argument the rest is made anew from the digest that is there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from siglip_verify.bench.measure import BenchReport, Comparison, Contestant, Ratio
from siglip_verify.report import bench as bench_report

ROOT = Path(__file__).parents[1]
DIGEST = Path("docs/bench.json")
PAGES = (Path("README.md"), Path("docs/benchmarks.md"))
PICTURES = Path("docs/pictures")
BEGIN, END = "<!-- made by `make bench-all` -->\n", "<!-- end -->\n"
FLAT = ("open_clip bidir", "ours bidir", "ours bidir, constant", "ours shift, constant")
_MIB = 1 << 20


def digest(report: BenchReport) -> BenchReport:
    """Return a report without the values of single turns."""
    comparisons = [
        msgspec.structs.replace(
            comparison,
            contestants=tuple(msgspec.structs.replace(each, values=()) for each in comparison.contestants),
        )
        for comparison in report.comparisons
    ]
    return msgspec.structs.replace(report, comparisons=tuple(comparisons))


def files(report: BenchReport, pages: dict[Path, str]) -> dict[Path, bytes]:
    """Return what is made from a digest, pages with their part between the marks replaced.

    Args:
        report: The digest.
        pages: The pages as they are.
    """
    parts = dict(zip(PAGES, (summary(report), details(report)), strict=True))
    made = {path: between(page, parts[path]).encode() for path, page in pages.items()}
    return {**made, **{PICTURES / name: drawn for name, drawn in bench_report.charts(report)}}


def between(page: str, part: str) -> str:
    """Put a part between the marks of a page."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END, 1)
    return f"{before}{BEGIN}\n{part}\n{END}{after}"


# ------------------------------------------------------------------ the README's part
def summary(report: BenchReport) -> str:
    """Return peak memory and the ratios of time, W by W, and how they were measured."""
    return "\n".join(
        [headline(report), "", *_memory(report), "", *_times(report), "", *_others(report), "", _run(report)]
    )


def headline(report: BenchReport) -> str:
    """Say what was required and met."""
    return f"**{bench_report.headline(report)}** ([all of it](docs/benchmarks.md))"


def _memory(report: BenchReport) -> Iterator[str]:
    found = {one.setup.world_size: one for one in _of(report, "memory/1024x512") if one.setup is not None}
    yield from _head("peak of one step at b = 1024, d = 512, MiB", (f"W = {size}" for size in found))
    for name in FLAT:
        yield _row(name, (_mib(contestant(one, name).median) for one in found.values()))


def _times(report: BenchReport) -> Iterator[str]:
    """One line a size and form, the ratio to open_clip's same exchange (autograd) or bidir (constant)."""
    found = {(one.setup.batch, one.setup.dim): {} for one in _of(report, "steps") if one.setup is not None}
    for one in _of(report, "steps"):
        assert one.setup is not None
        for ratio in one.ratios:
            if "products" not in ratio.of:
                by_size = found[one.setup.batch, one.setup.dim]
                by_size.setdefault(ratio.of, {})[one.setup.world_size] = ratio
    sizes = sorted({size for lines in found.values() for by_w in lines.values() for size in by_w})
    yield from _head("time of a step, as a share", (f"W = {size}" for size in sizes))
    for (batch, dim), lines in found.items():
        for (of, over), by_w in lines.items():
            cells = (_said(by_w[size]) if size in by_w else "" for size in sizes)
            yield _row(f"({batch}, {dim}): {of} / {over}", cells)


def _others(report: BenchReport) -> Iterator[str]:
    yield from _head("what else", ("ratio", "required"))
    for name in ("local-block", "warm-worlds", "recording"):
        for comparison in _of(report, name):
            for ratio in comparison.ratios:
                yield _row(f"{comparison.name}: {' / '.join(ratio.of)}", (_said(ratio), required(ratio)))


def _run(report: BenchReport) -> str:
    load = "" if report.load is None else f", load {report.load[0]:.1f} before and {report.load[1]:.1f} after"
    said = ", ".join(f"{name} {value}" for name, value in report.environment.items())
    turns = min((each.turns for one in _of(report, "steps") for each in one.contestants), default=0)
    took = f"{report.started_at}, {report.elapsed_s / 60:.0f} minutes, each step {turns} times or more"
    return f"One run, {took}; {said}{load}."


# ------------------------------------------------------------------ the page
def details(report: BenchReport) -> str:
    """Return every comparison: contestants, what they send, and ratios with what is required of them."""
    return "\n".join([_run(report), *(line for one in report.comparisons for line in _comparison(one))])


def _comparison(comparison: Comparison) -> Iterator[str]:
    yield from ("", f"## {comparison.name}", f"{comparison.what[0].upper()}{comparison.what[1:]}.", "")
    yield from _head("contestant", ("median", "turns", "messages", "collectives", "payload, B", "wire, B", "required"))
    for each in comparison.contestants:
        yield _row(each.name, (bench_report.said(each.median, each.unit), each.turns, *_traffic(each), _limit(each)))
    yield ""
    yield from _head("ratio, turn by turn", ("median (95 % interval)", "required"))
    for ratio in comparison.ratios:
        yield _row(" / ".join(ratio.of), (_said(ratio), required(ratio)))


def required(ratio: Ratio) -> str:
    """Say what is required of a ratio, and whether it is met."""
    return bench_report.required(ratio)


def _traffic(each: Contestant) -> tuple[object, ...]:
    sent = each.traffic
    if sent is None:
        return ("",) * 4
    wire = "" if sent.wire_bytes is None else f"{sent.wire_bytes:,}"
    return sent.messages, sent.collectives, f"{sent.payload_bytes:,}", wire


def _limit(each: Contestant) -> str:
    if each.limit is None:
        return ""
    return f"at most {bench_report.said(each.limit, each.unit)}: {'met' if each.is_met else 'MISSED'}"


# ------------------------------------------------------------------ words
def contestant(comparison: Comparison, name: str) -> Contestant:
    """Return the contestant of this name."""
    return next(each for each in comparison.contestants if each.name == name)


def _of(report: BenchReport, family: str) -> list[Comparison]:
    return [one for one in report.comparisons if f"{one.name}/".startswith(f"{family}/")]


def _said(ratio: Ratio) -> str:
    return f"{ratio.value:,.2f} ({ratio.interval[0]:,.2f} .. {ratio.interval[1]:,.2f})"


def _mib(num_bytes: float) -> str:
    return f"{num_bytes / _MIB:.1f}"


def _head(first: str, others: Iterable[str]) -> Iterator[str]:
    columns = [first, *others]
    yield _row(columns[0], columns[1:])
    yield "|---" + "|---:" * (len(columns) - 1) + "|"


def _row(first: str, others: Iterable[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in (first, *others))} |"


def main(arguments: list[str]) -> None:
    """Write all files, the digest first if a run is given."""
    if arguments:
        report = msgspec.json.decode(Path(arguments[0]).read_bytes(), type=BenchReport)
        (ROOT / DIGEST).write_bytes(bench_report.dump(digest(report)))
    report = msgspec.json.decode((ROOT / DIGEST).read_bytes(), type=BenchReport)
    for path, content in files(report, {path: (ROOT / path).read_text() for path in PAGES}).items():
        (ROOT / path).write_bytes(content)
        print(f"wrote {path}")


if __name__ == "__main__":
    main(sys.argv[1:])
