"""A number for each pair of ranks as a shaded table: blocks that are counted, bytes that are sent.

Here: which shade and which text a cell has. Not here: what it looks like (`blocks`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec

from siglip_verify.records import Matrix
from siglip_verify.report import words
from siglip_verify.report.blocks import Tone
from siglip_verify.result import StepMessages

LARGEST_WORLD_SIZE = 16  # beyond, a picture is wider than a page
LEVELS = 4


class Cell(msgspec.Struct, frozen=True):
    """One pair of ranks: what is written there, the verdict whose colour it wears, how dark it is (0 is not)."""

    text: str
    tone: Tone = ""
    level: int = 0


class NumberMap(msgspec.Struct, frozen=True, kw_only=True):
    """W rows of W cells; `rows` and `columns` say what the ranks at the left and on top stand for.

    What is counted is said where it is not plain from the title.
    """

    title: str
    basis: str
    rows: str
    columns: str
    cells: tuple[tuple[Cell, ...], ...]


def covered(matrix: Matrix) -> NumberMap:
    """Show how often blocks are counted; what is not as it should be stands out."""
    cells = [
        tuple(_counted(value, right) for value, right in zip(row, rights, strict=False))
        for row, rights in zip(matrix.values, matrix.expected, strict=False)
    ]
    title, rows, columns = map(words.one_line, (matrix.title, matrix.rows, matrix.columns))
    return NumberMap(title=title, basis="", rows=rows, columns=columns, cells=_seen(cells))


def _counted(value: float, right: float) -> Cell:
    if value == right:
        return Cell(f"{value:g}", "pass" if right else "")
    return Cell("?", "unknown") if math.isnan(value) else Cell(f"{value:.3g}", "mismatch")


def sent_maps(step: StepMessages) -> Iterator[NumberMap]:
    """Show bytes from rank to rank: payload of messages, and what the sockets sent."""
    for title, basis, matrix in (
        ("Payload of messages, bytes", "counted", step.payload_matrix),
        ("On the wire, bytes", "measured", step.wire_matrix),
    ):
        if matrix and any(map(any, matrix)):
            yield NumberMap(title=title, basis=basis, rows="from rank", columns="to rank", cells=_seen(_sent(matrix)))


def _sent(matrix: Sequence[Sequence[int]]) -> list[tuple[Cell, ...]]:
    most = max(max(row) for row in matrix if row)
    return [
        tuple(Cell(words.count(number or None), level=math.ceil(LEVELS * number / most)) for number in row)
        for row in matrix
    ]


def _seen(cells: Sequence[tuple[Cell, ...]]) -> tuple[tuple[Cell, ...], ...]:
    """Keep what can be read."""
    return tuple(row[:LARGEST_WORLD_SIZE] for row in cells[:LARGEST_WORLD_SIZE])
