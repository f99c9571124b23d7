"""Loading a declared loss inside a rank: the only place where the user's code is imported.

Here: from a target to a `LossFactory`, whatever shape the target has. Not here: how its results are read (`adapted`).
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import itertools
import sys
import traceback
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import msgspec
import torch

from siglip_verify import paths
from siglip_verify.adapt.neighbours import Neighbours
from siglip_verify.adapt.spec import Argument, LossSpec, LossSpecError, is_file

Kind = Literal["class", "factory", "function"]

RANK, WORLD_SIZE, EXCHANGE = "rank", "world_size", ("dist_impl", "exchange")
_NEIGHBOURS = Neighbours()


class Traits(msgspec.Struct, frozen=True):
    """What a loaded loss takes, read off its signature.

    Attributes:
        kind: A class to construct for each rank, a factory `make(rank, world_size, exchange)`, or a plain function.
        takes_exchange: Whether it can be told which exchange to use.
        takes_chunk_size: Whether its constructor has a chunk_size.
    """

    kind: Kind
    takes_exchange: bool
    takes_chunk_size: bool


def load(spec: LossSpec) -> Any:
    """Import a loss and return the attribute that its target names.

    Raises:
        LossSpecError: No such module, file or attribute, or its import raises; the cause says which.
    """
    place, _, attribute = spec.target.rpartition(":")
    _NEIGHBOURS.of(Path(place).parent if is_file(place) else None)
    try:
        module = _load_file(place) if is_file(place) else importlib.import_module(place)
    except (Exception, SystemExit) as error:
        said = f"importing {place} raised {type(error).__name__}: {error}"
        raise LossSpecError(" ".join([said, *_line_of(error)]) + _mend(error, place, attribute)) from error
    if not hasattr(module, attribute):
        names = ", ".join(sorted(name for name in vars(module) if not name.startswith("_"))) or "nothing"
        raise LossSpecError(f"{place} has no attribute {attribute!r}; it has {names}")
    loaded = getattr(module, attribute)
    if not callable(loaded):
        raise LossSpecError(f"a loss is a class, a factory or a function; {spec.target} is a {type(loaded).__name__}")
    return loaded


@functools.cache
def _load_file(place: str) -> ModuleType:
    path = Path(place)
    name = f"_siglip_verify_user_{path.stem}_{zlib.crc32(place.encode()):08x}"  # two files may have one name
    module_spec = importlib.util.spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:
        raise ImportError(f"{path} is not a Python source file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module
    module_spec.loader.exec_module(module)
    return module


def _line_of(error: BaseException) -> list[str]:
    """Say in which line of the first file that was imported an error began; nothing where it never came to a line."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _imports(frame.filename)]
    return [f"({frame.filename}, line {frame.lineno})" for frame in frames if frame.filename == frames[0].filename][-1:]


def _mend(error: BaseException, module: str, attribute: str) -> str:
    """Say what to name instead of a module that is not there; nothing of one that is, and imports what is not."""
    if not isinstance(error, ModuleNotFoundError) or error.name not in _with_parents(module):
        return ""
    file = Path(*module.split(".")).with_suffix(".py")
    if paths.is_file(file):
        return f": name the file, {file}:{attribute}"
    return f": install its package, or name its file, as in path/to/{file.name}:{attribute}"


def _with_parents(module: str) -> list[str]:
    """List a module and the packages that it lies in."""
    return list(itertools.accumulate(module.split("."), "{}.{}".format))


def _imports(file: str) -> bool:
    """Tell whether a file is part of what imports: this one, or Python's own."""
    return file.startswith("<frozen importlib") or file in (__file__, importlib.__file__)


def traits(spec: LossSpec) -> Traits:
    """Load a loss and return what it takes.

    Raises:
        LossSpecError: It cannot be loaded, or its shape is none of those known.
    """
    loaded = load(spec)
    takes = _parameters(loaded)
    if isinstance(loaded, type):
        kind: Kind = "class"
    elif RANK in takes and WORLD_SIZE in takes:
        kind = "factory"
    else:
        kind = "function"
    unknown = [name for name in spec.args if name not in takes and not _takes_any(loaded)]
    if unknown or (kind == "function" and spec.args):
        name = unknown[0] if unknown else next(iter(spec.args))
        raise LossSpecError(f"{spec.target} takes no argument {name!r}; it takes {', '.join(takes) or 'none'}")
    return Traits(
        kind=kind,
        takes_exchange=any(name in takes for name in EXCHANGE),
        takes_chunk_size="chunk_size" in takes,
    )


def construct(
    spec: LossSpec, traits: Traits, *, exchange: str, rank: int, world_size: int, chunk_size: int
) -> Callable[..., Any]:
    """Build the loss for one rank, giving it what its signature asks for.

    Raises:
        LossSpecError: The constructor or factory raises, or returns something that cannot be called.
    """
    loaded = load(spec)
    if traits.kind == "function":
        return loaded
    takes = _parameters(loaded)
    offered: dict[str, Any] = {RANK: rank, WORLD_SIZE: world_size, **dict.fromkeys(EXCHANGE, exchange)}
    if chunk_size:
        offered["chunk_size"] = chunk_size
    declared = {name: _value(argument) for name, argument in spec.args.items()}
    arguments = {name: value for name, value in offered.items() if name in takes} | declared
    try:
        built = loaded(**arguments)
    except Exception as error:
        words = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise LossSpecError(f"{spec.target}({words}) raised {type(error).__name__}: {error}") from error
    if not callable(built):
        raise LossSpecError(f"{spec.target} must return something to call; it returned a {type(built).__name__}")
    return built


def _value(argument: Argument) -> Any:
    """Return what an argument stands for: `torch.float32` and the like are the dtype of that name."""
    module, _, name = str(argument).partition(".")
    named = getattr(torch, name, None) if module == "torch" else None
    return named if isinstance(named, torch.dtype) else argument


def _parameters(loaded: Callable[..., Any]) -> list[str]:
    """Name what can be given by keyword; a constructor that takes any keyword is read as handing on to its base's."""
    names: dict[str, None] = {}
    for each in _constructors(loaded) if isinstance(loaded, type) else (loaded,):
        names |= dict.fromkeys(parameter.name for parameter in _signature(each) if parameter.kind not in _VARIADIC)
        if not _takes_any(each):
            break
    return list(names)


def _constructors(loaded: type) -> list[Callable[..., Any]]:
    """List a class and those of its bases with constructors of their own in Python, in the order of `super()`."""
    return [loaded, *(base for base in loaded.__mro__[1:] if inspect.isfunction(vars(base).get("__init__")))]


def _takes_any(loaded: Callable[..., Any]) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in _signature(loaded))


def _signature(loaded: Callable[..., Any]) -> list[inspect.Parameter]:
    """List the parameters of a callable; none where Python cannot say, as of most that are not written in it."""
    try:
        return list(inspect.signature(loaded).parameters.values())
    except (TypeError, ValueError):
        return []


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
