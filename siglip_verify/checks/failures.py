"""Why a case came to no judgement, in one sentence, from what is known of the ranks that failed.

Here: how far each of them had come, from its record, and the sentence. Not here: who is to blame (`world.blame`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from siglip_verify.records import Event, RankFailure


def located(failures: Sequence[RankFailure], events: Sequence[Event]) -> tuple[RankFailure, ...]:
    """Say of every failed rank how far its messages had come.

    Args:
        failures: The ranks that failed in one step.
        events: What the ranks posted in that step, up to their ends.
    """
    return tuple(
        msgspec.structs.replace(failure, reached=_reached([event for event in events if event.rank == failure.rank]))
        for failure in failures
    )


def _reached(posted: Sequence[Event]) -> str:
    """Name the hop that a rank is in, with what has not returned, or the one that it has behind it."""
    if not posted:
        return "before its first message"
    ordered = sorted(posted, key=lambda event: event.sequence)
    last = ordered[-1]
    hop = [event for event in ordered if (event.phase, event.hop) == (last.phase, last.hop)]
    under_way = dict.fromkeys(event.kind for event in hop if event.returned_s is None)
    where = f"{last.phase} hop {last.hop}"
    return f"in {where} ({', '.join(under_way)})" if under_way else f"after {where}"


def failure_sentence(failures: Sequence[RankFailure], world_size: int, reason: str = "") -> str:
    """Say who is to blame and what happened there, and who only suffers from it.

    Args:
        failures: The ranks that gave no record, and why.
        world_size: W.
        reason: Why there were no ranks, where there were none.
    """
    if not failures:
        return f"there were no ranks to run it: {reason or 'nobody says why'}"
    to_blame = [failure for failure in failures if failure.blamed] or list(failures)
    first = to_blame[0]
    alike = [failure.rank for failure in to_blame if _what(failure) == _what(first)]
    otherwise = [failure.rank for failure in to_blame if failure.rank not in alike]
    suffering = [failure.rank for failure in failures if failure not in to_blame]
    said = [f"{named(alike, world_size)} {'was stopped' if first.kind == 'stopped' else first.kind}: {happened(first)}"]
    if otherwise:
        said.append(f"{named(otherwise)} failed in another way")
    if suffering:
        said.append(f"{named(suffering)} only suffer{'s' * (len(suffering) == 1)} from that")
    return "; ".join(said)


def happened(failure: RankFailure) -> str:
    """Say what happened to one rank, and how far it had come."""
    return f"{failure.detail}; {failure.reached}" if failure.reached else failure.detail


def _what(failure: RankFailure) -> tuple[str, str, str]:
    return failure.kind, failure.detail, failure.reached


def named(ranks: Sequence[int], world_size: int | None = None) -> str:
    """Write `rank 1`, `ranks 0, 2 and 3`, or `every rank` where all of a world size are meant."""
    numbers = [str(rank) for rank in sorted(set(ranks))]
    if len(numbers) == world_size and len(numbers) > 1:
        return "every rank"
    return f"rank{'s' if len(numbers) > 1 else ''} {listed(numbers)}"


def listed(words: Sequence[str]) -> str:
    """Write `a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
