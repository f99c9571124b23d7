"""The place that a launcher gave this process: which rank of how many, on which host, with which device.

Here: reading what torchrun, or any launcher that sets the same variables, says. Not here: talking to it (`board`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from siglip_verify.errors import UsageError

_RANKS = ("RANK", "WORLD_SIZE")
_STORE = ("MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True)
class Place:
    """One process of a launcher.

    Attributes:
        rank: Its rank in the whole cluster.
        world_size: Number of processes that the launcher started, on all hosts.
        local_rank: Its number on its host, which is the number of its device.
        local_world_size: Processes on its host.
        address, port: Where the launcher's store is.
        attempt: How often the launcher has started the processes anew.
        serves_store: Whether this process has to serve the store, as no launcher's agent does.
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    address: str
    port: int
    attempt: str
    serves_store: bool

    @classmethod
    def of_launcher(cls, environment: Mapping[str, str] = os.environ) -> Place | None:
        """Return this process' place; None where no launcher started it.

        Raises:
            UsageError: The launcher said which rank this is, and not where the others are; or said no number.
        """
        if not all(name in environment for name in _RANKS):
            return None
        missing = [name for name in _STORE if name not in environment]
        if missing:
            raise UsageError(
                f"a launcher sets {', '.join(_RANKS + _STORE)}; got RANK={environment['RANK']} without "
                f"{' and '.join(missing)}: start with torchrun, export them, or unset RANK to run on this host alone"
            )
        rank, world_size = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
        if not 0 <= rank < world_size:
            raise UsageError(f"ranks are 0 .. WORLD_SIZE - 1; got RANK={rank} with WORLD_SIZE={world_size}")
        by_agent = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        return cls(
            rank=rank,
            world_size=world_size,
            local_rank=_number(environment, "LOCAL_RANK", "0"),
            local_world_size=_number(environment, "LOCAL_WORLD_SIZE", "1"),
            address=environment["MASTER_ADDR"],
            port=_number(environment, "MASTER_PORT"),
            attempt=environment.get("TORCHELASTIC_RESTART_COUNT", "0"),
            serves_store=rank == 0 and not by_agent,
        )


def _number(environment: Mapping[str, str], name: str, default: str = "") -> int:
    value = environment.get(name, default)
    if not value.isascii() or not value.isdigit():
        raise UsageError(f"{name} is a number that the launcher sets; got {name}={value!r}")
    return int(value)
