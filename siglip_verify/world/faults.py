"""What a rank does to commit a fault: to die, to hang, to run out of something.

Here: the deeds, each done by the rank to itself. Not here: the point of the step at which it does so (`observe.trap`).
A fault in a message is no deed: there the operation itself is posted with other arguments.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from siglip_verify.fault import Fault, Kind
from siglip_verify.world import kernel
from siglip_verify.world.context import context

_MEGABYTE = 1 << 20
_MEGABYTES_PRINTED = 32
_MEGABYTES_LEFT = 64


def commit(fault: Fault) -> None:
    """Do what the fault says; returns only where the rank goes on."""
    _DEEDS[fault.kind](fault)


def _kill(fault: Fault) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _abort(fault: Fault) -> None:
    os.abort()


def _stop(fault: Fault) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _raise(fault: Fault) -> None:
    raise RuntimeError(f"a fault, raised in {fault.place}")


def _loop(fault: Fault) -> None:
    collections.deque(itertools.repeat(None), maxlen=0)  # in C alone: no other thread gets its turn, no signal handler


def _be_late(fault: Fault) -> None:
    time.sleep(fault.late_s)


def _go_on(fault: Fault) -> None:
    """Do nothing: the fault is in the message."""


def _exhaust_memory(fault: Fault) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _MEGABYTES_LEFT * _MEGABYTE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    held: list[bytearray] = []
    for num_bytes in (_MEGABYTE, 1 << 12):
        with contextlib.suppress(MemoryError):
            while True:
                held.append(bytearray(num_bytes))
    while True:
        held.append(bytearray(64))  # until nothing is left to say so with


def _exhaust_descriptors(fault: Fault) -> None:
    limit = sum(1 for _ in Path("/proc/self/fd").iterdir()) + 8
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    while True:
        os.open(os.devnull, os.O_RDONLY)


def _fill_folder(fault: Fault) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # as on a full disk: no file can grow
    print("a rank's last words", flush=True)


def _lose_folder(fault: Fault) -> None:
    folder = context().folder
    assert folder is not None, "faults are set off in worlds of our own"
    shutil.rmtree(folder.parent)
    (folder / "note").write_text("a rank's note")


def _print(fault: Fault) -> None:
    for _ in range(_MEGABYTES_PRINTED):
        print("x" * _MEGABYTE)


def _flood(fault: Fault) -> None:
    while True:
        print("x" * _MEGABYTE)
        time.sleep(0.002)  # faster would show nothing more, and fill a disk between two looks of the parent


def _kill_parent(fault: Fault) -> None:
    os.kill(kernel.parent_of(os.getppid()), signal.SIGKILL)


_DEEDS: dict[Kind, Callable[[Fault], None]] = {
    "killed": _kill,
    "aborted": _abort,
    "stopped": _stop,
    "raised": _raise,
    "looped": _loop,
    "late": _be_late,
    "truncated": _go_on,
    "out-of-memory": _exhaust_memory,
    "no-descriptors": _exhaust_descriptors,
    "full-folder": _fill_folder,
    "lost-folder": _lose_folder,
    "prints": _print,
    "floods": _flood,
    "parent-killed": _kill_parent,
}
