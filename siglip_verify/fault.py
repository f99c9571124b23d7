"""Faults as data: what a rank can do wrong, where in a step, and what came of it.

Here: the records, what each kind is, and what must come of it. Not here: how a rank commits one (`world.faults`), when
(`observe.trap`), and how the outcome is seen (`run.faults`).
"""

from __future__ import annotations

import typing
from typing import Literal

import msgspec

from siglip_verify.case import Case, Exchange
from siglip_verify.records import Phase, Verdict

Kind = Literal[
    "killed",
    "aborted",
    "stopped",
    "raised",
    "looped",
    "late",
    "truncated",
    "out-of-memory",
    "no-descriptors",
    "full-folder",
    "lost-folder",
    "prints",
    "floods",
    "parent-killed",
]
KINDS: tuple[Kind, ...] = typing.get_args(Kind)


class Expected(msgspec.Struct, frozen=True):
    """What must come of a kind of fault.

    Attributes:
        what: What the rank does, in words.
        verdicts: Those that are right; empty where nobody is left to judge.
        says: What the sentence about the case must hold (a regular expression).
    """

    what: str
    verdicts: tuple[Verdict, ...]
    says: str = ""


EXPECTED: dict[Kind, Expected] = {
    "killed": Expected("is killed by SIGKILL", ("unknown",), "SIGKILL"),
    "aborted": Expected("aborts in native code", ("unknown",), "SIGABRT"),
    "stopped": Expected("is stopped by SIGSTOP", ("unknown",), "SIGSTOP"),
    "raised": Expected("raises an exception", ("unknown",), "RuntimeError: a fault"),
    "looped": Expected("loops for ever and never lets go of the interpreter", ("unknown",), "in _loop "),
    "late": Expected("is late, inside the timeout", ("pass",)),
    "truncated": Expected("hands over half of its message", ("mismatch",), "bytes"),
    "out-of-memory": Expected("takes all the memory that it may have", ("unknown",), "MemoryError"),
    "no-descriptors": Expected("opens all the files that it may", ("unknown",), "Too many open files"),
    "full-folder": Expected("prints where no file can grow", ("unknown",), "File too large"),
    "lost-folder": Expected("finds the private folder removed", ("unknown",), "No such file or directory"),
    "prints": Expected("prints megabytes, and goes on", ("pass",)),
    "floods": Expected("prints for ever", ("unknown",), "in _flood "),
    "parent-killed": Expected("lives on when its parent is killed by SIGKILL", ()),
}


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault, at one point of a step.

    Attributes:
        kind: What happens.
        rank: To which rank.
        phase, hop: As the rank has written this hop's first operation into its log, and has not posted it.
        late_s: How late a late rank is, seconds.
    """

    kind: Kind
    rank: int
    phase: Phase
    hop: int
    late_s: float = 0.5

    @property
    def place(self) -> str:
        """The phase and the hop, as a verdict names them."""
        return f"{self.phase} hop {self.hop}"


class FaultOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one fault.

    Attributes:
        fault: The fault.
        case: The step in which it was set off.
        verdict: The verdict on that step; None where the parent was killed.
        said: What was said of it, in one sentence.
        elapsed_s: Seconds until it was said.
        names_rank: Whether that names the rank; None where nothing is to be named.
        names_hop: Whether it names the phase and the hop, likewise.
        left: What was left behind, in words.
        wrong: What should have been otherwise, what was left included; empty where all is as it must be.
    """

    fault: Fault
    case: Case
    verdict: Verdict | None
    said: str
    elapsed_s: float
    names_rank: bool | None = None
    names_hop: bool | None = None
    left: tuple[str, ...] = ()
    wrong: tuple[str, ...]


class Burst(msgspec.Struct, frozen=True, kw_only=True):
    """Random cases without a fault, of one exchange at one world size.

    Attributes:
        exchange: The exchange.
        world_size: W.
        examples: How many cases.
        seed: Where the draws start.
    """

    exchange: Exchange
    world_size: int
    examples: int
    seed: int


class Leak(msgspec.Struct, frozen=True, kw_only=True):
    """One count before and after, and how much more of it there may be.

    Attributes:
        what: What is counted.
        before, after: The counts.
        allowed: By how much it may have grown.
        unit: Of the counts.
    """

    what: str
    before: float
    after: float
    allowed: float = 0
    unit: str = ""

    @property
    def is_leak(self) -> bool:
        """Whether it has grown by more than it may."""
        return self.after - self.before > self.allowed


class FaultReport(msgspec.Struct, frozen=True, kw_only=True):
    """A run of faults, as one finished result.

    Attributes:
        outcomes: What came of each fault.
        cases: Cases without a fault that were judged, those after each fault included.
        wrong_cases: Those of them that did not pass, in words.
        rebuilt: Worlds that replaced a broken one.
        leaks: What was counted before and after.
        seed: Where the draws start.
        timeout_s: Seconds that a rank may take.
        elapsed_s: Seconds in all.
    """

    outcomes: tuple[FaultOutcome, ...]
    cases: int
    wrong_cases: tuple[str, ...]
    rebuilt: int
    leaks: tuple[Leak, ...]
    seed: int
    timeout_s: float
    elapsed_s: float

    @property
    def passes(self) -> bool:
        """Whether every outcome is right and nothing is left behind."""
        return (
            not any(outcome.wrong for outcome in self.outcomes)
            and not self.wrong_cases
            and not any(leak.is_leak for leak in self.leaks)
        )
