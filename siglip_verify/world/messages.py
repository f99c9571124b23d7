"""What the parent and a rank say to each other, and how a call is packed.

Here: the messages, and which functions travel by name and which by value. Not here: how they travel (`channel`).
"""

from __future__ import annotations

import importlib.machinery
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle

_TRACEBACK_CHARS = 16_000
_DETAIL_CHARS = 300


@dataclass(frozen=True, slots=True)
class Hello:
    """A rank says that its process group stands. `main_thread` is the thread whose stack tells where it hangs."""

    main_thread: int


@dataclass(frozen=True, slots=True)
class Job:
    """The parent asks for one call, in its own working folder and with its own import path."""

    cwd: str
    sys_path: list[str]
    call: bytes


@dataclass(frozen=True, slots=True)
class Returned:
    """A rank answers with a value."""

    value: Any


@dataclass(frozen=True, slots=True)
class Raised:
    """A rank answers with an exception, as text: its class need not exist in the parent."""

    detail: str
    traceback: str

    @classmethod
    def of(cls, error: BaseException, prefix: str = "") -> Raised:
        """Describe an exception; the frame that caught it is left out of the traceback."""
        own = error.__traceback__
        lines = traceback.format_exception(type(error), error, own.tb_next if own else None)
        return cls(_shorten(prefix + _summary(error), _DETAIL_CHARS), "".join(lines)[-_TRACEBACK_CHARS:])


def pack_job(function: Callable[..., object], args: tuple[object, ...]) -> bytes:
    """Pack a call for the ranks, which need not have imported anything of it.

    A function of an importable module goes by name; one of a script's `__main__`, of a notebook, of the inside of
    another function or of a module that the import path does not lead to goes by value.

    Raises:
        TypeError: The function or an argument cannot be pickled.
    """
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    if module is not None and module.__name__ != "__main__" and not _is_importable(module.__name__):
        cloudpickle.register_pickle_by_value(module)
    try:
        call = cloudpickle.dumps((function, args))
    except Exception as error:
        name = getattr(function, "__qualname__", repr(function))
        raise TypeError(
            f"a function and its arguments must be picklable to reach the ranks; got function={name}: "
            f"{type(error).__name__}: {error}; pass plain data and build the rest in the rank"
        ) from error
    return pickle.dumps(Job(str(Path.cwd()), import_path(), call))


def import_path() -> list[str]:
    """Return this process' import path, absolute, so that it means the same in another folder."""
    return [str(Path(entry).absolute()) for entry in sys.path]


def _is_importable(name: str) -> bool:
    """Tell whether a fresh process with this import path would get the module that is loaded here."""
    path: Sequence[str] | None = None
    spec: importlib.machinery.ModuleSpec | None = None
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        spec = _find(".".join(parts[:depth]), path)
        if spec is None:
            return False
        path = spec.submodule_search_locations
    file = getattr(sys.modules[name], "__file__", None)
    return spec is not None and (file is None or spec.origin is None or _same_file(spec.origin, file))


def _find(name: str, path: Sequence[str] | None) -> importlib.machinery.ModuleSpec | None:
    """Ask every finder, as an import would (`importlib.util.find_spec` only looks at what is loaded already)."""
    specs = (finder.find_spec(name, path) for finder in sys.meta_path)
    return next((spec for spec in specs if spec is not None), None)


def _same_file(one: str, other: str) -> bool:
    return one == other or os.path.realpath(one) == os.path.realpath(other)


def _summary(error: BaseException) -> str:
    try:
        text = str(error).strip().partition("\n")[0]
    except Exception:
        text = "<its text cannot be had: __str__ raised>"
    return f"{type(error).__qualname__}: {text}" if text else type(error).__qualname__


def _shorten(text: str, num_chars: int) -> str:
    return text if len(text) <= num_chars else text[: num_chars - 1] + "…"
