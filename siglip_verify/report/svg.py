"""Pictures that stand alone: one SVG document, the viewer's light or dark scheme, nothing fetched.

Here: what such documents share. Not here: any chart (`simulation.charts`, `train`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import pairwise

from siglip_verify.report import words

LABEL_GAP = 12.0
Scale = Callable[[float], float]
STYLE = """
svg { font: 11px system-ui, sans-serif; color-scheme: light dark; --ink: #222; --faint: #ccc; --paper: #fff }
.bidir { --line: #0b62c4 } .shift { --line: #b35900 } .reduce { --line: #a3195b } .gather { --line: #1b7837 }
@media (prefers-color-scheme: dark) {
  svg { --ink: #ddd; --faint: #444; --paper: #181818 }
  .bidir { --line: #6db3ff } .shift { --line: #ffab5c } .reduce { --line: #ff7eb6 } .gather { --line: #7fd89a }
}
rect.paper { fill: var(--paper) } text { fill: var(--ink) } .title { font-weight: 600; font-size: 13px }
.grid { stroke: var(--faint) } .limit { stroke: var(--ink); stroke-dasharray: 8 4 }
"""


def document(title: str, width: float, height: float, content: Iterable[str], style: str = "") -> bytes:
    """Return a whole document; the title is for who cannot see it, and is escaped here."""
    drawn = "\n".join(content)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}{style}</style>\n"
        f'<rect class="paper" width="100%" height="100%"/>\n{drawn}\n</svg>\n'
    ).encode()


def text(said: str) -> str:
    """Make any text printable, and safe between tags and in attributes."""
    return escape(words.one_line(said))


def rule(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """Draw a straight line of a class."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def scale(low: float, high: float, first: float, last: float) -> Scale:
    """Return what maps low..high to first..last; the middle, where low and high are one."""
    if high == low:
        return lambda value: (first + last) / 2
    return lambda value: first + (last - first) * (value - low) / (high - low)


def apart(heights: Sequence[float]) -> list[float]:
    """Move labels so that none covers another, from the lowest up, keeping their order."""
    order = sorted(range(len(heights)), key=lambda index: -heights[index])
    placed = dict(enumerate(heights))
    for below, above in pairwise(order):
        placed[above] = min(placed[above], placed[below] - LABEL_GAP)
    return [placed[index] for index in range(len(heights))]
