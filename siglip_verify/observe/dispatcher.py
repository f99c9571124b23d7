# pyright: reportPrivateUsage=false
"""The corner of torch's dispatcher that the back end needs, and the only place that uses torch's private names.

Here: which operations there are, what their arguments are called, and how a kernel goes on to the one below it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch

NAMESPACES = ("c10d", "_c10d_functional", "_dtensor")
WAIT_TENSOR = "_c10d_functional::wait_tensor"

KEY = "BackendSelect"
_BELOW = torch._C._dispatch_keyset_full_after(torch._C.DispatchKey.BackendSelect)
_LOCAL = {"c10d::check_for_nan", "_c10d_functional::_wrap_tensor_autograd"}


def operation_names() -> dict[str, list[str]]:
    """List by namespace the operations that communicate, and the wait, as the dispatcher names them.

    The same list until something has come that can have brought operations: a module, a definition in Python or a
    library. To ask the dispatcher itself takes 2 ms, as much as a small step.
    """
    return _operation_names((len(sys.modules), len(torch.library._defs), len(torch.ops.loaded_libraries)))


@functools.lru_cache(maxsize=1)
def _operation_names(_: tuple[int, int, int]) -> dict[str, list[str]]:
    names: list[str] = torch._C._dispatch_get_all_op_names()
    return {
        namespace: sorted(name for name in names if name.startswith(f"{namespace}::") and name not in _LOCAL)
        for namespace in NAMESPACES
    }


@functools.cache
def argument_names(op: str) -> list[str]:
    """List the names that the schema gives to the arguments, in order."""
    return [argument.name for argument in _overload(op)._schema.arguments]


@functools.cache
def next_kernel(op: str) -> Callable[..., Any]:
    """Make a function (keyset, *args, **kwargs) that goes on to the kernel below `KEY`, which does the work."""
    redispatch = _overload(op).redispatch

    def go_on(keyset: torch.DispatchKeySet, *args: Any, **kwargs: Any) -> Any:
        return redispatch(keyset & _BELOW, *args, **kwargs)

    return go_on


def without_data(keyset: torch.DispatchKeySet) -> bool:
    """Tell whether a call is on meta tensors, as in tracing: nothing is sent."""
    return keyset.has(torch._C.DispatchKey.Meta)


def _overload(op: str) -> Any:
    namespace, _, name = op.partition("::")
    packet, _, overload = name.partition(".")
    return getattr(getattr(getattr(torch.ops, namespace), packet), overload or "default")
