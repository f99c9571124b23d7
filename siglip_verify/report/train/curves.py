"""Training curves over each other, and how far parameters lie apart: one picture for each W.

Above, the loss of one process as a broad line, and the curves of all forms drawn over it. Below, on a logarithmic
scale, how far each form's parameters are after each step, and the bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from siglip_verify.report import svg
from siglip_verify.train.result import EqualityReport, FormRun

_WIDTH, _GAP = 430.0, 20.0
_LEFT, _RIGHT = 52.0, 110.0
_TOP, _LOSS, _BETWEEN, _FAR, _BOTTOM = 66.0, 170.0, 48.0, 150.0, 40.0
_HEIGHT = _TOP + _LOSS + _BETWEEN + _FAR + _BOTTOM
_DASHES = {"autograd": "", "constant": "2 3", "recompute": "8 3 2 3"}
_LEAST = 1e-17  # what is drawn for no deviation at all
_STYLE = """
.alone { fill: none; stroke: var(--faint); stroke-width: 7; stroke-linejoin: round }
.series polyline { fill: none; stroke: var(--line); stroke-width: 1.3 } .series text { fill: var(--line) }
"""


def curves(report: EqualityReport) -> bytes:
    """Draw every training as an SVG document."""
    sizes = sorted({run.world_size for run in report.runs})
    training = report.training
    said = f"Two towers on {report.task} of digits, {training.steps} steps of {training.global_batch} pairs, float64"
    width = max(1, len(sizes)) * (_WIDTH + _GAP) - _GAP
    content = [f'<text class="title" x="8" y="18">{svg.text(said)}</text>']
    for index, size in enumerate(sizes):
        runs = [run for run in report.runs if run.world_size == size]
        content.append(f'<g transform="translate({index * (_WIDTH + _GAP):g} 0)">{"".join(_panel(report, runs))}</g>')
    return svg.document(f"Loss and distance from one process: {said}", width, _HEIGHT, content, _STYLE)


def _panel(report: EqualityReport, runs: Sequence[FormRun]) -> Iterator[str]:
    yield f'<text class="title" x="8" y="38">W = {runs[0].world_size}</text>'
    yield from _losses(report, runs)
    yield from _deviations(report, runs)


def _losses(report: EqualityReport, runs: Sequence[FormRun]) -> Iterator[str]:
    shown = [loss for each in (report.losses, *(run.losses for run in runs)) for loss in each if math.isfinite(loss)]
    top = math.ceil(max(shown, default=1.0))
    across, down = _across(report), svg.scale(0, top, _TOP + _LOSS, _TOP)
    for tick in range(0, top + 1, max(1, top // 5)):
        yield svg.rule("grid", _LEFT, down(tick), _WIDTH - _RIGHT, down(tick))
        yield f'<text x="{_LEFT - 6:g}" y="{down(tick) + 4:.1f}" text-anchor="end">{tick}</text>'
    yield f'<text x="{_LEFT:g}" y="{_TOP - 8:g}">loss, measured: one process (broad), and each form over it</text>'
    alone = _points([(across(step), down(loss)) for step, loss in enumerate(report.losses, 1)])
    yield f'<polyline class="alone" points="{alone}"><title>one process on the whole batch</title></polyline>'
    for run in runs:
        yield _line(run, [(across(step), down(loss)) for step, loss in enumerate(run.losses, 1)])


def _deviations(report: EqualityReport, runs: Sequence[FormRun]) -> Iterator[str]:
    top = _TOP + _LOSS + _BETWEEN
    largest = max((each for run in runs for each in run.deviations if math.isfinite(each)), default=_LEAST)
    high = max(-9, math.ceil(math.log10(max(largest, _LEAST))))
    across, height = _across(report), svg.scale(-17, high, top + _FAR, top)

    def down(value: float) -> float:
        return height(math.log10(max(value, _LEAST)))

    for exponent in range(-16, high + 1, 2):
        yield svg.rule("grid", _LEFT, height(exponent), _WIDTH - _RIGHT, height(exponent))
        yield f'<text x="{_LEFT - 6:g}" y="{height(exponent) + 4:.1f}" text-anchor="end">1e{exponent}</text>'
    yield f'<text x="{_LEFT:g}" y="{top - 8:g}">farthest parameter from one process, relative, measured</text>'
    yield svg.rule("limit", _LEFT, down(report.bound), _WIDTH - _RIGHT, down(report.bound))
    yield f'<text x="{_LEFT + 4:g}" y="{down(report.bound) - 4:.1f}">bound {report.bound:g}</text>'
    ends = svg.apart([down(run.deviations[-1]) for run in runs])
    for run, end in zip(runs, ends, strict=True):
        yield _line(run, [(across(step), down(each)) for step, each in enumerate(run.deviations, 1)], end)
    for step in (1, report.training.steps):
        yield f'<text x="{across(step):.1f}" y="{top + _FAR + 16:g}" text-anchor="middle">{step}</text>'
    yield f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:g}" y="{top + _FAR + 30:g}" text-anchor="middle">step</text>'


def _line(run: FormRun, points: Sequence[tuple[float, float]], label_y: float | None = None) -> str:
    title = f"<title>{run.form}, W = {run.world_size}</title>"
    label = "" if label_y is None else f'<text x="{_WIDTH - _RIGHT + 8:g}" y="{label_y + 4:.1f}">{run.form}</text>'
    dash = _DASHES[run.form.memory]
    drawn = f'<polyline points="{_points(points)}" stroke-dasharray="{dash}">{title}</polyline>'
    return f'<g class="series {run.form.exchange}">{drawn}{label}</g>'


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points if math.isfinite(y))


def _across(report: EqualityReport) -> svg.Scale:
    return svg.scale(1, report.training.steps, _LEFT, _WIDTH - _RIGHT)
