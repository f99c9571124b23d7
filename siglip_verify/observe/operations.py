"""What the operations of c10d are, and what their arguments say.

Here: the kind of each operation, and reading an operation's arguments by the names that its schema gives them. Not
here: how operations are caught (`backend`).

What an operation hands over, which makes its shape and payload:

| kind | hands over |
| --- | --- |
| send | the tensor |
| recv | the buffer |
| all_reduce, reduce, broadcast | the tensor, on every rank |
| all_gather, gather | the rank's own tensor |
| reduce_scatter, all_to_all | all W parts, the rank's own included |
| scatter | all W parts on the root, the buffer elsewhere |
| barrier | nothing |

Several tensors in one operation are written as one of shape [sum of their numels].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist

from siglip_verify.observe.log import Operation

KINDS = {
    "c10d::send": "send",
    "c10d::recv_": "recv",
    "c10d::recv_any_source_": "recv",
    "c10d::allreduce_": "all_reduce",
    "c10d::allreduce_coalesced_": "all_reduce",
    "c10d::allgather_": "all_gather",
    "c10d::allgather_coalesced_": "all_gather",
    "c10d::_allgather_base_": "all_gather",
    "c10d::allgather_into_tensor_coalesced_": "all_gather",
    "c10d::reduce_scatter_": "reduce_scatter",
    "c10d::_reduce_scatter_base_": "reduce_scatter",
    "c10d::reduce_scatter_tensor_coalesced_": "reduce_scatter",
    "c10d::alltoall_": "all_to_all",
    "c10d::alltoall_base_": "all_to_all",
    "c10d::broadcast_": "broadcast",
    "c10d::reduce_": "reduce",
    "c10d::gather_": "gather",
    "c10d::scatter_": "scatter",
    "c10d::barrier": "barrier",
    "c10d::monitored_barrier_": "barrier",
}


class Signature:
    """How to read the arguments of one operation: where the names of its schema put what.

    Args:
        op: The dispatcher's name, such as `c10d::send`; one that `KINDS` does not know is of kind `unknown`.
        names: The names of its arguments, in order. Calls may leave out trailing ones.
    """

    def __init__(self, op: str, names: Sequence[str]) -> None:
        self.op = op
        self.kind = KINDS.get(op, "unknown")
        at = {name: index for index, name in enumerate(names)}
        self._process_group, self._group_name = at.get("process_group"), at.get("group_name")
        self._src, self._dst, self._tag = at.get("src", at.get("root_rank")), at.get("dst"), at.get("tag")
        self._inputs = [index for index, name in enumerate(names) if name.startswith(("input", "tensor"))]
        self._outputs = [index for index, name in enumerate(names) if name.startswith("output")]

    def describe(self, args: Sequence[Any]) -> Operation:
        """Read what the operation hands over to whom."""
        rank, group = self._group(args)
        tensors = self._handed_over(args)
        dtypes = {tensor.dtype for tensor in tensors}
        return Operation(
            kind=self.kind,
            op=self.op,
            src=rank if self.kind == "send" else _get(args, self._src),
            dst=rank if self.kind == "recv" else _get(args, self._dst),
            tag=_get(args, self._tag),
            dtype=str(dtypes.pop()).removeprefix("torch.") if len(dtypes) == 1 else "mixed" if dtypes else "none",
            shape=tuple(tensors[0].shape) if len(tensors) == 1 else (sum(tensor.numel() for tensor in tensors),),
            payload_bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
            group=group,
        )

    def overwritten(self, args: Sequence[Any]) -> list[torch.Tensor]:
        """List the tensors of which nothing is left after the operation: receive buffers and outputs.

        An output that shares memory with an input (an all-gather in place) is left out.
        """
        if self.kind == "recv":
            return _tensors(args, self._inputs)
        if self.kind == "broadcast":
            is_root = self._group(args)[0] == _get(args, self._src)
            return [] if is_root else _tensors(args, self._inputs)
        inputs = {address(tensor) for tensor in _tensors(args, self._inputs)} if self._outputs else set[int]()
        return [tensor for tensor in _tensors(args, self._outputs) if address(tensor) not in inputs]

    def results(self, args: Sequence[Any]) -> list[torch.Tensor]:
        """List the tensors that hold the operation's result."""
        return _tensors(args, self._outputs or self._inputs)

    def _handed_over(self, args: Sequence[Any]) -> list[torch.Tensor]:
        if self.kind == "barrier":  # the dispatcher gives it a tensor only to tell the device
            return []
        return _tensors(args, self._inputs) or _tensors(args, self._outputs)

    def _group(self, args: Sequence[Any]) -> tuple[int | None, str]:
        """Read this process's rank in the group and the group's name; an operation without a group has neither."""
        boxed = _get(args, self._process_group)
        if boxed is None:
            return None, str(_get(args, self._group_name) or "")
        group = dist.ProcessGroup.unbox(boxed)
        return group.rank(), group.group_name


def address(tensor: torch.Tensor) -> int:
    """Return where the memory of a tensor begins, the same for all its views."""
    return tensor.untyped_storage().data_ptr()


def _get(args: Sequence[Any], index: int | None) -> Any:
    return args[index] if index is not None and index < len(args) else None


def _tensors(args: Sequence[Any], indices: Sequence[int]) -> list[torch.Tensor]:
    """Flatten the tensors at some places of the arguments."""
    return [tensor for index in indices if index < len(args) for tensor in _flatten(args[index])]


def _flatten(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _flatten(item)
