"""All losses of a report at a glance."""

from __future__ import annotations

from siglip_verify.report import words
from siglip_verify.report.blocks import Column, Table, Value
from siglip_verify.result import LossResult, Report

_CAPTION = "All losses. Worst: an error as a share of its bound, measured; 1 is the bound."


def overview(report: Report) -> Table:
    """Show each loss in one row: exchanges, world sizes, cases, worst share of the bound, verdict."""
    return Table(
        caption=_CAPTION,
        columns=(
            Column("loss", is_number=False),
            Column("exchanges"),
            Column("W"),
            Column("cases"),
            Column("worst"),
            Column("verdict", is_number=False),
        ),
        rows=tuple(_row(loss) for loss in report.losses),
    )


def _row(loss: LossResult) -> tuple[Value, ...]:
    nearest = words.nearest(loss.cells)
    return (
        Value(words.one_line(loss.name)),
        Value(words.count(len(words.exchanges_of(loss)))),
        Value(words.ranges(cell.world_size for cell in loss.cells) or words.NOTHING),
        Value(words.count(sum(cell.cases for cell in loss.cells))),
        Value(words.NOTHING, "muted") if nearest is None else Value(words.share(nearest.share)),
        Value(loss.verdict, loss.verdict),
    )
