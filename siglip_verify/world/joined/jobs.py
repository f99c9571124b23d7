# pyright: reportPrivateUsage=false
"""The thread of a rank that does its jobs; the main thread stays free to say where it is, and to take the verdict.

A world of W ranks is a group of ranks 0 .. W-1, so that a rank has one number in every world. While a job runs, that
group is the default one of the process, for a loss of somebody else's names no group.

Here: what happens in a rank between two jobs. Not here: who gives jobs (`crew`), what is said over the store (`board`).
"""

from __future__ import annotations

import contextlib
import datetime
import faulthandler
import gc
import importlib
import os
import pickle
import platform
import sys
import tempfile
import threading
from collections.abc import Generator
from typing import Any

import cloudpickle
import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

from siglip_verify.world import kernel
from siglip_verify.world.blame import Silent
from siglip_verify.world.context import LOG_BYTES, RankContext, enter
from siglip_verify.world.joined.board import Answer, Board, End, Form, Member, Work
from siglip_verify.world.joined.place import Place
from siglip_verify.world.messages import Raised, Returned
from siglip_verify.world.stacks import read_stack
from siglip_verify.world.template import BASE, CHECKPOINTS

_END_S = 2.0


class Jobs:
    """Joins the process group that is there, or the one that the launcher asks for, and does jobs.

    Args:
        place: This process.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._made_group = not dist.is_initialized()
        self._device = torch.device("cpu")  # until the ranks have agreed
        self._log = memoryview(bytearray(LOG_BYTES))
        self._groups: dict[int, dist.ProcessGroup] = {}
        self._thread = threading.Thread(target=self._serve, name="jobs", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether this rank can still do jobs."""
        return self._thread.is_alive()

    def where(self) -> Answer:
        """Say, from another thread, where the job under way is."""
        with tempfile.TemporaryFile("w+") as file:
            state = kernel.process_state(self._thread.native_id or 0)
            faulthandler.dump_traceback(file)
            file.seek(0)
            stack = file.read()
        return Answer(Silent(state, stack, tuple(read_stack(stack, self._thread.ident or 0))), self._written())

    def end(self, code: int, *, orderly: bool) -> int:
        """Let go of everything and return the exit code; or exit at once, where a job never ends or a rank is gone.

        A group of which a rank is gone may hold its other ranks for minutes.
        """
        self._thread.join(_END_S)
        if not orderly or self._thread.is_alive():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        if self._made_group:
            dist.destroy_process_group()
        return code

    # ------------------------------------------------------------------ in the thread
    def _serve(self) -> None:
        board, number = Board(self._place), 0
        for name in (*BASE, *CHECKPOINTS):  # seconds, which no case is to pay for
            importlib.import_module(name)
        self._device = device_of(self._place, board)
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)
        if self._made_group:
            dist.init_process_group("nccl" if self._device.type == "cuda" else "gloo")
        board.introduce(Member(platform.node(), os.getpid(), str(self._device), kernel.identity(), dist.get_backend()))
        while not isinstance(job := board.job(number), End):
            self._do(board, number, job)
            number += 1

    def _do(self, board: Board, number: int, job: Form | Work) -> None:
        """Do a job, and tell of it if it was this rank's too; a group in which something failed is left.

        Leaving closes its sockets, so that the others do not wait for this rank till their time is over.
        """
        outcome = self._outcome(job)
        if self._place.rank >= job.world_size:
            return
        failed = isinstance(outcome, Raised)
        board.answer(number, job.world_size, self._packed(outcome), failed=failed)
        if failed:
            self._leave(job.world_size)

    def _outcome(self, job: Form | Work) -> Returned | Raised:
        """Do the job; whatever it raises, SystemExit and KeyboardInterrupt included, becomes the answer."""
        try:
            return Returned(self._form(job) if isinstance(job, Form) else self._call(job))
        except BaseException as error:
            return Raised.of(error)

    def _form(self, job: Form) -> None:
        self._leave(job.world_size)
        self._log[:] = bytes(LOG_BYTES)
        timeout = datetime.timedelta(seconds=job.timeout_s)
        group: Any = dist.new_group(list(range(job.world_size)), timeout=timeout)  # by all ranks: it counts the groups
        if self._place.rank < job.world_size:
            self._groups[job.world_size] = group
            with self._as_world(job.world_size):
                dist.barrier()

    def _call(self, job: Work) -> Any:
        if self._place.rank >= job.world_size:
            return None
        self._log[:] = bytes(LOG_BYTES)
        function, args = pickle.loads(pickle.loads(job.call).call)
        with self._as_world(job.world_size):
            return function(*args)

    @contextlib.contextmanager
    def _as_world(self, world_size: int) -> Generator[None]:
        """Make a group the default one, here and in what a loss may read."""
        enter(RankContext(self._place.rank, world_size, self._log, device=str(self._device)))
        everyone, usual = distributed_c10d.GroupMember.WORLD, os.environ["WORLD_SIZE"]
        distributed_c10d._update_default_pg(self._groups[world_size])
        os.environ["WORLD_SIZE"] = str(world_size)
        try:
            yield
        finally:
            os.environ["WORLD_SIZE"] = usual
            distributed_c10d._update_default_pg(everyone)

    def _leave(self, world_size: int) -> None:
        group = self._groups.pop(world_size, None)
        if group is not None:
            dist.destroy_process_group(group)
            del group
            gc.collect()  # whoever still holds it keeps its sockets open

    def _packed(self, outcome: Returned | Raised) -> bytes:
        log = self._written()
        try:
            return cloudpickle.dumps(Answer(outcome, log))
        except Exception as error:
            value = outcome.value if isinstance(outcome, Returned) else outcome
            why = f"returned a {type(value).__name__} that cannot be pickled: "
            return pickle.dumps(Answer(Raised.of(error, why), log))

    def _written(self) -> bytes:
        return bytes(self._log).rstrip(b"\0")


def device_of(place: Place, board: Board) -> torch.device:
    """Choose the device: of a group that is there by its back end; else a GPU, if every rank has one of its own.

    Ranks with and without would ask for groups of two back ends, and wait for each other.
    """
    if dist.is_initialized():
        has_gpu = "nccl" in str(dist.get_backend())
    else:
        can_use = dist.is_nccl_available() and torch.cuda.is_available()
        has_gpu = board.all_say("gpu", can_use and torch.cuda.device_count() > place.local_rank)
    return torch.device("cuda", place.local_rank) if has_gpu else torch.device("cpu")
