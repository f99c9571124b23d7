"""What each planted bug costs, as a picture: a row a bug, a dot a seed, the right loss's range as a band.

One panel for each task, each with its own scale: the distances between rows are the message, and the scale says how
large they are.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from siglip_verify.report import svg
from siglip_verify.train.data import TaskName
from siglip_verify.train.result import BugCost, BugScores, CostReport

_NAMES, _PANEL, _GAP = 190.0, 300.0, 40.0
_TOP, _ROW, _BOTTOM = 76.0, 24.0, 40.0
_STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_STYLE = """
svg { --right: #1b7837; --band: #dcefe2; --wrong: #b42318 }
@media (prefers-color-scheme: dark) { svg { --right: #7fd89a; --band: #1d3325; --wrong: #ff8f84 } }
.band { fill: var(--band) } .right circle { fill: var(--right) } .wrong circle { fill: var(--wrong) }
.right .mean { stroke: var(--right) } .wrong .mean { stroke: var(--wrong) } .mean { stroke-width: 2 }
circle { fill-opacity: .65 } .quiet { opacity: .75 }
"""


def dots(report: CostReport) -> bytes:
    """Draw what bugs cost as an SVG document."""
    width = _NAMES + len(report.tasks) * (_PANEL + _GAP)
    height = _TOP + _ROW * len(report.costs) + _BOTTOM
    said = (
        f"What a planted bug costs: two small towers on digits, W = {report.world_size}, "
        f"{report.training.steps} steps, seeds {', '.join(map(str, report.seeds))}"
    )
    content = [f'<text class="title" x="8" y="20">{svg.text(said)}</text>', *_names(report)]
    for index, task in enumerate(report.tasks):
        left = _NAMES + index * (_PANEL + _GAP)
        content.append(f'<g transform="translate({left:g} 0)">{"".join(_panel(report, task))}</g>')
    return svg.document(said, width, height, content, _STYLE)


def _names(report: CostReport) -> Iterator[str]:
    for row, cost in enumerate(report.costs):
        title = f"<title>{svg.text(cost.sentence)}</title>"
        name = svg.text(cost.bug or "the right loss")
        weight = "" if cost.bug else ' font-weight="600"'
        yield f'<text x="{_NAMES - 14:g}" y="{_middle(row) + 4:g}" text-anchor="end"{weight}>{name}{title}</text>'


def _panel(report: CostReport, task: TaskName) -> Iterator[str]:
    asked = report.asked[task]
    shares = [each for cost in report.costs for each in _shares(cost.on(task), asked)]
    step = next((s for s in _STEPS if (max(shares) - min(shares)) / s <= 6), _STEPS[-1]) if shares else 1.0
    low = math.floor(min(shares, default=0) / step)
    high = max(math.ceil(max(shares, default=1) / step), low + 1)
    across = svg.scale(low * step, high * step, 0, _PANEL)
    foot = _TOP + _ROW * len(report.costs)
    yield f'<text class="title" x="0" y="46">{svg.text(f"{report.tasks[task]}, {task} of digits")}</text>'
    yield f'<text x="0" y="62">measured on {asked} images; a dot a seed, a line their mean</text>'
    right = _shares(report.costs[0].on(task), asked)
    if right:
        start, end = across(min(right)), across(max(right))
        yield f'<rect class="band" x="{start:.1f}" y="{_TOP:g}" width="{end - start:.1f}" height="{foot - _TOP:g}"/>'
    for tick in range(low, high + 1):
        x = across(tick * step)
        yield svg.rule("grid", x, _TOP, x, foot)
        yield f'<text x="{x:.1f}" y="{foot + 16:g}" text-anchor="middle">{tick * step:g}</text>'
    for row, cost in enumerate(report.costs):
        yield from _row(cost, cost.on(task), asked, across, _middle(row))


def _row(cost: BugCost, scores: BugScores, asked: int, across: svg.Scale, y: float) -> Iterator[str]:
    shares = _shares(scores, asked)
    name = cost.bug or "the right loss"
    yield f'<g class="{"wrong" if cost.bug else "right"}">'
    for share in shares:
        title = f"<title>{svg.text(f'{name}: {share:.3f}')}</title>"
        yield f'<circle cx="{across(share):.1f}" cy="{y:g}" r="4">{title}</circle>'
    if shares:
        x = across(statistics.fmean(shares))
        yield svg.rule("mean", x, y - 8, x, y + 8)
    else:
        yield f'<text class="quiet" x="4" y="{y + 4:g}">{svg.text(_stopped(scores))}</text>'
    yield "</g>"


def _shares(scores: BugScores, asked: int) -> list[float]:
    return [each / asked for each in scores.right if each is not None]


def _stopped(scores: BugScores) -> str:
    """Say how a training ended that did not come to its end; tables have the whole message."""
    return f"stopped: {': '.join(scores.failure.split(': ')[:2])}"


def _middle(row: int) -> float:
    return _TOP + _ROW * (row + 0.5)
