"""What a report is made of, whatever it is written as: tables, entries, verbatim text.

Here: frozen records of text that is ready to be shown. Not here: where the text comes from (`sections`), what it looks
like (`console`, `markdown`, `html`).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from siglip_verify.result import Basis

Tone = Literal["", "pass", "mismatch", "unknown", "muted"]


class Fact(NamedTuple):
    """A name, what is to be said of it, and for a number on what it rests."""

    name: str
    value: str
    basis: Basis | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.value}{f' ({self.basis})' if self.basis else ''}"


class Value(NamedTuple):
    """Text, and the verdict whose colour it wears; no meaning is carried by colour alone."""

    text: str
    tone: Tone = ""


class Column(msgspec.Struct, frozen=True):
    """One column.

    Attributes:
        name: What it shows.
        unit: Shown on a second header row.
        basis: counted, measured or modelled; shown on a third header row.
        is_number: Whether its values are aligned to the right.
        is_extra: Whether it is left out where there is little room.
        is_prose: Whether its values may be broken into lines.
    """

    name: str
    unit: str = ""
    basis: Basis | None = None
    is_number: bool = True
    is_extra: bool = False
    is_prose: bool = False


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table with its caption; every row has one value a column, and notes stand below.

    Attributes:
        caption, columns, rows, notes: What is shown.
        names: Index of the column that names the rows.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    notes: tuple[str, ...] = ()
    names: int = 0


class Verbatim(msgspec.Struct, frozen=True):
    """Text whose line breaks are kept."""

    label: str
    text: str


class HeatMap(msgspec.Struct, frozen=True, kw_only=True):
    """A small picture of one number for each pair of ranks: a character where it is right, the number where it is not.

    Attributes:
        title: What is shown.
        rows, columns: What the ranks at the left and on top stand for.
        cells: W rows of W values; those that are right are muted.
    """

    title: str
    rows: str
    columns: str
    cells: tuple[tuple[Value, ...], ...]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that went wrong.

    Attributes:
        title: What and where.
        tone: The verdict.
        lead: One sentence that says what is wrong, before everything else; empty if that is not known.
        heat_maps: Pictures of it.
        facts: Names and what is to be said of each.
        verbatim: Tracebacks and the like.
        replay: A shell line that a reader copies; shown whole, on a line of its own.
    """

    title: str
    tone: Tone
    lead: str = ""
    heat_maps: tuple[HeatMap, ...] = ()
    facts: tuple[Fact, ...] = ()
    verbatim: tuple[Verbatim, ...] = ()
    replay: str = ""
