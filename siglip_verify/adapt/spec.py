"""What a user says of a loss: where it is, what it is built with, and by what convention it counts.

Here: the declaration, checked as far as text can be. Not here: importing the user's code (`load`).
"""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path
from typing import Literal, get_type_hints

import msgspec

from siglip_verify import paths
from siglip_verify.case import DType
from siglip_verify.errors import UsageError

Reduction = Literal["mean", "sum"]
Normalizer = Literal["b", "N", "N/W", "b*b", "1"]
Argument = str | int | float | bool | None

OF_EACH_CASE = ("rank", "world_size", "dist_impl", "exchange", "chunk_size")
"""Arguments that a loss gets from each case, as far as it takes them."""

OURS = "siglip_verify.loss:SigLipLoss"
OPEN_CLIP = "open_clip"


class LossSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A loss as declared. Nothing of it is guessed: what does not fit the declaration is a mismatch.

    Attributes:
        target: `package.module:attribute` or `path/to/file.py:attribute`.
        args: Extra keyword arguments for the constructor or factory; the text `torch.float32` is that dtype. Not those
            that each case brings (`OF_EACH_CASE`).
        reduction: How the ranks' local losses make the global loss (and their scale and bias gradients the global
            ones): their mean, as DistributedDataParallel does, or their sum.
        normalizer: What a rank's sum over its pairs is divided by: b, N (the rows of all ranks, W b where all have as
            many), N/W (which is b, unless ranks differ), b * b or 1.
        row_wise: Whether a rank's own value is that of its own images against all texts. False for losses that are
            right only after reduction, such as an average of both directions; then only reduced values are judged.
        scale_parameter: Name of the loss's own parameter that holds the scale, when forward does not take it.
        bias_parameter: Likewise for the bias; a loss may own one of the two, and take the other.
        log_scale: Whether scale_parameter holds the logarithm of the scale.
        same_upstream: Whether the loss asks that the same gradient reach it on all ranks, as one does whose gradients
            are added up over ranks before backward.
        any_layout: Whether the loss promises to take strided features; open_clip's does not.
        dtypes: The dtypes of features that the loss is made for; all, if none is named. A loss that computes in float32
            whatever it is given is not right in float64.
    """

    target: str = OURS
    args: dict[str, Argument] = {}
    reduction: Reduction = "mean"
    normalizer: Normalizer = "b"
    row_wise: bool = True
    scale_parameter: str | None = None
    bias_parameter: str | None = None
    log_scale: bool = False
    same_upstream: bool = False
    any_layout: bool = False
    dtypes: tuple[DType, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no field takes: the declaration says how a loss is judged."""
        for name, kind in _TYPES.items():
            try:
                msgspec.convert(getattr(self, name), kind)
            except msgspec.ValidationError as error:
                raise LossSpecError(
                    f"a loss is declared in the words of LossSpec; got {name}={getattr(self, name)!r}: {error}"
                ) from None

    @property
    def name(self) -> str:
        """What reports call it: the target, of a path no more than the last folder, and its arguments."""
        place, _, attribute = self.target.rpartition(":")
        words = ", ".join(self.arguments)
        return f"{'/'.join(Path(place).parts[-2:]) if is_file(place) else place}:{attribute}{words and f'({words})'}"

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments as `name=value`, in the words that the command line takes."""
        return tuple(f"{name}={_in_words(value)}" for name, value in self.args.items())

    def normalizers(self, batches: tuple[int, ...]) -> tuple[float, ...]:
        """Return what each rank's sum is divided by, for these local batch sizes; 1 for the empty sum of no rows."""
        total = sum(batches)
        means = {"N": total, "N/W": total / len(batches), "1": 1}
        return tuple(float({"b": b, "b*b": b * b, **means}[self.normalizer] or 1) for b in batches)


class LossSpecError(UsageError):
    """The declaration names something that is not there, or cannot be used. The message names it and the mend."""


_TYPES = get_type_hints(LossSpec)


def _in_words(value: Argument) -> str:
    """Write a value as JSON, but for text that cannot be taken for JSON."""
    if isinstance(value, str):
        with contextlib.suppress(msgspec.DecodeError):
            msgspec.json.decode(value)
            return msgspec.json.encode(value).decode()
        return value
    return msgspec.json.encode(value).decode()


def is_file(place: str) -> bool:
    """Tell whether the part of a target before the colon is a path to a file rather than a module."""
    return place.endswith(".py") or "/" in place


def resolve(target: str) -> str:
    """Return a target with an absolute path or a module name, checked as far as that goes without importing it.

    `open_clip` stands for the loss file of the installed open_clip package, which is loaded alone: importing the
    package would need torchvision.

    Raises:
        LossSpecError: It is neither; the message says what is missing.
    """
    if target == OPEN_CLIP:
        return f"{_open_clip_file()}:SigLipLoss"
    place, colon, attribute = target.rpartition(":")
    if not colon or not place or not attribute:
        raise LossSpecError(
            f"a loss is MODULE:ATTRIBUTE or FILE.py:ATTRIBUTE, such as my_loss.py:SigLipLoss; got {target!r}"
        )
    if not is_file(place):
        return target
    path = paths.absolute(place)
    if not paths.is_file(path):
        raise LossSpecError(f"no such file: {path}; got loss {target!r}")
    return f"{path}:{attribute}"


def open_clip_installed() -> bool:
    """Tell whether the open_clip package, and with it its loss file, is installed."""
    return importlib.util.find_spec("open_clip") is not None


def _open_clip_file() -> Path:
    spec = importlib.util.find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise LossSpecError("open_clip is not installed; add it with: pip install --no-deps open_clip_torch")
    return Path(spec.submodule_search_locations[0]) / "loss.py"
