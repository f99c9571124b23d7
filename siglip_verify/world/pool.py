"""The pool: one warm world for each world size, and the template process that they are forked from.

Here: when a world is made, used again and replaced. Not here: what a world is (`world`).
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from siglip_verify.world.errors import WorldError
from siglip_verify.world.launch import TemplateError, TemplateProcess
from siglip_verify.world.messages import pack_job
from siglip_verify.world.template import CHECKPOINTS
from siglip_verify.world.warm import WarmWorld
from siglip_verify.world.world import World

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_TIMEOUT_S = 20.0
MOST_RANKS = 64


class Worlds:
    """Warm worlds, one for each world size, made on first use.

    Nothing is started before the first world is asked for. Everything ends with `close` (or the `with` block), with
    the interpreter, or, by the template, when this process dies in any other way. Threads may share one pool (and
    close it when their runs are over); a forked child may not use its parent's.

    Args:
        timeout_s: Deadline of a run, seconds.
        preload: Modules that jobs need beside those that every job does, imported once and not in every rank: by
            default what torch.utils.checkpoint, a loss in chunks, imports at its first call, for two seconds.

    Attributes:
        timeout_s: Likewise; may be changed between runs.
        most_ranks: How many ranks a world should have at most: what one host bears.

    Raises:
        ValueError: The timeout is not positive.
    """

    def __init__(self, *, timeout_s: float = DEFAULT_TIMEOUT_S, preload: Sequence[str] = CHECKPOINTS) -> None:
        self.timeout_s = _positive(timeout_s)
        self._preload = tuple(preload)
        self.most_ranks = MOST_RANKS
        self._owner_pid = os.getpid()
        self._template: TemplateProcess | None = None
        self._worlds: dict[int, WarmWorld] = {}
        self._built: Counter[int] = Counter()
        self._lock = threading.RLock()
        self._one_run_at_a_time: defaultdict[int, threading.RLock] = defaultdict(threading.RLock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def back_end(self) -> str:
        """What carries messages, in words."""
        return "gloo, one process a rank, on loopback"

    @property
    def gather_backward(self) -> Literal["all_to_all", "reduce_scatter"]:
        """The collective by which our `gather` brings gradients home on this back end."""
        return "all_to_all"

    @property
    def ranks_per_host(self) -> int:
        """How many ranks a host has, if there are enough."""
        return self.most_ranks

    def now_s(self) -> float:
        """Return the time on the clock by which ranks log what they post: what was logged before is of earlier jobs."""
        return time.monotonic()

    @property
    def lost(self) -> str:
        """Why no further run can succeed; empty here, where every failed world is made anew."""
        return ""

    @property
    def built(self) -> int:
        """How many worlds were made so far."""
        return self._built.total()

    @property
    def rebuilt(self) -> int:
        """How many of those replaced an earlier one of the same size."""
        return self._built.total() - len(self._built)

    @property
    def folder(self) -> Path | None:
        """The private folder; None before the first world."""
        return self._template.folder if self._template is not None else None

    def start(self) -> None:
        """Start the template process in the background, so that it imports torch while the caller does other work.

        Raises:
            WorldError: There is no folder to write.
        """
        with self._lock:
            self._live_template(world_size=0)

    def pids(self) -> tuple[int, ...]:
        """List the live processes: the template first, then the ranks of every world."""
        if self._template is None or not self._template.is_alive:
            return ()
        return (self._template.pid, *(pid for world in self._worlds.values() for pid in world.pids))

    def world(self, world_size: int) -> WarmWorld:
        """Return the warm world of that size; make it if there is none, or a rank of it has died.

        Raises:
            ValueError: The world size is below 1.
            WorldError: The world cannot be made.
        """
        if world_size < 1:
            raise ValueError(f"a world has at least one rank; got world_size={world_size}")
        if os.getpid() != self._owner_pid:
            raise WorldError((), world_size, reason="these worlds belong to the process that forked this one; make own")
        with self._lock:
            world = self._worlds.get(world_size)
            if world is not None and world.is_alive:
                return world
            self.discard(world_size)
            world = self._make(world_size)
            self._built[world_size] += 1
            self._worlds[world_size] = world
            return world

    def alone(self, world_size: int) -> AbstractContextManager[Any]:
        """Keep other threads' runs from the world of that size, so that its logs stay those of one's own run."""
        return self._one_run_at_a_time[world_size]

    def logs(self, world_size: int) -> list[memoryview]:
        """Return the logs of the world that ran last, in rank order, also where a rank of it has died since.

        Raises:
            KeyError: There is no world of that size.
        """
        return [self._worlds[world_size].log(rank) for rank in range(world_size)]

    def run(
        self, world_size: int, function: Callable[..., Any], *args: Any, timeout_s: float | None = None
    ) -> list[Any]:
        """Call `function(*args)` on every rank and return the values in rank order.

        Args:
            world_size: Number of ranks.
            function: Any callable; one of an importable module travels by name, others by value (cloudpickle).
            *args: The same for every rank, picklable.
            timeout_s: Deadline of this run, if not the pool's.

        Raises:
            TypeError: The function or an argument cannot be pickled.
            ValueError: The world size or the timeout is not positive.
            WorldError: A rank raised, died, hung or was stopped. Its world is killed; the next run makes another.
        """
        deadline_s = self.timeout_s if timeout_s is None else _positive(timeout_s)
        job = pack_job(function, args)
        with self.alone(world_size):
            return self.world(world_size).run(job, deadline_s)

    def discard(self, world_size: int) -> None:
        """Kill the world of that size, so that the next run gets a new one.

        For a job that returned and may still have left messages of its own in the group.
        """
        with self._lock:
            world = self._worlds.pop(world_size, None)
            if world is not None:
                world.close()

    def close(self) -> None:
        """End every process and remove the folder. The pool can be used again, and then starts anew."""
        with self._lock:
            for world_size in list(self._worlds):
                self.discard(world_size)
            if self._template is not None:
                self._template.close()
                self._template = None

    def _make(self, world_size: int) -> WarmWorld:
        template = self._live_template(world_size)
        try:
            return World(template, world_size, self.built)
        except TemplateError as error:
            raise WorldError((), world_size, reason=str(error)) from error
        except OSError as error:  # no room in the private folder, or no descriptor left to this process
            reason = f"a world needs files and descriptors of its own; got {type(error).__name__}: {error}"
            raise WorldError((), world_size, reason=reason) from error

    def _live_template(self, world_size: int) -> TemplateProcess:
        if self._template is None or not (self._template.is_alive and self._template.folder.is_dir()):
            self.close()  # of a template without its folder too: something that tidies up has removed it
            try:
                self._template = TemplateProcess(self._preload)
            except TemplateError as error:
                raise WorldError((), world_size, reason=str(error)) from error
        return self._template


def _positive(timeout_s: float) -> float:
    if not timeout_s > 0:
        raise ValueError(f"a deadline lies in the future; got timeout_s={timeout_s}")
    return timeout_s
