"""Rank 0's view of all ranks: it gives them jobs, waits for what becomes of them, and finds out who is gone.

Here: deadlines, the roll call, the end of the run. Not here: what a rank does (`jobs`), who is to blame (`blame`).
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from siglip_verify.records import RankFailure
from siglip_verify.world import kernel
from siglip_verify.world.blame import Outcome, Round, judge
from siglip_verify.world.context import LOG_BYTES
from siglip_verify.world.errors import WorldError, name_ranks
from siglip_verify.world.joined.board import START_S, Answer, Board, End, Form, Member, RollCall, Work, wait_until
from siglip_verify.world.joined.jobs import Jobs
from siglip_verify.world.joined.place import Place
from siglip_verify.world.joined.termination import Termination
from siglip_verify.world.messages import Returned
from siglip_verify.world.supervise import GRACE_S

_ROLL_CALL_S = 5.0
_BYE_S = 5.0


class Crew:
    """All ranks of a launcher, this one included; made in rank 0.

    Attributes:
        members: Who they are, by rank.
        lost: Why no job can be done any more; empty as long as all ranks are there.

    Args:
        place: This process.
    """

    def __init__(self, place: Place) -> None:
        self._termination = Termination()
        self._jobs = Jobs(place)
        self._board = Board(place)
        self._num_jobs = self._num_calls = 0
        self._gone: dict[int, RankFailure] = {}
        self.lost: tuple[RankFailure, ...] = ()
        self.members: Sequence[Member] = self._introduced(place)

    def _introduced(self, place: Place) -> list[Member]:
        def is_over() -> bool:
            return not self._board.missing() or self._termination.came or not self._jobs.is_running

        wait_until(is_over, START_S, poll_s=0.05)
        missing = self._board.missing()
        if missing:
            raise WorldError((), place.world_size, reason=f"{name_ranks(missing)} did not join the process group")
        return self._board.members()

    def do(self, job: Form | Work, timeout_s: float) -> tuple[list[Any], list[memoryview]]:
        """Have ranks 0 .. W-1 do a job; return their values and their logs, in rank order.

        Raises:
            WorldError: A rank failed.
        """
        if self.lost:
            raise WorldError(self.lost, job.world_size, logs=(bytes(LOG_BYTES),) * job.world_size)
        started_s = time.monotonic()
        number = self._num_jobs
        self._num_jobs += 1
        self._board.post(number, job)
        answers, one_round = self._collect(number, range(job.world_size), timeout_s)
        logs = [_log(answers.get(rank)) for rank in range(job.world_size)]
        failures = self._failures(one_round)
        if failures:
            raise WorldError(failures, job.world_size, time.monotonic() - started_s, tuple(map(bytes, logs)))
        outcomes = [one_round.outcomes[rank] for rank in range(job.world_size)]
        return [outcome.value for outcome in outcomes if isinstance(outcome, Returned)], logs

    def end(self, code: int) -> int:
        """Tell every rank the exit code, wait till they have heard it, and return it; see `Jobs.end`."""
        self._termination.ignore()
        verdict = End(code, orderly=not self.lost)
        self._board.post(self._num_jobs, verdict)
        self._board.call(self._num_calls, verdict)
        others = [rank for rank in range(1, len(self.members)) if rank not in self._gone]
        wait_until(lambda: self._board.all_said_bye(others), _BYE_S)
        return self._jobs.end(code, orderly=verdict.orderly)

    # ------------------------------------------------------------------ waiting
    def _collect(self, number: int, ranks: Iterable[int], timeout_s: float) -> tuple[dict[int, Answer], Round]:
        """Wait for the answers; a first failure leaves the others GRACE_S, the launcher's SIGTERM nothing."""
        wait_until(lambda: self._board.settled(number) or self._termination.came, timeout_s)
        first_failed = self._board.first_failed(number)
        if first_failed is not None:
            wait_until(lambda: all(self._board.has_answered(number, rank) for rank in ranks), GRACE_S)
        answers = {rank: _opened(packed) for rank, packed in self._board.answers(number, ranks)}
        missing = [rank for rank in ranks if rank not in answers]
        if missing or self._termination.came:
            present = self._roll_call()
            answers = {rank: present[rank] for rank in missing if rank in present} | answers
        outcomes: dict[int, Outcome] = {rank: answer.outcome for rank, answer in answers.items()}
        return answers, Round(outcomes, timeout_s if first_failed is None else GRACE_S, first_failed)

    def _roll_call(self) -> dict[int, Answer]:
        """Ask every rank where it is, and note who is gone."""
        number, others = self._num_calls, range(1, len(self.members))
        self._num_calls += 1
        self._board.call(number, RollCall())
        here: dict[int, Answer] = {0: self._jobs.where()}

        def is_over() -> bool:
            here.update(self._board.present(number, (rank for rank in others if rank not in here)))
            return all(rank in here or self._has_ended(rank) for rank in others)

        wait_until(is_over, _ROLL_CALL_S, poll_s=0.02)
        self._gone |= {rank: self._failure_of_gone(rank) for rank in others if rank not in here}
        return here

    def _has_ended(self, rank: int) -> bool:
        """Tell whether the process of a rank on this machine has ended; of others only their silence tells."""
        return self._state(rank) in ("", "Z")

    def _state(self, rank: int) -> str | None:
        member = self.members[rank]
        return kernel.process_state(member.pid) if member.machine == kernel.identity() else None

    # ------------------------------------------------------------------ judging
    def _failures(self, one_round: Round) -> tuple[RankFailure, ...]:
        """Say who failed; where ranks are gone, theirs is the fault, and no further job can be done."""
        failures = judge(one_round, {})
        if self._gone:
            others = [failure for failure in failures if failure.rank not in self._gone]
            victims = [msgspec.structs.replace(failure, blamed=False) for failure in others]
            failures = tuple(sorted([*victims, *self._gone.values()], key=lambda failure: failure.rank))
            self.lost = tuple(self._gone.values())
        elif self._termination.came:
            self.lost = (_TERMINATED,)
            failures = failures or self.lost
        return failures

    def give_up(self, failures: tuple[RankFailure, ...]) -> None:
        """Take that no further job can be done."""
        self.lost = self.lost or failures

    @property
    def why_lost(self) -> str:
        """Say why no job can be done any more; empty as long as all ranks are there."""
        culprits = [failure for failure in self.lost if failure.blamed] or list(self.lost)
        if not culprits:
            return ""
        return f"{name_ranks([failure.rank for failure in culprits])}: {culprits[0].detail}"

    def _failure_of_gone(self, rank: int) -> RankFailure:
        is_stopped = (self._state(rank) or "") in ("T", "t")
        said = {"": "its process ended", "Z": "its process ended", "T": "its process is stopped (SIGSTOP)"}
        why = said.get(self._state(rank) or "", "") if self._state(rank) is not None else ""
        why = why or f"no sign of life within {_ROLL_CALL_S:g} s: its process ended or is stopped, or its host is gone"
        kind = "stopped" if is_stopped else "died"
        return RankFailure(rank=rank, kind=kind, blamed=True, detail=f"{why} ({self.members[rank]})")


_TERMINATED = RankFailure(
    rank=0, kind="stopped", blamed=False, detail="the launcher ended the run (SIGTERM), with every rank alive"
)


def _opened(packed: bytes) -> Answer:
    return pickle.loads(packed)


def _log(answer: Answer | None) -> memoryview:
    return memoryview((answer.log if answer else b"").ljust(LOG_BYTES, b"\0"))
