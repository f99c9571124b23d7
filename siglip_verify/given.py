"""A user's own batch, from a file: read, checked, and cut into as many parts as there are ranks.

Here: `.npz` and `.safetensors` files with image_features and text_features [N, d], logit_scale and logit_bias (one
number each, the scale already exponentiated). Not here: features that are drawn (`features`).
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from siglip_verify.case import Case, DType, Exchange
from siglip_verify.errors import UsageError

NAMES = ("image_features", "text_features", "logit_scale", "logit_bias")
_DTYPES: Mapping[torch.dtype, DType] = {
    torch.float64: "float64",
    torch.float32: "float32",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}


class Given(NamedTuple):
    """A batch as the file holds it: images and texts [N, d] of one dtype, scale and bias."""

    images: Tensor
    texts: Tensor
    scale: float
    bias: float


def read(path: Path) -> Given:
    """Read and check a features file; once, as long as it stays as it is.

    Raises:
        UsageError: It cannot be read, or does not hold what it should; the message names the array and its shape.
    """
    if path.suffix not in _READERS:
        raise UsageError(f"features are read from {' or '.join(_READERS)} files; got {path}")
    try:
        state = path.stat()
        return _read(path, state.st_mtime_ns, state.st_size)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None


@functools.lru_cache(maxsize=2)
def _read(path: Path, modified_ns: int, size: int) -> Given:
    """Read and check a features file as it was written at that time."""
    try:
        found = _READERS[path.suffix](path)
    except (UsageError, OSError):
        raise
    except Exception as error:  # whatever a reader of a foreign format raises, the file is not of that format
        raise UsageError(f"{path} is not a {path.suffix} file of plain arrays: {error}") from error
    missing = [name for name in NAMES if name not in found]
    if missing:
        raise UsageError(
            f"{path} must hold {', '.join(NAMES)}; it lacks {', '.join(missing)} and has {', '.join(found)}"
        )
    return _checked(path, found)


def cases(path: Path, exchange: Exchange, world_sizes: Iterable[int]) -> dict[int, Case]:
    """Return the case that the batch is at each world size that divides it."""
    batch = read(path)
    num_rows, dim = batch.images.shape
    return {
        world_size: Case(
            exchange=exchange,
            world_size=world_size,
            batch=num_rows // world_size,
            dim=dim,
            dtype=_DTYPES[batch.images.dtype],
            scale=batch.scale,
            bias=batch.bias,
            features="given",
            source=str(path),
        )
        for world_size in world_sizes
        if num_rows % world_size == 0
    }


def split(case: Case) -> tuple[Tensor, Tensor]:
    """Return images and texts of a given case as [W, b, d] each, rank after rank in the order of the file."""
    batch = read(Path(case.source))
    shape = (case.world_size, case.batch, case.dim)
    if batch.images.numel() != torch.Size(shape).numel() or batch.images.shape[1] != case.dim:
        raise UsageError(f"{case.source} holds {tuple(batch.images.shape)} features; got W, b, d = {shape}")
    return batch.images.view(shape), batch.texts.view(shape)


def _checked(path: Path, found: Mapping[str, Tensor]) -> Given:
    images, texts = found["image_features"], found["text_features"]
    for name, features in (("image_features", images), ("text_features", texts)):
        if features.ndim != 2 or 0 in features.shape:
            raise UsageError(f"{name} must be [N, d]; got shape {tuple(features.shape)} in {path}")
        if features.dtype not in _DTYPES:
            raise UsageError(f"{name} must be one of {', '.join(_DTYPES.values())}; got {features.dtype} in {path}")
        if not features.isfinite().all():
            row = int((~features.isfinite()).any(dim=1).nonzero()[0])
            raise UsageError(f"{name} must be finite; row {row} of {path} is not")
    if images.shape != texts.shape or images.dtype != texts.dtype:
        raise UsageError(
            f"image_features and text_features must have one shape and dtype; got {tuple(images.shape)} of "
            f"{images.dtype} and {tuple(texts.shape)} of {texts.dtype} in {path}"
        )
    return Given(images.contiguous(), texts.contiguous(), *(_number(path, name, found[name]) for name in NAMES[2:]))


def _number(path: Path, name: str, value: Tensor) -> float:
    if value.numel() != 1 or not value.double().isfinite().all():
        raise UsageError(f"{name} must be one finite number; got shape {tuple(value.shape)} in {path}")
    return float(value.double().item())


def _read_npz(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:  # np.load leaves what it opens open
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        library: Any = importlib.import_module("safetensors.torch")
    except ImportError:
        raise UsageError(f"reading {path} needs safetensors: pip install safetensors") from None
    return library.load_file(path)


_READERS: Mapping[str, Callable[[Path], dict[str, Tensor]]] = {".npz": _read_npz, ".safetensors": _read_safetensors}
