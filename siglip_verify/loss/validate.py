"""Errors that name the value and the mend, raised on this rank before anything is sent.

A rank that raises while the others send leaves them waiting: what one rank can see by itself is therefore checked
first. What it cannot see, such as another rank's batch size, is not checked here.
"""

from __future__ import annotations

import numbers
import operator
import typing
from collections.abc import Collection
from typing import Literal, SupportsIndex

import torch
import torch.distributed as dist
from torch import Tensor

Scalar = Tensor | float
Memory = Literal["autograd", "constant", "recompute"]


def whole(name: str, value: SupportsIndex) -> int:
    """Return a whole number, numpy's too, as an int.

    Raises:
        ValueError: It is a bool, or nothing that counts, such as a float or text.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(f"{name} must be a whole number; got {name}={value!r}: pass an int")
    return operator.index(value)


def check_switches(**switches: object) -> None:
    """Check that what is switched on or off is a bool, as "no" and 0.0 are not.

    Raises:
        ValueError: One is none.
    """
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False; got {name}={value!r}")


def check_arguments(rank: int, world_size: int, dist_impl: object, chunk_size: int, known: Collection[str]) -> None:
    """Check what the constructor takes.

    Raises:
        ValueError: The message names the argument, its value and what is allowed.
    """
    if not isinstance(dist_impl, str) or dist_impl not in known:
        raise ValueError(
            f"dist_impl must be one of {', '.join(sorted(known))}; got dist_impl={dist_impl!r}: None is 'bidir'"
        )
    if world_size < 1:
        raise ValueError(f"world_size must be at least 1; got world_size={world_size}: pass the ranks of the group")
    if not 0 <= rank < world_size:
        raise ValueError(
            f"rank must be in 0..world_size-1; got rank={rank} with world_size={world_size}: "
            "pass torch.distributed's get_rank() and get_world_size()"
        )
    if chunk_size < 0:
        raise ValueError(f"chunk_size must be a number of rows, or 0 for all at once; got chunk_size={chunk_size}")


def check_options(
    memory: str, dist_impl: str, overlap: bool, grad_dtype: torch.dtype | None, check_upstream: bool
) -> None:
    """Check that the exchange has the form asked for, and the form the options.

    Raises:
        ValueError: The message says what is allowed, or why this exchange cannot be flat.
    """
    if memory not in typing.get_args(Memory):
        raise ValueError(f"memory must be one of {', '.join(typing.get_args(Memory))}; got memory={memory!r}")
    if memory != "autograd" and dist_impl in _WHY_NOT_FLAT:
        raise ValueError(
            f"memory={memory!r} needs blocks that travel from rank to rank, each with its gradient; "
            f"dist_impl={dist_impl!r} {_WHY_NOT_FLAT[dist_impl]}: "
            "use dist_impl='bidir' or 'shift', or memory='autograd'"
        )
    if overlap and dist_impl in _WHY_NOT_FLAT:
        raise ValueError(
            f"overlap=True needs hops, of which one can leave before the last one's blocks are looked at; "
            f"got dist_impl={dist_impl!r}: use 'bidir' or 'shift'"
        )
    is_float = isinstance(grad_dtype, torch.dtype) and grad_dtype.is_floating_point
    if grad_dtype is not None and (memory == "autograd" or not is_float):
        raise ValueError(
            "grad_dtype is the float dtype in which gradients travel with memory='constant' or 'recompute'; "
            f"got grad_dtype={grad_dtype!r} with memory={memory!r}: pass such as torch.float32, or leave it out"
        )
    if check_upstream and memory != "constant":
        raise ValueError(
            "check_upstream=True is for memory='constant', where ranks must share one upstream gradient; "
            f"got memory={memory!r}, which has no need of it"
        )


_WHY_NOT_FLAT = {
    "gather": "holds the texts of all W ranks at once",
    "reduce": "has no journey on which a gradient could come along, and would need a second all-reduce for every block",
}


def check_group(rank: int, world_size: int, group: dist.ProcessGroup | None) -> None:
    """Check that the process group is there and says the same of rank and world size as the loss was told.

    Raises:
        ValueError: No process group, or one that disagrees.
    """
    if not dist.is_available() or not dist.is_initialized():
        raise ValueError(
            f"world_size > 1 needs a process group; got world_size={world_size} and none is initialised: "
            "call torch.distributed.init_process_group first, or pass world_size=1"
        )
    group_rank, group_size = dist.get_rank(group), dist.get_world_size(group)
    if group_rank < 0:
        raise ValueError(
            f"this process is not in the group that the loss was given; its global rank is {dist.get_rank()}"
        )
    if (rank, world_size) != (group_rank, group_size):
        raise ValueError(
            f"rank and world_size must be those of the process group, rank={group_rank} and world_size={group_size}; "
            f"got rank={rank} and world_size={world_size} (in a subgroup, pass its ranks and group=...)"
        )


def check_features(
    image: Tensor, text: Tensor, may_be_empty: bool = False, grad_dtype: torch.dtype | None = None
) -> None:
    """Check that images and texts are a matching pair of [b, d] float tensors.

    Raises:
        ValueError: They are not; the message gives both shapes, dtypes or devices.
    """
    given: dict[str, object] = {"image_features": image, "text_features": text}
    for name, features in given.items():
        if not isinstance(features, Tensor):
            raise ValueError(
                f"{name} must be a tensor; got {name} of type {type(features).__name__}: use torch.as_tensor"
            )
        if features.ndim != 2:
            raise ValueError(
                f"{name} must be [batch, dim]; got {name} of shape {tuple(features.shape)}: give each row one embedding"
            )
        if not features.is_floating_point():
            raise ValueError(f"{name} must be a float tensor; got {name} of dtype {features.dtype}: use .float()")
        if features.shape[1] == 0 or (features.shape[0] == 0 and not may_be_empty):
            raise ValueError(f"{name} must have at least one row and one column; got shape {tuple(features.shape)}")
    for what in ("shape", "dtype", "device"):
        ours, theirs = getattr(image, what), getattr(text, what)
        if ours != theirs:
            ours, theirs = (tuple(value) if what == "shape" else value for value in (ours, theirs))
            raise ValueError(
                f"image_features and text_features must have the same {what}; "
                f"got {ours} for images and {theirs} for texts: {_MENDS[what]}"
            )
    if grad_dtype is not None and torch.promote_types(grad_dtype, text.dtype) != grad_dtype:
        raise ValueError(
            f"gradients travel in the features' dtype or a wider one; got grad_dtype={grad_dtype} for features of "
            f"{text.dtype}"
        )


_MENDS = {
    "shape": "each row of images goes with one of texts, in one space",
    "dtype": "cast one of them with .to(dtype)",
    "device": "move one of them with .to(device)",
}


def as_scalar(name: str, value: Scalar | None, like: Tensor) -> Tensor:
    """Return logit_scale or logit_bias as a 0-dim tensor, in float32 or better, where the features are.

    Raises:
        ValueError: Missing, not a float, or more than one number.
    """
    if value is None:
        raise ValueError(f"{name} is required: the sigmoid loss has no use without it; got {name}=None")
    if isinstance(value, Tensor):
        if not value.is_floating_point():
            raise ValueError(f"{name} must be a float tensor or a number; got {name} of dtype {value.dtype}")
        if value.numel() != 1 or value.ndim > 1:
            raise ValueError(f"{name} must be one number, 0-dim or of shape [1]; got shape {tuple(value.shape)}")
    elif isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"{name} must be a float tensor or a number; got {name}={value!r}")
    accumulate = torch.promote_types(like.dtype, torch.float32)
    scalar = torch.as_tensor(value, dtype=accumulate, device=like.device)
    return scalar.reshape(()) if scalar.ndim else scalar
