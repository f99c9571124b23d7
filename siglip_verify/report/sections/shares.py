"""Errors as shares of their bounds, by exchange, world size and quantity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from siglip_verify.case import DTYPES
from siglip_verify.records import Cell, Quantity
from siglip_verify.report import words
from siglip_verify.report.blocks import Column, Fact, Table, Value
from siglip_verify.report.sections.notes import notes

QUANTITY_GROUPS: Mapping[str, tuple[Quantity, ...]] = {
    "loss": ("loss", "local_loss"),
    "image": ("image_grad",),
    "text": ("text_grad",),
    "scale": ("scale_grad", "local_scale_grad"),
    "bias": ("bias_grad", "local_bias_grad"),
}
_DTYPE_CAPTION = "The same by dtype of the features, all exchanges and world sizes: shares measured, cases counted."
_SHARE_CAPTION = "Worst error as a share of its bound: measured, 1 is the bound. Cases: counted."


def equivalence(cells: Sequence[Cell]) -> Table:
    """Show each exchange and world size: cases, worst share of the bound by quantity, verdict.

    A rank's own values stand with the reduced ones: loss is the worse of the loss and any local loss.
    """
    some_unknown = any(cell.unknown_cases for cell in cells)
    columns = [Column("exchange", is_number=False), Column("W"), Column("cases")]
    columns += [Column("unknown")] * some_unknown
    columns += [Column(name) for name in QUANTITY_GROUPS]
    rows = [
        (
            Value(cell.exchange),
            Value(str(cell.world_size)),
            Value(words.count(cell.cases)),
            *([Value(words.count(cell.unknown_cases))] * some_unknown),
            *(_group_share(cell, quantities) for quantities in QUANTITY_GROUPS.values()),
            Value(cell.verdict, cell.verdict),
        )
        for cell in cells
    ]
    return Table(
        caption=_SHARE_CAPTION,
        columns=(*columns, Column("verdict", is_number=False)),
        rows=tuple(rows),
        notes=notes((cell.exchange, cell.world_size, cell.note) for cell in cells),
    )


def by_dtype(cells: Sequence[Cell]) -> Table:
    """Show the same cases by the dtype of their features: how many, and the worst share of the bound by quantity."""
    found = [cell.by_dtype for cell in cells]
    rows = [
        (
            Value(dtype),
            Value(words.count(sum(each[dtype].cases for each in found if dtype in each))),
            *(
                _worst([s for each in found if dtype in each for q, s in each[dtype].worst.items() if q in quantities])
                for quantities in QUANTITY_GROUPS.values()
            ),
        )
        for dtype in DTYPES
        if any(dtype in each for each in found)
    ]
    columns = [Column("dtype", is_number=False), Column("cases"), *(Column(name) for name in QUANTITY_GROUPS)]
    return Table(caption=_DTYPE_CAPTION, columns=tuple(columns), rows=tuple(rows))


def nearest(cells: Sequence[Cell]) -> list[Fact]:
    """Name the quantity that came nearest to its bound, or went farthest beyond it, and the case."""
    found = words.nearest(cells)
    if found is None:
        return []
    return [Fact("worst", words.nearest_in_words(found), "measured"), Fact("in", words.one_line(found.case))]


def _group_share(cell: Cell, quantities: tuple[Quantity, ...]) -> Value:
    return _worst([cell.worst[quantity].share for quantity in quantities if quantity in cell.worst])


def _worst(shares: Sequence[float]) -> Value:
    if not shares:
        return Value(words.NOTHING, "muted")
    largest = max(shares, key=words.severity)
    return Value(words.share(largest), "" if largest <= 1 else "mismatch")
