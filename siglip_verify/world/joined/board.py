"""What the ranks of a launcher tell each other over its store: jobs, answers, a roll call, the verdict.

Rank 0 posts; the others answer. The keys:

| key | written by | holds |
|---|---|---|
| `member/r` | rank r, once | its host, process and device |
| `job/n` | rank 0 | the n-th job, for every rank |
| `answer/n/r` | rank r | what became of it there, and the rank's log |
| `settled/n` | the last rank to answer, or the first to fail | who failed, or nothing |
| `call/k` | rank 0 | the k-th call to the main threads: say where you are, or end with this code |
| `here/k/r` | rank r | where its job is |
| `bye/r` | rank r | that it ends |

Here: what is written where. Not here: what is made of it.
"""

from __future__ import annotations

import datetime
import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from siglip_verify.world.blame import Silent
from siglip_verify.world.joined.place import Place
from siglip_verify.world.messages import Raised, Returned

_FOR_EVER = datetime.timedelta(days=365)
START_S = 600.0  # until the last host is up
_POLL_S = 0.001


@dataclass(frozen=True, slots=True)
class Member:
    """Who a rank is: for the report, and for what is said of it when it is gone.

    Attributes:
        host: Its host's name.
        pid: Its process.
        device: Where it computes.
        machine: Where its pid means a process, see `kernel.identity`.
        backend: Of its process group.
    """

    host: str
    pid: int
    device: str
    machine: str
    backend: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, {self.device}"


@dataclass(frozen=True, slots=True)
class Form:
    """The group of ranks 0 .. world_size - 1 is made, in place of an earlier one; every rank takes part."""

    world_size: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Work:
    """Ranks 0 .. world_size - 1 make one call."""

    world_size: int
    call: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The run is over, with this exit code; `orderly` unless a rank is gone."""

    code: int
    orderly: bool


@dataclass(frozen=True, slots=True)
class RollCall:
    """Every rank says where it is."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a job on one rank; `log` without the zeros at its end."""

    outcome: Returned | Raised | Silent
    log: bytes


class Board:
    """One thread's line to the store: a thread that waits on it holds it.

    Args:
        place: This process.
    """

    def __init__(self, place: Place) -> None:
        server = dist.TCPStore(
            place.address,
            place.port,
            is_master=place.serves_store,
            timeout=datetime.timedelta(seconds=START_S),
            wait_for_workers=False,
            multi_tenant=True,  # the process group of rank 0 serves at the same port
        )
        self._place = place
        self._store: Any = dist.PrefixStore(f"siglip-verify/{place.attempt}", server)  # its stub has no bytes

    def introduce(self, member: Member) -> None:
        """Say who this rank is."""
        self._write(f"member/{self._place.rank}", member)

    def missing(self) -> list[int]:
        """List the ranks that have not introduced themselves."""
        return [rank for rank in range(self._place.world_size) if not self._store.check([f"member/{rank}"])]

    def members(self) -> list[Member]:
        """Return who the ranks are, all of which have introduced themselves."""
        return [self._read(f"member/{rank}") for rank in range(self._place.world_size)]

    def all_say(self, what: str, ours: bool) -> bool:
        """Say yes or no to something, wait for what every rank says, and tell whether all said yes."""
        self._write(f"{what}/{self._place.rank}", ours)
        keys = [f"{what}/{rank}" for rank in range(self._place.world_size)]
        self._store.wait(keys, _FOR_EVER)
        return all(self._read(key) for key in keys)

    # ------------------------------------------------------------------ jobs
    def post(self, number: int, job: Form | Work | End) -> None:
        """Give every rank its next job."""
        self._write(f"job/{number}", job)

    def job(self, number: int) -> Form | Work | End:
        """Wait for a job, however long."""
        self._store.wait([f"job/{number}"], _FOR_EVER)
        return self._read(f"job/{number}")

    def answer(self, number: int, world_size: int, packed: bytes, *, failed: bool) -> None:
        """Give a packed `Answer`, and settle the job if it is the last or a failure."""
        self._store.set(f"answer/{number}/{self._place.rank}", packed)
        answered = self._store.add(f"answered/{number}", 1)
        if failed or answered == world_size:
            self._store.compare_set(f"settled/{number}", "", str(self._place.rank) if failed else "nobody")

    def settled(self, number: int) -> bool:
        """Tell whether every rank has answered, or one has failed."""
        return self._store.check([f"settled/{number}"])

    def first_failed(self, number: int) -> int | None:
        """Return who settled a job by failing; None if nobody did."""
        rank = self._store.get(f"settled/{number}").decode() if self.settled(number) else ""
        return int(rank) if rank.isdigit() else None

    def answers(self, number: int, ranks: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """Take the answers that are there, by rank."""
        for rank in ranks:
            key = f"answer/{number}/{rank}"
            if self._store.check([key]):
                yield rank, self._store.get(key)
                self._store.delete_key(key)

    def has_answered(self, number: int, rank: int) -> bool:
        """Tell whether a rank's answer is there and was not taken."""
        return self._store.check([f"answer/{number}/{rank}"])

    # ------------------------------------------------------------------ main threads
    def call(self, number: int, message: RollCall | End) -> None:
        """Call the main threads of all ranks."""
        self._write(f"call/{number}", message)

    def called(self, number: int) -> RollCall | End | None:
        """Return a call, if it was made."""
        return self._read(f"call/{number}") if self._store.check([f"call/{number}"]) else None

    def here(self, number: int, answer: Answer) -> None:
        """Answer a roll call."""
        self._write(f"here/{number}/{self._place.rank}", answer)

    def present(self, number: int, ranks: Iterable[int]) -> dict[int, Answer]:
        """Return what came of a roll call so far."""
        keys = {rank: f"here/{number}/{rank}" for rank in ranks}
        return {rank: self._read(key) for rank, key in keys.items() if self._store.check([key])}

    def say_bye(self) -> None:
        """Say that this rank ends, and needs the store no longer."""
        self._store.set(f"bye/{self._place.rank}", "bye")

    def all_said_bye(self, ranks: Iterable[int]) -> bool:
        """Tell whether these ranks need the store no longer."""
        return self._store.check([f"bye/{rank}" for rank in ranks] or ["bye/0"])

    # ------------------------------------------------------------------ values
    def _write(self, key: str, value: object) -> None:
        self._store.set(key, pickle.dumps(value))

    def _read(self, key: str) -> Any:
        return pickle.loads(self._store.get(key))


def wait_until(happened: Callable[[], bool], timeout_s: float, *, poll_s: float = _POLL_S) -> bool:
    """Wait until something has happened, or time is over; return whether it has.

    In short sleeps, for signals reach Python between them alone: a wait inside the store would hold them back.
    """
    deadline_s = time.monotonic() + timeout_s
    while not (is_so := happened()) and time.monotonic() < deadline_s:
        time.sleep(poll_s)
    return is_so
