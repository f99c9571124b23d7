"""Commands under a launcher (torchrun, srun ...): rank 0 runs the command, the others serve it, all end with its code.

Like torch's default process group, the worlds of a launcher's ranks are one thing a process has or has not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

from siglip_verify.cli.exit_codes import EXIT_CODES, code_of
from siglip_verify.world import Worlds
from siglip_verify.world.joined import JoinedWorlds, Place, serve
from siglip_verify.world.pool import MOST_RANKS

_USUAL = 8

P = ParamSpec("P")
_joined: JoinedWorlds | None = None


def on_every_rank(command: Callable[P, int]) -> Callable[P, int]:
    """Make of a command one that, where a launcher started this process, runs on rank 0 with all ranks."""

    @functools.wraps(command)
    def everywhere(*args: P.args, **kwargs: P.kwargs) -> int:
        place = Place.of_launcher()
        if place is None:
            return command(*args, **kwargs)
        if place.rank > 0:
            code = serve(place)
            return EXIT_CODES["unknown"] if code is None else code
        global _joined
        _joined = JoinedWorlds(place)
        return _joined.end(code_of(lambda: command(*args, **kwargs)))

    return everywhere


def joined_worlds() -> Worlds | None:
    """Return the worlds of the launcher's ranks; None where there is no launcher."""
    return _joined


def most_ranks() -> int:
    """Return how many ranks a world may have here."""
    return _joined.most_ranks if _joined is not None else MOST_RANKS


def usual_world_sizes() -> str:
    """Return the world sizes that are checked where none are named: 1 to 8, and all of a launcher's ranks."""
    if _joined is None:
        return f"1-{_USUAL}"
    smaller = f"1-{min(_USUAL, _joined.most_ranks)}"
    return smaller if _joined.most_ranks <= _USUAL else f"{smaller},{_joined.most_ranks}"
