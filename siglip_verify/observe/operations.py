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

from collections.abc import Iterator, Mapping
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

Arguments = Mapping[str, Any]


def describe(op: str, arguments: Arguments) -> Operation:
    """Read what an operation hands over to whom; one that `KINDS` does not know is of kind `unknown`.

    Args:
        op: The dispatcher's name, such as `c10d::send`.
        arguments: Its arguments by the names of its schema.
    """
    kind = KINDS.get(op, "unknown")
    rank, group = _group(arguments)
    tensors = _handed_over(kind, arguments)
    dtypes = {tensor.dtype for tensor in tensors}
    return Operation(
        kind=kind,
        op=op,
        src=rank if kind == "send" else arguments.get("src", arguments.get("root_rank")),
        dst=rank if kind == "recv" else arguments.get("dst"),
        tag=arguments.get("tag"),
        dtype=str(dtypes.pop()).removeprefix("torch.") if len(dtypes) == 1 else "mixed" if dtypes else "none",
        shape=tuple(tensors[0].shape) if len(tensors) == 1 else (sum(tensor.numel() for tensor in tensors),),
        payload_bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        group=group,
    )


def overwritten(operation: Operation, arguments: Arguments) -> list[torch.Tensor]:
    """List the tensors of which nothing is left after the operation: buffers of receives and outputs of collectives.

    An output that shares memory with an input (an all-gather in place) is left out.
    """
    if operation.kind == "recv":
        return _tensors(arguments, "tensors")
    if operation.kind == "broadcast":
        return [] if _group(arguments)[0] == operation.src else _tensors(arguments, "tensors")
    outputs = _tensors(arguments, "output")
    inputs = {tensor.untyped_storage().data_ptr() for tensor in _tensors(arguments, "input")} if outputs else set()
    return [tensor for tensor in outputs if tensor.untyped_storage().data_ptr() not in inputs]


def results(arguments: Arguments) -> list[torch.Tensor]:
    """List the tensors that hold the operation's result."""
    return _tensors(arguments, "output") or _tensors(arguments, "tensor")


def _handed_over(kind: str, arguments: Arguments) -> list[torch.Tensor]:
    if kind == "barrier":  # the dispatcher gives it a tensor only to tell the device
        return []
    return _tensors(arguments, "input", "tensor") or _tensors(arguments, "output")


def _tensors(arguments: Arguments, *prefixes: str) -> list[torch.Tensor]:
    """Flatten the tensors in the arguments whose names begin with one of the prefixes."""
    named = (value for name, value in arguments.items() if name.startswith(prefixes))
    return [tensor for value in named for tensor in _flatten(value)]


def _flatten(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _flatten(item)


def _group(arguments: Arguments) -> tuple[int | None, str]:
    """Read this process's rank in the group and the group's name; an operation without a group has neither."""
    boxed = arguments.get("process_group")
    if boxed is None:
        return None, str(arguments.get("group_name", ""))
    group = dist.ProcessGroup.unbox(boxed)
    return group.rank(), group.group_name
