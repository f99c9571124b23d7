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
from typing import Any, NamedTuple

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

    The kernels are registered when the process first records and stay: registering them costs as much as a small
    step (2 ms). Between recordings they pass calls on, at 10 us each. `unregister_kernels` takes them out.

    An operation that is defined in the middle of a recording is seen from the next one on. One of the functional
    collectives that reaches no c10d operation is told as unknown, after it was posted. Of one that is waited for in C++
    alone (DDP's reducer) no return is told.
    """

    def install(self, observer: Observer, *, poison: bool) -> None:
        """Begin to tell `observer`.

        Raises:
            RuntimeError: This process is being recorded already.
        """
        if _KERNELS.watch is not None:
            raise RuntimeError("one recorder at a time records a process; got a second one: leave the first one before")
        _KERNELS.register()
        _KERNELS.watch = _Watch(observer, _Waits(observer), poison)

    def remove(self) -> None:
        """End, put `Work.wait` back and let go of every Work."""
        if _KERNELS.watch is not None:
            _KERNELS.watch.waits.close()
            _KERNELS.watch = None


def unregister_kernels() -> None:
    """Take the kernels out of torch's dispatcher; the next recording registers them again.

    Raises:
        RuntimeError: A recorder is in use.
    """
    if _KERNELS.watch is not None:
        raise RuntimeError("kernels leave when no recorder needs them; got one in use: leave it before")
    _KERNELS.unregister()


class _Watch(NamedTuple):
    """One recording: whom to tell, what was not waited for yet, whether to poison."""

    observer: Observer
    waits: _Waits
    poison: bool


class _Kernels:
    """The kernels of this process, and the recording that they serve now."""

    def __init__(self) -> None:
        self.watch: _Watch | None = None
        self._libraries: list[torch.library.Library] = []
        self._names: dict[str, list[str]] = {}

    def register(self) -> None:
        """Register a kernel for every operation that has none: also those that came with what is recorded."""
        names = operation_names()
        if names is self._names:
            return
        for namespace, ops in names.items():
            new = sorted({*ops} - {*self._names.get(namespace, ())})
            if not new:
                continue
            library = torch.library.Library(namespace, "IMPL")
            self._libraries.append(library)
            for op in new:
                library.impl(op.removeprefix(f"{namespace}::"), self._kernel(op), KEY, with_keyset=True)
        self._names = names

    def unregister(self) -> None:
        """Take every kernel out: torch does so when nothing refers to its library."""
        self._libraries.clear()
        self._names = {}

    def _kernel(self, op: str) -> Kernel:
        if op == WAIT_TENSOR:
            watched = _wait
        elif op.startswith("c10d::"):
            watched = _communicate
        else:
            watched = _call_functional
        post, signature = next_kernel(op), Signature(op, argument_names(op))

        def kernel(keyset: torch.DispatchKeySet, *args: Any, **kwargs: Any) -> Any:
            watch = self.watch
            if watch is None or without_data(keyset):
                return post(keyset, *args, **kwargs)
            return watched(watch, signature, functools.partial(post, keyset, **kwargs), args)

        return kernel


_KERNELS = _Kernels()


def _communicate(watch: _Watch, signature: Signature, post: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Post an operation of c10d, told before."""
    if not watch.observer.watching:
        return post(*args)
    args = watch.observer.posting(signature.kind, args)
    operation = signature.describe(args)
    sequence = watch.observer.posted(operation)
    if watch.poison:
        _poison(signature.overwritten(args))
    outcome = post(*args)
    from_any = operation.kind == "recv" and operation.src is None
    watch.waits.expect(sequence, from_any, signature.results(args), outcome)
    return outcome


def _call_functional(watch: _Watch, signature: Signature, post: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Call a functional collective, told only if what it calls was not."""
    num_posted = watch.observer.num_posted
    outcome = post(*args)
    if watch.observer.watching and watch.observer.num_posted == num_posted:
        watch.observer.posted(signature.describe(args))
    return outcome


def _wait(watch: _Watch, signature: Signature, post: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Wait for the result of a functional collective, told afterwards."""
    outcome = post(*args)
    watch.waits.waited_for_tensor(args[0])
    return outcome


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


def _poison(tensors: list[torch.Tensor]) -> None:
    """Fill with NaN, through `.data`: autograd must not take it for a change that the program made."""
    for tensor in tensors:
        if tensor.is_floating_point() or tensor.is_complex():
            tensor.data.fill_(math.nan)
