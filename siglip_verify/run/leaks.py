"""What a run of faults leaves behind, and what grows while it goes on.

Here: which counts are held against which, and how much they may grow. Not here: how they are counted (`world.census`).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Literal, NamedTuple

from siglip_verify.fault import Leak
from siglip_verify.world import Worlds
from siglip_verify.world.census import Surroundings, anonymous_bytes, descriptors

Role = Literal["this process", "the template", "a rank"]

_MEGABYTE = 1 << 20
_ALLOWED_MEGABYTES: dict[Role, float] = {"this process": 64, "the template": 8, "a rank": 8}
_WARM_LOOKS = 3  # what a process loads when it first does something is no leak


class _Key(NamedTuple):
    """One process; of this one, only looks with as many ranks are comparable, since each costs it descriptors."""

    role: Role
    pid: int
    num_ranks: int


class _Size(NamedTuple):
    descriptors: int
    megabytes: float


class Growth:
    """Looks at every process again and again, and tells by how much those that last have grown."""

    def __init__(self) -> None:
        self._looks: Counter[_Key] = Counter()
        self._first: dict[_Key, _Size] = {}
        self._last: dict[_Key, _Size] = {}

    def look(self, worlds: Worlds) -> None:
        """Measure this process, the template and every rank that lives now."""
        for key in _processes(worlds):
            try:
                size = _Size(descriptors(key.pid), anonymous_bytes(key.pid) / _MEGABYTE)
            except OSError:  # it has ended since
                continue
            self._looks[key] += 1
            if self._looks[key] >= _WARM_LOOKS:
                self._first.setdefault(key, size)
                self._last[key] = size

    def rows(self) -> Iterator[Leak]:
        """Give for each role the process that has grown most."""
        for role, allowed in _ALLOWED_MEGABYTES.items():
            grown = [(self._first[key], last) for key, last in self._last.items() if key.role == role]
            if not grown:
                continue
            before, after = max(grown, key=lambda pair: pair[1].descriptors - pair[0].descriptors)
            yield Leak(what=f"descriptors of {role}", before=before.descriptors, after=after.descriptors)
            before, after = max(grown, key=lambda pair: pair[1].megabytes - pair[0].megabytes)
            yield Leak(
                what=f"memory of {role}", before=before.megabytes, after=after.megabytes, allowed=allowed, unit="MiB"
            )


def left_behind(place: Surroundings) -> Iterator[Leak]:
    """Count what is there when everything was closed."""
    yield Leak(what="processes", before=0, after=len(place.processes()))
    yield Leak(what="temporary files", before=0, after=len(place.files()))


def _processes(worlds: Worlds) -> Iterator[_Key]:
    pids = worlds.pids()
    yield _Key("this process", os.getpid(), len(pids))
    for index, pid in enumerate(pids):
        yield _Key("a rank" if index else "the template", pid, 0)
