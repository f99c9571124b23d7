"""A deadline for the worlds of a process, and what is left of processes after their end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from siglip_verify.world import Worlds


@pytest.fixture(autouse=True)
def _soon(worlds: Worlds) -> Iterator[None]:
    """The session's worlds have a deadline that comes soon."""
    usual_s, worlds.timeout_s = worlds.timeout_s, 10
    yield
    worlds.timeout_s = usual_s


@pytest.fixture
def still_alive() -> Callable[[Iterable[int], float], set[int]]:
    """A function that waits up to some seconds for processes to end and returns those that live."""

    def wait(pids: Iterable[int], up_to_s: float) -> set[int]:
        left, give_up_s = set(pids), time.monotonic() + up_to_s
        while left and time.monotonic() < give_up_s:
            left = {pid for pid in left if lives(pid)}
            time.sleep(0.01)
        return left

    return wait


def lives(pid: int) -> bool:
    """A zombie that its new parent has not reaped yet is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
