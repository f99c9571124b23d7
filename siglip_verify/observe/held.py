# pyright: reportPrivateUsage=false
"""What tensors a rank holds: exact to the byte, whatever the allocator makes of it.

Here: counting storages as operations make them. Not here: how much may be held (`checks.memory`). Every operation pays
for it, so this is for a step that is run for its memory alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Held(TorchDispatchMode):
    """Count the bytes of all tensors that the operations within this mode have made and that are still there.

    Args:
        inputs: Tensors that are there anyway; they are not counted, whatever returns a view of them.

    Attributes:
        peak: The most that was there at once, bytes; may be set back to 0.
    """

    def __init__(self, inputs: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()
        self._inputs = {each.untyped_storage()._cdata for each in inputs}
        self._storages: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def now(self) -> int:
        """Return the bytes that are there now."""
        self._storages = {key: known for key, known in self._storages.items() if not known[0].expired()}
        return sum(num_bytes for _, num_bytes in self._storages.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._inputs:
                    self._storages[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.peak = max(self.peak, self.now())
        return out
