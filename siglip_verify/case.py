"""A case: one input of the equivalence property, and its one-line text form.

Here: the record, what each dimension may be, writing and reading the line that replays it. Not here: how cases are
drawn (`run.strategies`) and how a case becomes tensors (`features`).
"""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote

import msgspec

from siglip_verify.errors import UsageError

Exchange = Literal["bidir", "shift", "reduce", "gather"]
DType = Literal["float64", "float32", "bfloat16", "float16"]
Features = Literal[
    "random",
    "identical",
    "orthogonal",
    "antipodal",
    "unnormalized",
    "one-hot-by-rank",
    "equal-on-all-ranks",
    "given",
]
Layout = Literal["contiguous", "transposed", "strided"]
Frozen = Literal["none", "image", "text"]
Upstream = Literal["one", "scaled", "by-rank"]
Scalars = Literal["0-dim", "1-dim", "float32"]
Rows = Literal["equal", "ragged"]
Call = Literal["first", "second"]

EXCHANGES: tuple[Exchange, ...] = typing.get_args(Exchange)
DTYPES: tuple[DType, ...] = typing.get_args(DType)


def itemsize(dtype: DType) -> int:
    """Return the bytes of one number of a dtype."""
    return {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}[dtype]


Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One input on which a distributed loss must equal the oracle.

    Attributes:
        exchange: How the ranks show each other their texts (`dist_impl`).
        world_size: Number of ranks, W.
        batch: Rows of images and of texts on each rank, b; where ranks differ, the most that one has.
        dim: Feature dimension, d.
        dtype: Dtype of the features.
        scale: logit_scale, already exponentiated.
        bias: logit_bias.
        features: How the rows are drawn, see `siglip_verify.features`.
        layout: Memory layout of the features on each rank.
        chunk_size: Rows of logits held at once; 0 is all of them.
        frozen: The tower whose features need no gradient.
        upstream: The gradient that reaches the loss: 1, one other number on all ranks, or a number of each rank's own.
        scalars: Form of scale and bias: 0-dim or shape [1] of the features' dtype, or 0-dim float32.
        seed: Where the features come from; every process draws the same from it.
        rows: Whether all ranks have b rows, or each a number of its own from 0 to b, see `siglip_verify.features`.
        call: Which call of the loss is judged: the first, or the second, after a whole step on other numbers, which
            shows what a loss keeps from step to step.
        source: The file that holds them, where they are given and not drawn.
    """

    exchange: Exchange = "bidir"
    world_size: Count = 2
    batch: Count = 1
    dim: Count = 1
    dtype: DType = "float64"
    scale: float = 3.7
    bias: float = -0.6
    features: Features = "random"
    layout: Layout = "contiguous"
    chunk_size: Annotated[int, msgspec.Meta(ge=0)] = 0
    frozen: Frozen = "none"
    upstream: Upstream = "one"
    scalars: Scalars = "0-dim"
    seed: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = 0
    rows: Rows = "equal"
    call: Call = "first"
    source: str = ""

    def __post_init__(self) -> None:
        for name, value in (("scale", self.scale), ("bias", self.bias)):
            if not math.isfinite(value):
                raise UsageError(f"{name} must be finite; got {name}={value}")
        if self.features == "one-hot-by-rank" and self.dim < self.world_size:
            raise UsageError(f"one-hot-by-rank features need d >= W; got W={self.world_size}, d={self.dim}")
        if self.features == "given" and self.rows == "ragged":
            raise UsageError("given features are cut into equal parts; got rows=ragged")
        if self.features == "given" and self.call == "second":
            raise UsageError("given features are judged in the first call of a loss; got call=second")
        if self.features == "given" and not self.source:
            raise UsageError("given features stand in a file; got no source: add source=FILE, such as source=batch.npz")

    def __str__(self) -> str:
        return format_case(self)


_SHORT = {"world_size": "W", "batch": "b", "dim": "d", "chunk_size": "chunk"}
_LONG = {short: name for name, short in _SHORT.items()}


def format_case(case: Case) -> str:
    """Write a case as one line: the exchange, then `name=value` for every other field but those that are usual."""
    pairs = msgspec.structs.asdict(case)
    exchange = pairs.pop("exchange")
    pairs = {name: value for name, value in pairs.items() if (name, value) not in _UNSAID}
    return " ".join([exchange, *(f"{_SHORT.get(name, name)}={_quoted(name, value)}" for name, value in pairs.items())])


_UNSAID = (("rows", "equal"), ("call", "first"), ("source", ""))


def _quoted(name: str, value: object) -> object:
    return quote(str(value)) if name == "source" else value


def parse_case(line: str) -> Case:
    """Read the line that `format_case` wrote, or a case as JSON; fields left out take their defaults.

    Raises:
        ValueError: The line is not a case; the message names the word and what is allowed.
    """
    if line.lstrip().startswith("{"):
        try:
            return _case(msgspec.json.decode(line, type=dict[str, Any]), strict=True)
        except (msgspec.DecodeError, UnicodeEncodeError) as error:
            raise UsageError(f"not a case: {error}; got {line!r:.200}") from None
    exchange, _, rest = line.strip().partition(" ")
    fields = {"exchange": exchange}
    for word in rest.split():
        short, equals, value = word.partition("=")
        name = _LONG.get(short, short)
        if not equals or name not in Case.__struct_fields__:
            known = ", ".join(_SHORT.get(field, field) for field in Case.__struct_fields__[1:])
            raise UsageError(f"a case is an exchange and name=value words with the names {known}; got {word!r}")
        if name in fields:
            raise UsageError(f"a case names each field once; got {word!r} after {short}={fields[name]}")
        fields[name] = unquote(value) if name == "source" else value
    return _case(fields, strict=False)


def _case(fields: Mapping[str, Any], *, strict: bool) -> Case:
    """Make a case of its fields by name, where numbers may be text unless it is strict."""
    for name, value in fields.items():
        if name not in _TYPES:
            raise UsageError(f"not a case: its fields are {', '.join(_TYPES)}; got {name!r:.200}")
        try:
            msgspec.convert(value, _TYPES[name], strict=strict)
        except msgspec.ValidationError:
            said = _SHORT.get(name, name)
            raise UsageError(f"not a case: {said} is {_in_words(_TYPES[name])}; got {said}={value!s:.200}") from None
    try:
        return msgspec.convert(fields, Case, strict=strict)
    except msgspec.ValidationError as error:  # fields that do not go together
        raise UsageError(f"not a case: {error}") from None


_TYPES: Mapping[str, Any] = typing.get_type_hints(Case, include_extras=True)


def _in_words(kind: Any) -> str:
    """Say what a field takes."""
    if typing.get_origin(kind) is Literal:
        return f"one of {', '.join(typing.get_args(kind))}"
    if typing.get_origin(kind) is Annotated:
        (limits,) = kind.__metadata__
        most = limits.le if limits.lt is None else limits.lt - 1
        return f"a whole number, {limits.ge} at least" + (f" and {most} at most" if most is not None else "")
    return "a number" if kind is float else "text"
