"""What every rank does in a phase: rounds of messages, with computing while they are under way and after.

Here: the records, which know no cluster. Not here: which rounds an exchange or a collective is made of (`program`,
`collectives`), and how long they take (`lockstep`, `engine`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Transfer:
    """One message of every rank.

    Attributes:
        num_bytes: Its size.
        offset: It goes so many places to the right around the ring of ranks.
        turn: That ring goes through each host beginning at its rank `turn`, in place of its rank 0.
        flip: If not 0, it goes to rank XOR flip instead.
    """

    num_bytes: float
    offset: int = 0
    turn: int = 0
    flip: int = 0

    def peer(self, rank: int, world_size: int, ranks_per_host: int) -> int:
        """Return the rank that a rank's message goes to."""
        if self.flip:
            return rank ^ self.flip
        position = _turned(rank, -self.turn, ranks_per_host)
        return _turned((position + self.offset) % world_size, self.turn, ranks_per_host)


def _turned(rank: int, turn: int, ranks_per_host: int) -> int:
    host, place = divmod(rank, ranks_per_host)
    return host * ranks_per_host + (place + turn) % ranks_per_host


@dataclass(frozen=True, slots=True)
class Round:
    """Messages that are posted together and waited for, and computing.

    Attributes:
        transfers: What every rank sends.
        call_s: What it takes before anything is sent.
        fixed_s: Communication whose time is known already, as that of a whole collective, which all ranks end at once.
        during_s: Computing that goes on while all this is under way.
        after_s: Computing that begins when both are done.
    """

    transfers: tuple[Transfer, ...] = ()
    call_s: float = 0.0
    fixed_s: float = 0.0
    during_s: float = 0.0
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Loop:
    """Some rounds, several times in a row."""

    rounds: tuple[Round, ...]
    times: int = 1


Program = tuple[Loop, ...]
"""All rounds of a phase, or of a collective."""


def computing_s(program: Program) -> float:
    """Return the seconds of computing in a program."""
    return sum(loop.times * sum(each.during_s + each.after_s for each in loop.rounds) for loop in program)
