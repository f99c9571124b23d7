"""Hop diagrams: who sends which block to whom in each hop, drawn from the plan that real runs are checked against.

A rank is a line from top to bottom, a message an arrow, a collective a bar across all ranks. `t2` are the texts of rank
2, `g2` is a gradient of them. An arrow that leaves at one side enters at the other: the ranks stand in a ring.

Here: which block a message carries, and the drawing. Not here: who sends to whom (`siglip_verify.plan`).
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import NamedTuple

from siglip_verify.plan import PHASES, Collective, Move, Phase, Plan, plan

WORLD_SIZE = 5
FORMS = {
    "bidir": ("bidir", "autograd"),
    "shift": ("shift", "autograd"),
    "reduce": ("reduce", "autograd"),
    "gather": ("gather", "autograd"),
    "bidir-constant": ("bidir", "constant"),
    "shift-constant": ("shift", "constant"),
}
_SIGNS = {"text": "t", "text gradient": "g"}
_COLUMN, _ROW, _LEFT, _TOP, _EDGE = 118.0, 62.0, 150.0, 42.0, 46.0
_STYLE = """
svg { color-scheme: light dark; font: 13px system-ui, sans-serif; --paper: #fff; --ink: #1c2024; --faint: #c3cad2;
  --text: #24507f; --gradient: #9c4a00 }
@media (prefers-color-scheme: dark) {
  svg { --paper: #11151a; --ink: #e4e8ec; --faint: #3b4550; --text: #8fbdf0; --gradient: #ffab5c }
}
.paper { fill: var(--paper) } text { fill: var(--ink) } .phase { font-weight: 600 }
.rank { stroke: var(--faint); stroke-width: 2 } .text { --way: var(--text) } .gradient { --way: var(--gradient) }
.arrow { stroke: var(--way); stroke-width: 1.6; fill: none } .head { fill: var(--way) }
.label { fill: var(--way); font-size: 12px }
.label, .note { stroke: var(--paper); stroke-width: 4; paint-order: stroke }
.bar { fill: var(--paper); stroke: var(--way); stroke-width: 1.6 }
"""


class Message(NamedTuple):
    """One message: from whom to whom over how many places, and the blocks whose texts and gradients it carries."""

    src: int
    dst: int
    offset: int
    texts: tuple[int, ...]
    gradients: tuple[int, ...]

    @property
    def label(self) -> str:
        """What it carries, in signs."""
        return " ".join([*(f"t{block}" for block in self.texts), *(f"g{block}" for block in self.gradients)])


def messages(planned: Plan, phase: Phase, hop: int) -> list[Message]:
    """List what every rank sends in a hop of moves."""
    moves = planned.hops(phase)[hop]
    assert not isinstance(moves, Collective)
    return [_message(planned, phase, hop, move, rank) for move in moves for rank in range(planned.world_size)]


def _message(planned: Plan, phase: Phase, hop: int, move: Move, rank: int) -> Message:
    dst = (rank + move.offset) % planned.world_size
    block = _block(planned, phase, hop, move, rank, dst)
    return Message(
        src=rank,
        dst=dst,
        offset=move.offset,
        texts=(block,) if "text" in move.carries else (),
        gradients=(block,) if "text gradient" in move.carries else (),
    )


def _block(planned: Plan, phase: Phase, hop: int, move: Move, rank: int, dst: int) -> int:
    """Say whose block travels: forward the one that arrived a hop before, backward the one that came by this way."""
    if move.towards == "home":
        return dst
    way = 1 if move.towards == "right" else -1
    if phase == "forward":
        return (rank - way * hop) % planned.world_size
    came = len(planned.hops("forward")) - 1 - hop  # backward undoes the hops of forward, the last first
    return (rank + way * (came + 1)) % planned.world_size


# ------------------------------------------------------------------ drawing
def diagram(name: str, world_size: int = WORLD_SIZE) -> bytes:
    """Draw a form of an exchange as an SVG document."""
    exchange, memory = FORMS[name]
    planned = plan(exchange, world_size, 1, 1, 1, memory=memory)  # type: ignore[arg-type]
    drawn, y = list[str](), _TOP
    for phase in PHASES:
        drawn.append(f'<text class="phase" x="12" y="{y + 4:g}">{phase}</text>')
        y += 12
        for hop, moves in enumerate(planned.hops(phase)):
            drawn.append(f'<text x="12" y="{y + _ROW / 2 + 4:g}">hop {hop + 1}</text>')
            if isinstance(moves, Collective):
                drawn += _bar(_said(planned, phase, hop, moves), y, world_size, phase)
            else:
                for turn, message in enumerate(messages(planned, phase, hop)):
                    drawn += _arrow(message, y, world_size, second=turn >= world_size)
            y += _ROW
        if not planned.hops(phase):
            drawn.append(
                f'<text class="note" x="{_LEFT - 24:g}" y="{y + 12:g}">nothing is sent: all gradients are home</text>'
            )
            y += 24
        y += 20
    width = _LEFT + (world_size - 1) * _COLUMN + 2 * _EDGE
    lines = "".join(
        f'<line class="rank" x1="{_x(rank):g}" x2="{_x(rank):g}" y1="{_TOP - 6:g}" y2="{y - 12:g}"/>'
        f'<text x="{_x(rank):g}" y="{_TOP - 14:g}" text-anchor="middle">rank {rank}</text>'
        for rank in range(world_size)
    )
    title = f"{name.replace('-', ', ')} memory" if "-" in name else name
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {y:g}" width="{width:g}" role="img">\n'
        f"<title>{escape(title)} at W = {world_size}: who sends which block to whom in each hop</title>\n"
        f'<style>{_STYLE}</style>\n<rect class="paper" width="100%" height="100%"/>\n{lines}\n'
        + "\n".join(drawn)
        + "\n</svg>\n"
    ).encode()


def _x(rank: float) -> float:
    return _LEFT + rank * _COLUMN


def _arrow(message: Message, y: float, world_size: int, *, second: bool) -> Iterator[str]:
    """Draw a message; one that goes beyond the last rank leaves at one edge and enters at the other."""
    kind = "gradient" if message.gradients and not message.texts else "text"
    top, bottom = y + 8, y + _ROW - 8
    end = message.src + message.offset
    label_at = 0.74 if second else 0.26  # two ways cross in the middle, so their labels stand before and behind it
    yield f'<g class="{kind}"><title>rank {message.src} sends {message.label} to rank {message.dst}</title>'
    if 0 <= end < world_size:
        yield from _line(_x(message.src), top, _x(end), bottom, head=True)
        share = label_at
        x, at = _x(message.src + message.offset * share), top + (bottom - top) * share
    else:
        edge = (_x(world_size - 1) + _EDGE) if message.offset > 0 else (_x(0) - _EDGE)
        entry = (_x(0) - _EDGE) if message.offset > 0 else (_x(world_size - 1) + _EDGE)
        middle = (top + bottom) / 2
        yield from _line(_x(message.src), top, edge, middle, head=False)
        yield from _line(entry, middle, _x(message.dst), bottom, head=True)
        x, at = (_x(message.src) + edge) / 2, (top + middle) / 2
    yield f'<text class="label" x="{x:.1f}" y="{at + 4:.1f}" text-anchor="middle">{message.label}</text></g>'


def _line(x1: float, y1: float, x2: float, y2: float, *, head: bool) -> Iterator[str]:
    yield f'<line class="arrow" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
    if head:
        length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
        ux, uy = (x2 - x1) / length, (y2 - y1) / length
        bx, by = x2 - 9 * ux, y2 - 9 * uy
        points = f"{x2:.1f},{y2:.1f} {bx - 4 * uy:.1f},{by + 4 * ux:.1f} {bx + 4 * uy:.1f},{by - 4 * ux:.1f}"
        yield f'<polygon class="head" points="{points}"/>'


def _said(planned: Plan, phase: Phase, hop: int, called: Collective) -> str:
    """Say what a collective moves."""
    last = planned.world_size - 1
    if phase == "forward":
        return (
            f"{called.kind}: t{hop}, zeros elsewhere"
            if planned.exchange == "reduce"
            else f"{called.kind}: t0 .. t{last}"
        )
    return f"{called.kind}: one rank's g" if planned.exchange == "reduce" else f"{called.kind}: each g to its owner"


def _bar(said: str, y: float, world_size: int, phase: Phase) -> Iterator[str]:
    kind = "text" if phase == "forward" else "gradient"
    left, width, middle = _x(0) - 18, (world_size - 1) * _COLUMN + 36, y + _ROW / 2
    yield f'<g class="{kind}"><rect class="bar" x="{left:g}" y="{middle - 15:g}" width="{width:g}" height="30" rx="6"/>'
    yield f'<text class="label" x="{left + width / 2:g}" y="{middle + 4:g}" text-anchor="middle">{escape(said)}</text>'
    yield "</g>"
