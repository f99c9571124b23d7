"""From what each rank did to who is to blame.

Here: pure judgement over outcomes. Not here: gathering them (`supervise`).

To blame is who died, was stopped, raised an exception of its own, or had the whole time and did something other than
wait for another rank. Not to blame is who lost its peer, waits for one, or was cut short by another's failure.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from siglip_verify.records import RankFailure
from siglip_verify.world.errors import name_ranks
from siglip_verify.world.messages import Hello, Raised, Returned
from siglip_verify.world.stacks import Frame, place, waits_for_peer

Kind = Literal["raised", "died", "hung", "stopped"]

_LOST_PEER = re.compile(
    r"gloo.*(Connection closed by peer|Connection reset by peer|Broken pipe|Timed out waiting|[Aa]pplication timeout)"
)
_STOPPED, _RUNNING = "Tt", "R"


@dataclass(frozen=True, slots=True)
class Ended:
    """The rank's process is gone.

    Attributes:
        status: Its exit status, minus the signal's number if one killed it; None if nobody could tell.
        stack: What faulthandler wrote if it crashed.
    """

    status: int | None
    stack: str = ""


@dataclass(frozen=True, slots=True)
class Silent:
    """The rank lives and has not answered.

    Attributes:
        state: Its process' state letter, "" if unknown.
        stack: Its Python stack as text; empty if it gave none.
        frames: The main thread's part of it.
    """

    state: str
    stack: str
    frames: tuple[Frame, ...]

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped by SIGSTOP or a debugger."""
        return self.state != "" and self.state in _STOPPED

    @property
    def waits(self) -> bool:
        """Whether it only waits for another rank."""
        return self.state != _RUNNING and waits_for_peer(self.frames)


Answer = Hello | Returned | Raised
Outcome = Answer | Ended | Silent


@dataclass(frozen=True, slots=True)
class Round:
    """What came of one request to all ranks.

    Attributes:
        outcomes: By rank, of every rank.
        allowed_s: How long the silent ranks had to answer, from the start or from the first failure.
        first_failed: The rank whose failure cut the waiting short; None if the deadline did.
    """

    outcomes: Mapping[int, Outcome]
    allowed_s: float
    first_failed: int | None

    @property
    def succeeded(self) -> bool:
        """Whether every rank answered with a value."""
        return all(isinstance(outcome, (Hello, Returned)) for outcome in self.outcomes.values())


def judge(one_round: Round, output_tails: Mapping[int, str]) -> tuple[RankFailure, ...]:
    """Say of every rank that failed what it did and whether it is to blame.

    Args:
        one_round: What each rank did.
        output_tails: Last output of the ranks that failed, by rank.
    """
    failures: list[RankFailure] = []
    for rank, outcome in sorted(one_round.outcomes.items()):
        tail = output_tails.get(rank, "")
        match outcome:
            case Raised(detail, text):
                failures.append(_failure(rank, "raised", _LOST_PEER.search(text) is None, detail, text, tail))
            case Ended(status, stack):
                failures.append(_failure(rank, "died", status is not None, describe_status(status), stack, tail))
            case Silent():
                failures.append(_judge_silent(rank, outcome, one_round, tail))
            case Hello() | Returned():
                pass
    return tuple(failures)


def _judge_silent(rank: int, silent: Silent, one_round: Round, tail: str) -> RankFailure:
    since = f"no answer after {one_round.allowed_s:.3g} s"
    if one_round.first_failed is not None:
        since = f"no answer within {one_round.allowed_s:.2g} s of rank {one_round.first_failed}'s failure"
    if silent.is_stopped:
        return _failure(rank, "stopped", True, f"{since}; its process is stopped (SIGSTOP)", silent.stack, tail)
    where = place(silent.frames)
    text = "; ".join(filter(None, [since, str(where or "no Python stack could be had"), _waiting(silent, one_round)]))
    blamed = one_round.first_failed is None and not silent.waits
    return _failure(rank, "hung", blamed, text, silent.stack, tail)


def _waiting(silent: Silent, one_round: Round) -> str:
    """Say what a waiting rank waits for where nobody failed: then the fault is in how the ranks talk."""
    if not silent.waits:
        return ""
    if one_round.first_failed is not None:
        return "waiting for another rank"
    others = one_round.outcomes
    returned = [rank for rank, outcome in sorted(others.items()) if isinstance(outcome, (Hello, Returned))]
    if returned:
        return f"waiting for another rank, when {name_ranks(returned)} had already returned"
    if all(isinstance(outcome, Silent) and outcome.waits for outcome in others.values()):
        return "waiting for another rank, as every rank does"
    return "waiting for another rank"


def describe_status(status: int | None) -> str:
    """Write an exit status in words, signals by name."""
    if status is None:
        return "its process is gone and so is the template process, which would know its exit status"
    if status >= 0:
        return f"its process exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"its process was killed by {name}{_SIGNAL_HINTS.get(name, '')}"


_SIGNAL_HINTS = {
    "SIGABRT": " (C++ abort; gloo aborts so when a message is larger than the buffer that receives it)",
    "SIGKILL": " (by another process, or by the kernel when memory runs out)",
}


def _failure(rank: int, kind: Kind, blamed: bool, detail: str, traceback: str, tail: str) -> RankFailure:
    return RankFailure(rank=rank, kind=kind, blamed=blamed, detail=detail, traceback=traceback, stderr_tail=tail)
