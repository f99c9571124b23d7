"""Worlds made of a launcher's ranks: what `Worlds` is on one host, on the processes that are there.

Here: rank 0's worlds, and what the other ranks do meanwhile. Not here: jobs and their outcome (`crew`).
"""

from __future__ import annotations

import signal
import sys
import time
from typing import Any, Literal

import torch.distributed as dist

from siglip_verify.world.errors import WorldError
from siglip_verify.world.joined.board import Board, End, Form, RollCall, Work
from siglip_verify.world.joined.crew import Crew
from siglip_verify.world.joined.jobs import Jobs
from siglip_verify.world.joined.place import Place
from siglip_verify.world.joined.termination import Termination
from siglip_verify.world.pool import DEFAULT_TIMEOUT_S, Worlds
from siglip_verify.world.warm import WarmWorld

_GROUP_S = 5.0  # how much longer a group waits than rank 0, which is to judge first
_NCCL_GROUP_S = 3600.0  # when its time is over, NCCL ends the process, which must tell the verdict before
_FORM_S = 30.0
_VERDICT_S = 20.0  # torchrun kills 30 s after its SIGTERM
_POLL_S = 0.1


class JoinedWorlds(Worlds):
    """Worlds of the ranks that a launcher started: rank 0 asks, draws and judges, the others `serve`.

    A world of W ranks is a group of ranks 0 .. W-1, made when first asked for and made anew after a failure. A rank
    that dies is not replaced: then `lost` says so, and every further run fails at once.

    Args:
        place: This process, of rank 0.
        timeout_s: Deadline of a run, seconds.

    Attributes:
        most_ranks: How many ranks the launcher started.

    Raises:
        WorldError: Not all ranks came.
    """

    def __init__(self, place: Place, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        super().__init__(timeout_s=timeout_s)
        self._crew = Crew(place)
        self.most_ranks = place.world_size
        self._ranks_per_host = place.local_world_size

    @property
    def back_end(self) -> str:
        """What carries messages, in words."""
        members = self._crew.members
        hosts = len({member.host for member in members})
        devices = "GPUs" if members[0].device.startswith("cuda") else "processors"
        return f"{members[0].backend}, {len(members)} ranks of a launcher on {hosts} host{'s' * (hosts > 1)}, {devices}"

    @property
    def gather_backward(self) -> Literal["all_to_all", "reduce_scatter"]:
        """The collective by which our `gather` brings gradients home on this back end."""
        return "all_to_all" if self._crew.members[0].backend == "gloo" else "reduce_scatter"

    @property
    def ranks_per_host(self) -> int:
        """How many ranks the launcher started on each host."""
        return self._ranks_per_host

    def now_s(self) -> float:
        """Return 0: hosts have clocks of their own, and a rank clears its log before each job."""
        return 0.0

    @property
    def lost(self) -> str:
        """Why no further run can succeed; empty as long as all ranks are there."""
        return self._crew.why_lost

    def start(self) -> None:
        """Do nothing: the launcher has started the ranks."""

    def end(self, code: int) -> int:
        """Tell every rank the exit code; return it, or exit with it where a rank is gone or never ends."""
        self.close()
        return self._crew.end(code)

    def _make(self, world_size: int) -> WarmWorld:
        if world_size > self.most_ranks:
            raise WorldError((), world_size, reason=f"the launcher started {self.most_ranks} ranks")
        return JoinedWorld(self._crew, world_size, self.timeout_s)


class JoinedWorld:
    """A group of ranks 0 .. W-1 of a launcher.

    Args:
        crew: All ranks.
        world_size: Number of ranks, W.
        timeout_s: How long one job takes at most, usually.

    Raises:
        WorldError: The ranks did not come together.
    """

    def __init__(self, crew: Crew, world_size: int, timeout_s: float) -> None:
        self._crew = crew
        self._world_size = world_size
        self._is_alive = False
        longer_s = _NCCL_GROUP_S if "nccl" in crew.members[0].backend else _GROUP_S
        try:  # a rank that still waits in the group before is free when that group's time is over
            _, self._logs = crew.do(Form(world_size, timeout_s + longer_s), timeout_s + _GROUP_S + _FORM_S)
        except WorldError as error:
            crew.give_up(error.failures)
            raise
        self._is_alive = True

    @property
    def world_size(self) -> int:
        """Number of ranks, W."""
        return self._world_size

    @property
    def folder(self) -> None:
        """None: nobody would remove the folder of a rank that is killed."""
        return None

    @property
    def pids(self) -> tuple[int, ...]:
        """None: no process ends with this world."""
        return ()

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._is_alive

    def log(self, rank: int) -> memoryview:
        """Return a rank's log as it was when it last answered."""
        return self._logs[rank]

    def run(self, job: bytes, timeout_s: float) -> list[Any]:
        """Have every rank do a packed job; return their values in rank order.

        Raises:
            WorldError: A rank failed; the world is closed.
        """
        try:
            values, self._logs = self._crew.do(Work(self._world_size, job), timeout_s)
        except BaseException:
            self.close()
            raise
        return values

    def close(self) -> None:
        """Let go of it; its group is left when the next one of its size is made."""
        self._is_alive = False


def serve(place: Place) -> int | None:
    """Be a rank other than 0 until rank 0 tells the verdict; return its exit code, None where rank 0 is gone."""
    termination = Termination()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is rank 0's to judge
    jobs, board, number = Jobs(place), Board(place), 0
    try:
        while termination.since_s < _VERDICT_S:
            call = board.called(number)
            if isinstance(call, End):
                termination.ignore()
                board.say_bye()
                return jobs.end(call.code, orderly=call.orderly)
            if isinstance(call, RollCall):
                board.here(number, jobs.where())
                number += 1
            else:
                time.sleep(_POLL_S)
    except dist.DistError as error:  # the store was rank 0's
        print(f"rank {place.rank}: the store does not answer: {error}", file=sys.stderr)
    return None
