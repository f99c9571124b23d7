"""Why a case came to no judgement, in one sentence, from what is known of the ranks that failed."""

from __future__ import annotations

from collections.abc import Sequence

from siglip_verify.records import RankFailure


def failure_sentence(failures: Sequence[RankFailure], world_size: int) -> str:
    """Say who is to blame and what happened there, and who only suffers from it.

    Args:
        failures: The ranks that gave no record, and why.
        world_size: W.
    """
    if not failures:
        return "no rank gave a record, and none failed: the world could not be made"
    to_blame = [failure for failure in failures if failure.blamed] or list(failures)
    first = to_blame[0]
    alike = [failure.rank for failure in to_blame if (failure.kind, failure.detail) == (first.kind, first.detail)]
    otherwise = [failure.rank for failure in to_blame if failure.rank not in alike]
    suffering = [failure.rank for failure in failures if failure not in to_blame]
    said = [f"{named(alike, world_size)} {'was stopped' if first.kind == 'stopped' else first.kind}: {first.detail}"]
    if otherwise:
        said.append(f"{named(otherwise)} failed in another way")
    if suffering:
        said.append(f"{named(suffering)} only suffer{'s' * (len(suffering) == 1)} from that")
    return "; ".join(said)


def named(ranks: Sequence[int], world_size: int | None = None) -> str:
    """Write `rank 1`, `ranks 0, 2 and 3`, or `every rank` where all of a world size are meant."""
    numbers = [str(rank) for rank in sorted(set(ranks))]
    if len(numbers) == world_size and len(numbers) > 1:
        return "every rank"
    return f"rank{'s' if len(numbers) > 1 else ''} {listed(numbers)}"


def listed(words: Sequence[str]) -> str:
    """Write `a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
