"""A diagnosis as blocks: the sentence, what it rests on, and small pictures of who counts whose texts.

Here: what is shown of it, and by which characters. Not here: how a block looks (`console`, `markdown`, `html`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from siglip_verify.records import Diagnosis, Matrix
from siglip_verify.report import words
from siglip_verify.report.blocks import Fact, HeatMap, Value

RIGHT, UNCLEAR = "·", "?"
LARGEST_WORLD_SIZE = 16  # beyond, a picture is wider than a page


def lead(diagnosis: Diagnosis) -> str:
    """Return the sentence."""
    return words.one_line(diagnosis.sentence)


def facts(diagnosis: Diagnosis) -> list[Fact]:
    """Say at which world sizes it shows, and what the sentence rests on."""
    shows = [f"W = {words.ranges(diagnosis.fails_at)}"] if diagnosis.fails_at else []
    shows += [f"not at W = {words.ranges(diagnosis.passes_at)}"] if diagnosis.passes_at else []
    said = [Fact("shows at", "; ".join(shows))] if shows else []
    said.append(Fact("smallest", f"W = {diagnosis.smallest_world_size}, b = {diagnosis.smallest_batch}"))
    return said + [Fact(words.one_line(clue.title), words.one_line(clue.text)) for clue in diagnosis.evidence]


def heat_maps(diagnosis: Diagnosis) -> tuple[HeatMap, ...]:
    """Draw the matrices that are not as they should be, where they are small enough to be seen."""
    return tuple(
        _heat_map(matrix)
        for matrix in diagnosis.matrices
        if 0 < len(matrix.values) <= LARGEST_WORLD_SIZE and not _is_right(matrix)
    )


def drawn(shown: HeatMap) -> list[list[str]]:
    """Return the rows of a picture as words: ranks on top and at the left, then every cell."""
    top = ["", *(str(rank) for rank in range(len(shown.cells)))]
    return [top, *([str(rank), *(cell.text for cell in row)] for rank, row in enumerate(shown.cells))]


def as_text(shown: HeatMap) -> str:
    """Draw a picture in characters alone, with its legend."""
    rows = drawn(shown)
    width = max(len(word) for row in rows for word in row)
    return "\n".join([*(" ".join(word.rjust(width) for word in row) for row in rows), legend([shown])])


def legend(maps: Sequence[HeatMap]) -> str:
    """Say what the ranks at the left and on top stand for, and what the characters mean."""
    unclear = any(cell.text == UNCLEAR for shown in maps for row in shown.cells for cell in row)
    axes = dict.fromkeys(f"left: {shown.rows}, top: {shown.columns}" for shown in maps)
    said = [*axes, f"{RIGHT} as it should be, a number where not", *([f"{UNCLEAR} cannot be seen"] if unclear else [])]
    return words.one_line("; ".join(said))


def _heat_map(matrix: Matrix) -> HeatMap:
    cells = [
        tuple(_cell(value, right) for value, right in zip(row, rights, strict=False))
        for row, rights in zip(matrix.values, matrix.expected, strict=False)
    ]
    title, rows, columns = (words.one_line(text) for text in (matrix.title, matrix.rows, matrix.columns))
    return HeatMap(title=title, rows=rows, columns=columns, cells=tuple(cells))


def _cell(value: float, right: float) -> Value:
    if value == right:
        return Value(RIGHT, "muted")
    if math.isnan(value):
        return Value(UNCLEAR, "unknown")
    return Value(f"{value:.3g}", "mismatch")


def _is_right(matrix: Matrix) -> bool:
    return matrix.values == matrix.expected
