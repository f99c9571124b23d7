"""Messages and bytes of counted steps: plan, count, wire and lower bound."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from siglip_verify.report import words
from siglip_verify.report.blocks import Column, Table, Value
from siglip_verify.report.sections.notes import notes
from siglip_verify.result import MessageRow

_COLLECTIVE_NOTE = (
    "Payload is what is handed to a call, and a collective sends more than that: "
    "hold its wire bytes against the lower bound."
)
_MESSAGE_CAPTION = "One rank, one step, forward + backward: b = {batch}, d = {dim}, {dtype}."


def messages(rows: Sequence[MessageRow]) -> list[Table]:
    """Show plan, count, wire and lower bound; one table for each batch shape and dtype that was counted."""
    return [
        _message_table(list(steps), _MESSAGE_CAPTION.format(batch=batch, dim=dim, dtype=words.one_line(dtype)))
        for (batch, dim, dtype), steps in groupby(rows, key=step_of)
    ]


def step_of(row: MessageRow) -> tuple[int, int, str]:
    """Return what makes two rows steps of the same size: b, d, dtype."""
    return row.batch, row.dim, row.dtype


def _message_table(steps: list[MessageRow], caption: str) -> Table:
    columns = (
        Column("exchange", is_number=False),
        Column("W"),
        Column("hops", "forward", "counted", is_extra=True),
        Column("planned", "calls", "modelled"),
        Column("counted", "calls", "counted"),
        Column("planned", "payload B", "modelled"),
        Column("counted", "payload B", "counted"),
        Column("wire", "bytes", "measured"),
        Column("lower bound", "payload B", "modelled"),
        Column("operations", "", "counted", is_number=False, is_extra=True),
    )
    rows = tuple(
        (
            Value(step.exchange),
            Value(str(step.world_size)),
            Value(words.count(step.counted_hops)),
            Value(_calls(step.planned_messages, step.planned_collectives)),
            Value(_calls(step.counted_messages, step.counted_collectives)),
            Value(words.count(step.planned_payload_bytes)),
            Value(words.count(step.counted_payload_bytes)),
            Value(words.count(step.wire_bytes)),
            Value(words.count(step.lower_bound_bytes)),
            Value(words.one_line(step.operations)),
        )
        for step in steps
    )
    below = notes((step.exchange, step.world_size, step.note) for step in steps)
    if any(step.counted_collectives for step in steps):
        below = (*below, _COLLECTIVE_NOTE)
    return Table(caption=caption, columns=columns, rows=rows, notes=below)


def _calls(sends: int | None, collectives: int | None) -> str:
    """Say `8 sends`, `10 coll.` or both; `none` where nothing is called."""
    if sends is None and collectives is None:
        return words.NOTHING
    said = [words.plural(sends, "send")] if sends else []
    said += [f"{collectives:,} coll."] if collectives else []
    return " + ".join(said) or "none"
