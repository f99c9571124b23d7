"""The back end that sees operations through kernels at the c10d dispatcher.

Here: catching each operation and each wait, and poisoning what an operation will overwrite. Not here: what the
arguments say (`operations`); phases, hops and the log (`recorder`).

Every way to communicate ends in an operation of the dispatcher's namespace `c10d`: `dist.*`, batched point-to-point,
`torch.distributed.nn`, and the functional collectives, whose C++ kernels call ProcessGroup methods that dispatch
again. So kernels on the operations of that one namespace see each operation once, and no other operation pays.

The key is BackendSelect. It is in the key set of every call on every device, and no guard excludes it. The autograd
keys, the obvious choice, are skipped in inference mode and inside functional collectives, whose autograd kernel
excludes them; and a kernel there silences torch's warning about a collective that has no gradient.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.distributed as dist

from siglip_verify.observe.backend import Observer
from siglip_verify.observe.dispatcher import (
    KEY,
    WAIT_TENSOR,
    argument_names,
    next_kernel,
    operation_names,
    without_data,
)
from siglip_verify.observe.operations import Signature, address

Kernel = Callable[..., Any]


class DispatcherBackend:
    """See operations through kernels on the c10d operations, and waits through `Work.wait` and `wait_tensor`.

    An operation of the functional collectives that reaches no c10d operation is told as unknown, after it was posted.
    Of an operation that is waited for in C++ alone (DDP's reducer) no return is told.
    """

    _installed: ClassVar[DispatcherBackend | None] = None

    def __init__(self) -> None:
        self._libraries: list[torch.library.Library] = []
        self._waits: _Waits | None = None

    def install(self, observer: Observer, *, poison: bool) -> None:
        """Register the kernels and wrap `Work.wait` (0.3 ms; 3 ms the first time in a process).

        Raises:
            RuntimeError: Another one is installed in this process.
        """
        if DispatcherBackend._installed is not None:
            raise RuntimeError("one recorder at a time records a process; got a second one: leave the first one before")
        waits = _Waits(observer)
        for namespace, ops in operation_names().items():
            library = torch.library.Library(namespace, "IMPL")
            self._libraries.append(library)
            for op in ops:
                kernel = _kernel(op, observer, waits, poison)
                library.impl(op.removeprefix(f"{namespace}::"), kernel, KEY, with_keyset=True)
        waits.open()
        self._waits = waits
        DispatcherBackend._installed = self

    def remove(self) -> None:
        """Unregister the kernels, put `Work.wait` back and let go of every Work."""
        self._libraries.clear()
        if self._waits is not None:
            self._waits.close()
            self._waits = None
            DispatcherBackend._installed = None


class _Waits:
    """What was posted and not yet waited for.

    A Work is kept until it is waited for: only while its Python object lives does c10d hand out the same one again.
    A functional collective keeps its Work in C++, so that its result's memory stands for it.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._works: dict[int, tuple[dist.Work, int, bool]] = {}
        self._results: dict[int, int] = {}
        self._original = dist.Work.__dict__["wait"]

    def open(self) -> None:
        """Wrap `Work.wait`."""
        dist.Work.wait = self._observed_wait()

    def expect(self, sequence: int, from_any: bool, results: list[torch.Tensor], outcome: Any) -> None:
        """Remember how a posted operation can be waited for; one that gave no Work has returned.

        Args:
            sequence: The operation.
            from_any: Whether it receives from any source, which only the Work tells.
            results: Where its result will be.
            outcome: What the kernel that posted it gave back: a Work, alone or last of several.
        """
        boxed = outcome[-1] if isinstance(outcome, tuple) else outcome
        if not isinstance(boxed, torch.ScriptObject):
            self._observer.returned(sequence)
            return
        work = dist.Work.unbox(boxed)
        self._works[id(work)] = work, sequence, from_any
        for tensor in results:
            self._results[address(tensor)] = sequence

    def waited_for_tensor(self, tensor: torch.Tensor) -> None:
        """Take that the wait for a functional collective's result returned."""
        sequence = self._results.pop(address(tensor), None)
        if sequence is not None:
            self._observer.returned(sequence)

    def close(self) -> None:
        """Put `Work.wait` back and let go of every Work."""
        dist.Work.wait = self._original
        self._works.clear()

    def _observed_wait(self) -> Callable[..., Any]:
        original = self._original

        @functools.wraps(original)
        def wait(work: dist.Work, *args: Any, **kwargs: Any) -> Any:
            outcome = original(work, *args, **kwargs)
            _, sequence, from_any = self._works.pop(id(work), (work, None, False))
            if sequence is not None:
                self._observer.returned(sequence, work._source_rank() if from_any else None)
            return outcome

        return wait


def _kernel(op: str, observer: Observer, waits: _Waits, poison: bool) -> Kernel:
    if op == WAIT_TENSOR:
        return _wait_kernel(op, waits)
    if op.startswith("c10d::"):
        return _c10d_kernel(op, observer, waits, poison)
    return _functional_kernel(op, observer)


def _c10d_kernel(op: str, observer: Observer, waits: _Waits, poison: bool) -> Kernel:
    post, signature = next_kernel(op), Signature(op, argument_names(op))

    def kernel(keyset: torch.DispatchKeySet, *args: Any) -> Any:
        if not observer.watching or without_data(keyset):
            return post(keyset, *args)
        operation = signature.describe(args)
        sequence = observer.posted(operation)
        if poison:
            _poison(signature.overwritten(args))
        outcome = post(keyset, *args)
        from_any = operation.kind == "recv" and operation.src is None
        waits.expect(sequence, from_any, signature.results(args), outcome)
        return outcome

    return kernel


def _functional_kernel(op: str, observer: Observer) -> Kernel:
    post, signature = next_kernel(op), Signature(op, argument_names(op))

    def kernel(keyset: torch.DispatchKeySet, *args: Any, **out: Any) -> Any:
        num_posted = observer.num_posted
        outcome = post(keyset, *args, **out)
        if observer.watching and observer.num_posted == num_posted and not without_data(keyset):
            observer.posted(signature.describe(args))
        return outcome

    return kernel


def _wait_kernel(op: str, waits: _Waits) -> Kernel:
    post = next_kernel(op)

    def kernel(keyset: torch.DispatchKeySet, tensor: torch.Tensor) -> Any:
        outcome = post(keyset, tensor)
        if not without_data(keyset):
            waits.waited_for_tensor(tensor)
        return outcome

    return kernel


def _poison(tensors: list[torch.Tensor]) -> None:
    """Fill with NaN, through `.data`: autograd must not take it for a change that the program made."""
    for tensor in tensors:
        if tensor.is_floating_point() or tensor.is_complex():
            tensor.data.fill_(math.nan)
