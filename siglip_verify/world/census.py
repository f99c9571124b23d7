"""Counting what worlds leave behind: processes, files, descriptors, memory.

Here: reading /proc, and a temporary folder of one's own in which nothing else writes. Not here: how much may be left.

A process is known by a mark in its environment, which everything that is started from here inherits: so what has lost
its parent is found too.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

from siglip_verify.world import kernel

_MARK = "_SIGLIP_VERIFY_CENSUS"


class Surroundings:
    """What was started, and what was written, since `surroundings` was entered.

    Attributes:
        folder: The temporary folder in use.
    """

    def __init__(self, folder: Path, mark: str) -> None:
        self.folder = folder
        self._mark = f"{_MARK}={mark}".encode()

    def processes(self) -> set[int]:
        """List the processes that were started, this one left out, those that nobody has reaped included."""
        marked, zombies = set[int](), list[int]()
        for pid in _all_pids():
            if kernel.process_state(pid) == "Z":
                zombies.append(pid)
            elif self._mark in _environment(pid):
                marked.add(pid)
        parents = marked | {os.getpid()}
        return marked | {pid for pid in zombies if _parent(pid) in parents}

    def files(self) -> set[Path]:
        """List what lies in the temporary folder, at any depth."""
        return set(self.folder.rglob("*"))


@contextlib.contextmanager
def surroundings() -> Generator[Surroundings]:
    """Mark what is started in this block, and give it a temporary folder of its own, removed at the end."""
    mark, usual = secrets.token_hex(8), tempfile.tempdir
    folder = Path(tempfile.mkdtemp(prefix="siglip-verify-census-"))
    before = {name: os.environ.get(name) for name in (_MARK, "TMPDIR")}
    os.environ.update({_MARK: mark, "TMPDIR": str(folder)})
    tempfile.tempdir = str(folder)
    try:
        yield Surroundings(folder, mark)
    finally:
        tempfile.tempdir = usual
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)


def descriptors(pid: int) -> int:
    """Count the open descriptors of a process.

    Raises:
        OSError: It is gone.
    """
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def anonymous_bytes(pid: int) -> int:
    """Return the memory of a process that is no file's, shared with forked processes or not.

    What is its own alone would not do: it grows when another process that shared it ends.

    Raises:
        OSError: It is gone.
    """
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    if "RssAnon" not in fields:
        raise ProcessLookupError(f"process {pid} has no memory left: it is ending")
    return int(fields["RssAnon"].split()[0]) << 10


def _all_pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # it has ended since, or belongs to someone else
        return b""


def _parent(pid: int) -> int | None:
    try:
        return kernel.parent_of(pid)
    except OSError:
        return None
