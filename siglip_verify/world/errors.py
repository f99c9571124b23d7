"""The error of a world: which ranks failed, how, and whose fault it is.

Here: the exception and its wording. Not here: how a failure is recognised (`supervise`) and blamed (`blame`).
"""

from __future__ import annotations

import textwrap

from siglip_verify.errors import NoAnswerError
from siglip_verify.records import RankFailure

_TAIL_LINES = 12


class WorldError(NoAnswerError):
    """A world gave no answer: ranks failed, or it could not be made. It is gone; the next run makes another.

    Attributes:
        failures: The ranks that failed, in rank order; empty if no rank is involved (see `reason`).
        world_size: Number of ranks, W; 0 where no world was asked for yet.
        elapsed_s: Seconds from the start of the run to the judgement.
        logs: A copy of each rank's log, in rank order, as it was when the run failed.
        reason: What failed where it was no rank.
    """

    def __init__(
        self,
        failures: tuple[RankFailure, ...],
        world_size: int,
        elapsed_s: float = 0.0,
        logs: tuple[bytes, ...] = (),
        reason: str = "",
    ) -> None:
        super().__init__(failures, world_size, elapsed_s, logs, reason)
        self.failures = failures
        self.world_size = world_size
        self.elapsed_s = elapsed_s
        self.logs = logs
        self.reason = reason

    def __str__(self) -> str:
        if not self.failures:
            size = f" of world_size={self.world_size}" if self.world_size else ""
            return f"no world{size}: {self.reason}"
        culprits = [failure for failure in self.failures if failure.blamed]
        victims = [failure for failure in self.failures if not failure.blamed]
        head = f"a world of {self.world_size} failed after {self.elapsed_s:.1f} s, {_blame(culprits)}"
        return "\n".join([head, *_describe(culprits), *_describe(victims), *_evidence(culprits or victims)])


def _blame(culprits: list[RankFailure]) -> str:
    return f"by the fault of {name_ranks([failure.rank for failure in culprits])}" if culprits else "by no rank's fault"


def name_ranks(ranks: list[int]) -> str:
    """Write `rank 1` or `ranks 0, 2, 3`."""
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"


def _describe(failures: list[RankFailure]) -> list[str]:
    """One line for all ranks to which the same happened."""
    ranks: dict[tuple[str, str], list[int]] = {}
    for failure in failures:
        ranks.setdefault((failure.kind, failure.detail), []).append(failure.rank)
    return [f"  {name_ranks(those)} {kind}: {detail}" for (kind, detail), those in ranks.items()]


def _evidence(failures: list[RankFailure]) -> list[str]:
    """Traceback and last output of the first of them."""
    first = failures[0]
    parts = {"traceback" if first.kind == "raised" else "stack": first.traceback, "last output": first.stderr_tail}
    return [
        f"  rank {first.rank}, {name}:\n" + textwrap.indent(_last_lines(text), "    ")
        for name, text in parts.items()
        if text.strip()
    ]


def _last_lines(text: str) -> str:
    lines = text.strip("\n").splitlines()
    return "\n".join(lines if len(lines) <= _TAIL_LINES else ["...", *lines[-_TAIL_LINES:]])
