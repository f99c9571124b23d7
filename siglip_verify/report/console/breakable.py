"""Text in a narrow column of a console, broken at spaces and after "(" and ",": names of losses stay readable."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.text import Text

_BREAKS = re.compile(r"(?<=[(,])(?=\S)|(?<=\s)(?=\S)")


class Breakable:
    """One line of text that may be broken; a piece that is too long by itself is cut where it must be."""

    def __init__(self, text: str, style: str = "") -> None:
        self._pieces = _BREAKS.split(text)
        self._style = style

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Say how narrow and how wide it may be."""
        widths = [cell_len(piece.rstrip()) for piece in self._pieces]
        return Measurement(min(max(widths), options.max_width), min(cell_len("".join(self._pieces)), options.max_width))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Give as many lines as are needed."""
        lines = [""]
        for piece in self._pieces:
            if lines[-1] and cell_len(lines[-1] + piece.rstrip()) > options.max_width:
                lines.append("")
            lines[-1] += piece
        yield Text("\n".join(line.rstrip() for line in lines), style=self._style, overflow="fold")
