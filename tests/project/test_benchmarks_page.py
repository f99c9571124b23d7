"""README, docs/benchmarks.md and the charts: what they show is the digest of one run, docs/bench.json.

Oracle: the script that makes them, held against what is committed; figures looked up by hand. Sees: a table or chart of
another run, a figure that was edited. Cannot see: whether the run was a good one (its load and turns stand beside it).
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from docs_script import docs_script

from siglip_verify.bench.measure import BenchReport, Comparison

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return docs_script("make_benchmarks")


@pytest.fixture(scope="module")
def digest(script: ModuleType) -> BenchReport:
    return msgspec.json.decode((ROOT / script.DIGEST).read_bytes(), type=BenchReport)


def made(script: ModuleType, digest: BenchReport) -> dict[Path, bytes]:
    return script.files(digest, {path: (ROOT / path).read_text() for path in script.PAGES})


def test_pages_and_charts_are_those_of_the_digest(script: ModuleType, digest: BenchReport) -> None:
    files = made(script, digest)
    assert {path.name for path in files} == {"README.md", "benchmarks.md", "bench-steps.svg", "bench-memory.svg"}
    for path, content in files.items():
        assert (ROOT / path).read_bytes() == content, f"{path} is of another run: python docs/make_benchmarks.py"


def test_there_is_no_chart_of_another_run(script: ModuleType, digest: BenchReport) -> None:
    shown = {path.name for path in (ROOT / script.PICTURES).glob("bench-*.svg")}
    assert shown == {path.name for path in made(script, digest) if path.suffix == ".svg"}


@pytest.mark.parametrize(
    ("family", "changed"),
    [
        ("steps/8x64", {"README.md", "benchmarks.md", "bench-steps.svg"}),
        ("memory/1024x512", {"README.md", "benchmarks.md", "bench-memory.svg"}),
    ],
)
def test_another_figure_changes_pages_and_chart(
    script: ModuleType, digest: BenchReport, family: str, changed: set[str]
) -> None:
    """A test that compared nothing would pass for ever."""
    other = msgspec.structs.replace(
        digest, comparisons=tuple(_doubled(one) if one.name.startswith(family) else one for one in digest.comparisons)
    )
    before, after = made(script, digest), made(script, other)
    assert {path.name for path in after if after[path] != before[path]} == changed


def _doubled(comparison: Comparison) -> Comparison:
    replace = msgspec.structs.replace
    return replace(
        comparison,
        contestants=tuple(replace(each, median=2 * each.median) for each in comparison.contestants),
        ratios=tuple(replace(each, value=2 * each.value) for each in comparison.ratios),
    )


def test_the_digest_holds_medians_and_intervals_and_is_small(script: ModuleType, digest: BenchReport) -> None:
    assert all(not each.values and each.turns > 1 for one in digest.comparisons for each in one.contestants)
    assert script.digest(digest) == digest
    assert (ROOT / script.DIGEST).stat().st_size < 200_000


def test_the_tables_say_what_the_digest_says(script: ModuleType, digest: BenchReport) -> None:
    """By hand, beside the script."""
    readme = (ROOT / "README.md").read_text()
    row = next(line for line in readme.splitlines() if line.startswith("| (8, 64): ours bidir / open_clip bidir |"))
    wanted = [
        f"{ratio.value:.2f} ({ratio.interval[0]:.2f} .. {ratio.interval[1]:.2f})"
        for one in digest.comparisons
        if one.name.startswith("steps/8x64/")
        for ratio in one.ratios
        if ratio.of == ("ours bidir", "open_clip bidir")
    ]
    assert wanted
    assert all(cell in row for cell in wanted)
