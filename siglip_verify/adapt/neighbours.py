"""The modules that lie beside a user's loss file: each file finds its own, whichever was in use before.

A rank is asked for one loss after another, and Python keeps modules by name alone: of two files that both import
`helper`, the second would be given the first one's.

Here: which modules are in sight. Not here: importing a loss (`load`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType


class Neighbours:
    """The neighbours of one loss file at a time, as Python would find them if it were run as a script.

    What was imported before the first loss, by the package or a preloaded template, is nobody's neighbour.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._others = frozenset(_top(name) for name in sys.modules)
        self._aside: dict[Path, dict[str, ModuleType]] = {}

    def of(self, folder: Path | None) -> None:
        """Let this folder's modules be imported, now and later, and put aside those of the folder before it.

        Args:
            folder: Where the file is; None is none, for a loss that is a module of the path.
        """
        if folder != self._folder:
            self._put_aside()
            self._folder = folder
            sys.modules.update(self._aside.pop(folder, {}) if folder else {})
        if folder and str(folder) not in sys.path[:1]:  # each job begins with its sender's path
            sys.path.insert(0, str(folder))

    def _put_aside(self) -> None:
        if self._folder is None:
            return
        tops = {
            name for name, module in sys.modules.items() if "." not in name and _lies_in(module, self._folder)
        } - self._others
        names = [name for name in sys.modules if _top(name) in tops]
        self._aside[self._folder] = {name: sys.modules.pop(name) for name in names}
        if str(self._folder) in sys.path[:1]:
            del sys.path[0]


def _top(name: str) -> str:
    return name.partition(".")[0]


def _lies_in(module: object, folder: Path) -> bool:
    """Tell whether a module or package was found in this very folder."""
    known = vars(module) if isinstance(module, ModuleType) else {}
    place = next(iter(known.get("__path__") or ()), None) or known.get("__file__")
    return place is not None and Path(place).parent == folder
