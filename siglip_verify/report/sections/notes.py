"""Notes below a table, each said once."""

from __future__ import annotations

from collections.abc import Iterable

from siglip_verify.report import words


def notes(noted: Iterable[tuple[str, int, str]]) -> tuple[str, ...]:
    """Say each note once, with the exchanges and world sizes that it is about."""
    places: dict[tuple[str, str], list[int]] = {}
    for exchange, world_size, note in noted:
        if note:
            places.setdefault((exchange, words.one_line(note)), []).append(world_size)
    return tuple(f"{exchange}, W = {words.ranges(sizes)}: {note}" for (exchange, note), sizes in places.items())
