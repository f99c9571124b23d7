"""Heat maps of a diagnosis on a console: small, side by side as far as there is room.

Here: how they look. Not here: which are shown, and their characters (`report.diagnosis`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.columns import Columns
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from siglip_verify.report import diagnosis
from siglip_verify.report.blocks import HeatMap, Tone

_PLAIN = "."  # for consoles that have no middle dot


def picture(shown: Sequence[HeatMap], styles: dict[Tone, str], encodable: Callable[[str], str]) -> Group:
    """Return heat maps as one renderable.

    Args:
        shown: The maps.
        styles: How each tone looks; every meaning is carried by the characters too.
        encodable: Makes text such as the console's encoding has it.
    """

    def said(text: str) -> str:
        plain = text if encodable(diagnosis.RIGHT) == diagnosis.RIGHT else text.replace(diagnosis.RIGHT, _PLAIN)
        return encodable(plain)

    legend = Text(said(diagnosis.legend(shown)), style=styles["muted"])
    return Group(Columns([_map(each, styles, said) for each in shown], padding=(0, 4)), legend)


def _map(shown: HeatMap, styles: dict[Tone, str], encodable: Callable[[str], str]) -> Group:
    top, *rows = diagnosis.drawn(shown)
    grid = RichTable.grid(padding=(0, 1))
    for _ in top:
        grid.add_column(justify="right", no_wrap=True)
    grid.add_row(*(Text(word, style=styles["muted"]) for word in top))
    for (rank, *cells), values in zip(rows, shown.cells, strict=True):
        tones = [styles[value.tone] for value in values]
        drawn = [Text(encodable(cell), style=tone) for cell, tone in zip(cells, tones, strict=True)]
        grid.add_row(Text(rank, style=styles["muted"]), *drawn)
    return Group(Text(encodable(shown.title)), grid)
