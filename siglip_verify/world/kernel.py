"""The few things that are asked of the Linux kernel; elsewhere each answers with the best there is.

Here: dying with one's parent, watching a process' end, its state, memory without a file. Not here: any policy.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

_PR_SET_PDEATHSIG = 1
IS_LINUX = sys.platform == "linux"


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel SIGKILL this process when its parent dies; nothing of the kind exists outside Linux.

    Raises:
        OSError: The kernel refuses.
        ProcessLookupError: The parent was dead before the kernel was asked.
    """
    if IS_LINUX:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:
        raise ProcessLookupError(f"the parent process {parent_pid} is dead")


def watch(pid: int) -> int | None:
    """Open a descriptor that becomes readable when the process ends; None where the kernel has no pidfd."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # a kernel before 5.3, a sandbox without pidfd, or the process is gone: sockets still tell
        return None


def open_descriptors(pid: int) -> int:
    """Count the descriptors of a process; 0 where it is gone or cannot be asked."""
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0


def process_state(pid: int) -> str:
    """Return the process' state letter: R running, S sleeping, T stopped, Z ended ...; "" where it cannot be had."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def parent_of(pid: int) -> int:
    """Return the pid of a process' parent.

    Raises:
        OSError: There is no such process, or no /proc.
    """
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def identity() -> str:
    """Name the running kernel and this process' pid namespace: where they are equal, a pid means the same process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"unknown to process {os.getpid()}"


def shared_memory(num_bytes: int) -> int:
    """Open a descriptor of zeroed memory that forked processes can map; a nameless file outside Linux."""
    if IS_LINUX:
        descriptor = os.memfd_create("siglip-verify-log")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.truncate(descriptor, num_bytes)
    return descriptor


def loopback_interface() -> str | None:
    """Name the loopback interface, `lo` or `lo0`; None if there is neither."""
    names = {name for _, name in socket.if_nameindex()}
    return next((name for name in ("lo", "lo0") if name in names), None)
