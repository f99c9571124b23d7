"""The flags that say which loss is checked, and by which convention it counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter

from siglip_verify.adapt import OURS, Argument, LossSpec
from siglip_verify.case import DTYPES, DType
from siglip_verify.errors import UsageError


@Parameter(name="*")
@dataclass(frozen=True)
class LossFlags:
    """The loss to check, and the convention by which it counts. Nothing of it is guessed."""

    loss: Annotated[
        tuple[str, ...], Parameter(help="`MODULE:ATTR`, `FILE.py:ATTR` or `open_clip`; may be repeated.")
    ] = ()
    arg: Annotated[tuple[str, ...], Parameter(help="Extra constructor argument, `KEY=VALUE`; may be repeated.")] = ()
    reduction: Annotated[
        Literal["mean", "sum"], Parameter(help="How the ranks' local losses make the global loss.")
    ] = "mean"
    normalizer: Annotated[
        Literal["b", "N", "N/W", "b*b", "1"], Parameter(help="What a rank's sum over its pairs is divided by.")
    ] = "b"
    row_wise: Annotated[
        bool,
        Parameter(help="A rank's own value is that of its own images against all texts.", negative="--no-row-wise"),
    ] = True
    scale_parameter: Annotated[str | None, Parameter(help="The loss's own parameter that holds the scale.")] = None
    bias_parameter: Annotated[str | None, Parameter(help="The loss's own parameter that holds the bias.")] = None
    log_scale: Annotated[bool, Parameter(help="The scale parameter holds its logarithm.")] = False
    same_upstream: Annotated[bool, Parameter(help="The loss asks that one gradient reach it on all ranks.")] = False
    dtypes: Annotated[
        str | None, Parameter(help="The features' dtypes that the loss is made for, with commas; default: all four.")
    ] = None
    any_layout: Annotated[bool, Parameter(help="The loss promises to take strided features.")] = False

    def specs(self) -> list[LossSpec]:
        """Return a declaration for each loss named; none where nothing is declared."""
        declared = LossSpec(
            args=dict(_argument(word) for word in self.arg),
            reduction=self.reduction,
            normalizer=self.normalizer,
            row_wise=self.row_wise,
            scale_parameter=self.scale_parameter,
            bias_parameter=self.bias_parameter,
            log_scale=self.log_scale,
            same_upstream=self.same_upstream,
            dtypes=_dtypes(self.dtypes),
            any_layout=self.any_layout,
        )
        if not self.loss and declared == LossSpec():
            return []
        return [msgspec.structs.replace(declared, target=target) for target in self.loss or (OURS,)]


UNDECLARED = LossFlags()
"""No flag given: our own loss, and open_clip's beside it."""


def _dtypes(words: str | None) -> tuple[DType, ...]:
    """Read names of dtypes with commas; none where the flag is not given."""
    if words is None:
        return ()
    named = [word.strip() for word in words.split(",")]
    if unknown := [word for word in named if word not in DTYPES]:
        raise UsageError(f"--dtypes takes {', '.join(DTYPES)}, with commas; got {unknown[0]!r}")
    return tuple(dtype for dtype in DTYPES if dtype in named)


def _argument(word: str) -> tuple[str, Argument]:
    """Read KEY=VALUE, the value as JSON where it is JSON and as text where it is not."""
    key, equals, value = word.partition("=")
    if not equals or not key:
        raise UsageError(f"--arg takes KEY=VALUE; got {word!r}")
    try:
        return key, msgspec.json.decode(value, type=Argument)
    except msgspec.MsgspecError:
        return key, value
