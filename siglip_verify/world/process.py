"""The parent's handle on one rank: its process, its channel, its log and its two files.

Here: what can be done to and seen of one rank. Not here: waiting for several (`supervise`).
"""

from __future__ import annotations

import mmap
import os
import select
import socket
import weakref
from contextlib import ExitStack, suppress
from pathlib import Path

from siglip_verify.world import kernel
from siglip_verify.world.channel import Channel
from siglip_verify.world.context import LOG_BYTES
from siglip_verify.world.launch import TemplateProcess
from siglip_verify.world.rank import STACK_SIGNAL, output_path, stack_path
from siglip_verify.world.template import kill_rank

_TAIL_BYTES, _TAIL_LINES = 8192, 40
_MAX_OUTPUT_BYTES = 1 << 24


class RankProcess:
    """One forked rank, as the parent sees it.

    Attributes:
        rank: The rank.
        pid: Its process, which is also its process group.
        channel: The line to it, non-blocking.
        log: Its log, read-only, valid as long as this object.
        main_thread: The thread whose stack is wanted; known once the rank has said hello.

    Raises:
        TemplateError: The rank cannot be forked.
    """

    def __init__(self, template: TemplateProcess, rank: int, world_size: int, folder: Path) -> None:
        self.rank = rank
        self.main_thread = 0
        self._template = template
        self._output = output_path(folder, rank)
        self._stack = stack_path(folder, rank)
        self._is_reaped = False
        with ExitStack() as theirs, ExitStack() as on_error:
            log = kernel.shared_memory(LOG_BYTES)
            theirs.callback(os.close, log)
            ours, other_end = socket.socketpair()
            on_error.callback(ours.close)
            theirs.callback(other_end.close)
            ours.setblocking(False)
            self.log = memoryview(mmap.mmap(log, LOG_BYTES)).toreadonly()
            self.pid = template.fork(rank, world_size, folder, (other_end.fileno(), log))
            on_error.pop_all()
        self.channel = Channel(ours)
        self.watch = kernel.watch(self.pid)
        self._release = weakref.finalize(self, _release, self.channel, self.watch)

    @property
    def has_ended(self) -> bool:
        """Whether the kernel reports the process' end; False where it cannot be asked."""
        if self.watch is None or not self._release.alive:
            return False
        poll = select.poll()
        poll.register(self.watch, select.POLLIN)
        return bool(poll.poll(0))

    @property
    def state(self) -> str:
        """The process' state letter, see `kernel.process_state`."""
        return kernel.process_state(self.pid)

    def ask_for_stack(self) -> None:
        """Have the rank write its Python stack into its file."""
        with suppress(ProcessLookupError):  # gone together with the template
            os.kill(self.pid, STACK_SIGNAL)

    def stack(self) -> str:
        """Return what is in the stack file."""
        return self._stack.read_text(errors="replace") if self._stack.exists() else ""

    def output_tail(self) -> str:
        """Return the last lines that the rank wrote to stdout and stderr."""
        if not self._output.exists():
            return ""
        with self._output.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])

    def trim_output(self) -> None:
        """Empty the output file if it has grown beyond reason: a rank that prints for ever must not fill the disk."""
        if self._output.exists() and self._output.stat().st_size > _MAX_OUTPUT_BYTES:
            os.truncate(self._output, 0)

    def kill(self) -> None:
        """SIGKILL the rank and what it started."""
        if not self._is_reaped and self._template.is_alive:
            kill_rank(self.pid)

    def reap(self) -> int | None:
        """Take the exit status of a rank that is dead or dying, once; None if it cannot be had."""
        if self._is_reaped:
            return None
        status = self._template.reap(self.pid)
        self._is_reaped = status is not None
        return status

    def close(self) -> None:
        """Let go of a killed rank."""
        if not self._is_reaped:
            self._template.bury(self.pid)
            self._is_reaped = True
        self._release()


def _release(channel: Channel, watch: int | None) -> None:
    channel.close()
    if watch is not None:
        os.close(watch)
