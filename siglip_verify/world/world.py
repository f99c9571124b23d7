"""One world: the ranks of one gloo group, warm, asked again and again.

Here: one group from its forks to its end. Not here: keeping one for each size (`pool`).
"""

from __future__ import annotations

import resource
import shutil
import time
from typing import Any

from siglip_verify.world import kernel
from siglip_verify.world.blame import Returned, judge
from siglip_verify.world.errors import WorldError
from siglip_verify.world.launch import TemplateProcess
from siglip_verify.world.process import RankProcess
from siglip_verify.world.supervise import collect

_START_S = 60.0


class World:
    """A group of `world_size` warm ranks. Made by `Worlds`, which also replaces it after a failure.

    Args:
        template: Who forks the ranks.
        world_size: Number of ranks, W.
        number: A number that no other world of this template has, for its folder.

    Raises:
        WorldError: The ranks did not come together.
        TemplateError: A rank cannot be forked.
    """

    def __init__(self, template: TemplateProcess, world_size: int, number: int) -> None:
        self.world_size = world_size
        self.folder = template.folder / f"world-{number}"
        self._ranks: list[RankProcess] = []
        self._template = template
        self._is_closed = False
        self._most_descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2  # between jobs; ranks inherit it
        try:
            self.folder.mkdir(mode=0o700)
            for rank in range(world_size):
                self._ranks.append(RankProcess(template, rank, world_size, self.folder))
            self._round(_START_S)
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes of the ranks, in rank order; empty once the world is closed."""
        return () if self._is_closed else tuple(rank.pid for rank in self._ranks)

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked: not closed, and no rank has died since it last answered, nor their template.

        A template takes its ranks along, but the kernel tells of their end when their last thread is gone. Ranks that
        jobs have left with few descriptors (each process group takes some, and torch keeps it) are not asked either.
        """
        return (
            not self._is_closed
            and self._template.is_alive
            and not any(rank.has_ended for rank in self._ranks)
            and not any(kernel.open_descriptors(rank.pid) > self._most_descriptors for rank in self._ranks)
        )

    def log(self, rank: int) -> memoryview:
        """Return a rank's log, LOG_BYTES read-only bytes that change as the rank writes.

        It can be read at any time, while the rank runs, hangs or is dead.
        """
        return self._ranks[rank].log

    def run(self, job: bytes, timeout_s: float) -> list[Any]:
        """Have every rank do a packed job; return their values in rank order.

        Raises:
            WorldError: A rank failed; the world is closed.
        """
        try:
            for rank in self._ranks:
                rank.channel.post(job)
            return self._round(timeout_s)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Kill the ranks and remove the world's folder; logs stay readable. Does nothing in a forked child."""
        if not self._is_closed and self._template.is_ours:
            self._is_closed = True
            for rank in self._ranks:
                rank.kill()
            for rank in self._ranks:
                rank.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _round(self, timeout_s: float) -> list[Any]:
        started_s = time.monotonic()
        one_round = collect(self._ranks, timeout_s)
        elapsed_s = time.monotonic() - started_s
        if one_round.succeeded:
            outcomes = [one_round.outcomes[rank] for rank in range(self.world_size)]
            return [outcome.value for outcome in outcomes if isinstance(outcome, Returned)]
        failures = judge(one_round, {rank.rank: rank.output_tail() for rank in self._ranks})
        logs = tuple(bytes(rank.log) for rank in self._ranks)
        raise WorldError(failures, self.world_size, elapsed_s, logs)
