"""All losses of a report at a glance."""

from __future__ import annotations

from siglip_verify.report import words
from siglip_verify.report.blocks import Column, Table, Value
from siglip_verify.report.headline import exchanges_of
from siglip_verify.result import LossResult, Report

_CAPTION = "All losses. Worst: the largest error as a share of its bound; 1 is the bound."


def overview(report: Report) -> Table:
    """Show each loss in one row: verdict, exchanges, world sizes, cases, worst share of the bound."""
    return Table(
        caption=_CAPTION,
        columns=(
            Column("verdict", is_number=False),
            Column("loss", is_number=False),
            Column("exchanges", "", "counted"),
            Column("W"),
            Column("cases", "", "counted"),
            Column("worst", "", "measured"),
        ),
        names=1,
        rows=tuple(_row(loss) for loss in report.losses),
    )


def _row(loss: LossResult) -> tuple[Value, ...]:
    nearest = words.nearest(loss.cells)
    return (
        Value(loss.verdict, loss.verdict),
        Value(words.one_line(loss.name)),
        Value(words.count(len(exchanges_of(loss)))),
        Value(words.ranges(cell.world_size for cell in loss.cells) or words.NOTHING),
        Value(words.count(sum(cell.cases for cell in loss.cells))),
        Value(words.NOTHING, "muted") if nearest is None else Value(words.share(nearest.share)),
    )
