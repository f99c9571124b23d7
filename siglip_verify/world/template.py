"""The template process: torch imported, one thread, no user code; it forks ranks.

Here: what runs in the template. Not here: starting it and talking to it (`launch`), what runs in a rank (`rank`).

It serves one request at a time: `fork` a rank, `reap` a dead one. A dead rank stays a zombie until it is reaped, and
only the parent asks for that: so the parent may signal a rank by its pid without hitting a stranger. When the parent is
gone (its pidfd says so, or its socket is at its end) every rank is killed and the private folder removed. The socket
alone would not do: another child of the parent may hold a copy of it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from siglip_verify.world import kernel, rank

BASE = (
    "numpy",
    "torch",
    "torch.distributed",
    "torch.distributed.nn.functional",
    "torch.distributed._functional_collectives",
    "cloudpickle",
    "siglip_verify.features",
    "siglip_verify.loss",
    "siglip_verify.observe.c10d",
    "siglip_verify.run.step",
)
"""Imported before the first fork, so that no rank pays for it."""

CHECKPOINTS = ("torch._dynamo",)
"""What torch.utils.checkpoint imports when first called: as much again as all of the above."""

MAX_REQUEST_BYTES = 1 << 16
_REAP_S = 1.0


class Template:
    """The state of the template process.

    Args:
        control: Socket to the parent.
        parent_pid: Who the parent is.
        folder: The private folder.
    """

    def __init__(self, control: socket.socket, parent_pid: int, folder: Path) -> None:
        self._control = control
        self._folder = folder
        self._parent_watch = kernel.watch(parent_pid)
        self._pids: set[int] = set()
        self._buried: set[int] = set()  # killed, and nobody will ask for their exit status

    def serve(self) -> None:
        """Answer requests until the parent is gone, then leave nothing behind."""
        try:
            while (request := self._next_request()) is not None:
                self._control.sendall(json.dumps(self._answer(*request)).encode())
        except ConnectionError:
            pass  # the parent went while it was being answered
        finally:
            self._end()

    def _next_request(self) -> tuple[dict[str, Any], list[int]] | None:
        watched = [self._control.fileno()] + ([] if self._parent_watch is None else [self._parent_watch])
        ready, _, _ = select.select(watched, [], [])
        if self._parent_watch in ready:
            return None
        message, descriptors, _, _ = socket.recv_fds(self._control, MAX_REQUEST_BYTES, 2)
        return (json.loads(message), descriptors) if message else None

    def _answer(self, message: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        for pid in tuple(self._buried):
            self._reap(pid, within_s=0)
        if message["op"] == "fork":
            return self._fork(message, *descriptors)
        if message["op"] == "bury":
            self._buried.add(message["pid"])
        return self._reap(message["pid"], within_s=_REAP_S)

    def _fork(self, message: dict[str, Any], rank_socket: int, log: int) -> dict[str, Any]:
        template_pid = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            return {"error": f"fork: {error}"}
        finally:
            if os.getpid() == template_pid:
                os.close(rank_socket)
                os.close(log)
        if pid == 0:
            self._become_rank(message, rank_socket, log, template_pid)
        self._pids.add(pid)
        with suppress(OSError):  # the rank does the same; whoever comes second may find it done, or dead
            os.setpgid(pid, pid)
        return {"pid": pid}

    def _become_rank(self, message: dict[str, Any], rank_socket: int, log: int, template_pid: int) -> NoReturn:
        # A rank that kept these would hide the death of the parent from the template.
        self._control.close()
        if self._parent_watch is not None:
            os.close(self._parent_watch)
        rank.main(
            channel_socket=socket.socket(fileno=rank_socket),
            log_descriptor=log,
            rank=message["rank"],
            world_size=message["world_size"],
            folder=Path(message["folder"]),
            template_pid=template_pid,
        )

    def _reap(self, pid: int, within_s: float) -> dict[str, Any]:
        """Wait for a rank that is dead or dying; status None if it lives on."""
        give_up_s = time.monotonic() + within_s
        while (status := _exit_status(pid)) is None and time.monotonic() < give_up_s:
            time.sleep(0.001)
        if status is not None:
            self._pids.discard(pid)
            self._buried.discard(pid)
        return {"status": status}

    def _end(self) -> None:
        for pid in self._pids:
            kill_rank(pid)
        for pid in list(self._pids):
            self._reap(pid, within_s=_REAP_S)
        shutil.rmtree(self._folder, ignore_errors=True)


def _exit_status(pid: int) -> int | None:
    """Reap a child that is dead, and kill what it started while its pid still names that group."""
    if hasattr(os, "waitid"):
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        kill_rank(pid)
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def kill_rank(pid: int) -> None:
    """SIGKILL a rank and what it started; it is its own process group, and not yet reaped."""
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):  # no such group (yet), or nothing but zombies in it
            kill(pid, signal.SIGKILL)


def main(control_descriptor: int, parent_pid: int, folder: str, preload: Sequence[str]) -> None:
    """Run the template: import what ranks need, say so, serve until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to judge
    control = socket.socket(fileno=control_descriptor)
    control.set_inheritable(False)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(folder) / "inductor"))  # torch._dynamo makes it on import
    for name in (*BASE, *preload):
        importlib.import_module(name)
    sys.argv = ["-c"]
    gc.collect()
    gc.freeze()  # a collection in a rank leaves the pages shared with the template alone
    template = Template(control, parent_pid, Path(folder))
    if os.getppid() == parent_pid:
        control.sendall(json.dumps({"ready": True}).encode())
    template.serve()
