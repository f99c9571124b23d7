"""What the catalogue says of each entry: the records, as data that a run can be held against.

Here: `Bug`, `Control`, `Where`, and the words they are written in. Not here: any plant (the family files).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from siglip_verify.adapt.spec import LossSpec
from siglip_verify.case import EXCHANGES, Call, Case, DType, Exchange, Features, Layout, Upstream
from siglip_verify.records import Quantity

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""A loss on one rank: (image_features, text_features, logit_scale, logit_bias) in, a 0-dim loss out."""


class Make(Protocol):
    """Builds a planted loss on one rank."""

    @property
    def exchanges(self) -> Mapping[str, object]:
        """The exchanges, by name, that it can be built for."""
        ...

    def __call__(self, rank: int, world_size: int, exchange: str, chunk_size: int = 0) -> Loss:
        """Return the loss of one rank."""
        ...


Outcome = Literal["mismatch", "raised", "died", "hung", "memory", "input"]
"""How a bug shows: wrong numbers; an exception, a dead process, silence in a rank; memory or changed input alone."""

FORK = "a public fork of open_clip's loss; no thread"
ORIGINAL = "https://github.com/mlfoundations/open_clip/blob/main/src/open_clip/loss.py"
"""The source of a bug that a line of the original is there to prevent."""

_SEEN: dict[str, tuple[Quantity, ...]] = {
    "L": ("loss", "local_loss"),
    "I": ("image_grad",),
    "T": ("text_grad",),
    "s": ("scale_grad", "local_scale_grad"),
    "b": ("bias_grad", "local_bias_grad"),
}


def seen_in(letters: str) -> tuple[Quantity, ...]:
    """Return the quantities that L (loss), I (image), T (text), s (scale) and b (bias gradient) stand for."""
    return tuple(quantity for letter in letters for quantity in _SEEN[letter])


ALL = seen_in("LITsb")


def thread(repository: str, number: int) -> str:
    """Return the address of an issue or pull request (GitHub leads from one to the other)."""
    return f"https://github.com/{repository}/issues/{number}"


def neighbour_of(bug_id: str) -> str:
    """Return the source of an entry that has no thread of its own but lies beside one that has."""
    return f"neighbour of {bug_id}"


@dataclass(frozen=True, kw_only=True)
class Where:
    """The cases in which a bug must show; in all others the planted loss is right.

    Said of random features of two dimensions or more with every leaf trained, at t = 3.7, c = -0.6, but for what the
    entry itself sets. (A frozen text tower hides a wrong text gradient, an upstream gradient that happens to be 1 hides
    its neglect; what needs a great t shows now and then between that and 3.7.)

    Attributes:
        min_world_size: The least W.
        parity: Even or odd W alone; None is both.
        min_batch: The least b.
        chunk: "chunked": chunk_size smaller than b. "ragged": and b no multiple of it.
        layouts, dtypes, features, upstream, calls: The values in which it shows; None is all.
        min_scale: The least t, c being -t / 2.
    """

    min_world_size: int = 2
    parity: Literal["even", "odd"] | None = None
    min_batch: int = 1
    chunk: Literal["any", "chunked", "ragged"] = "any"
    layouts: tuple[Layout, ...] | None = None
    dtypes: tuple[DType, ...] | None = None
    features: tuple[Features, ...] | None = None
    upstream: tuple[Upstream, ...] | None = None
    calls: tuple[Call, ...] | None = None
    min_scale: float = -math.inf

    def has_world_size(self, world_size: int) -> bool:
        """Tell whether the bug can show at this W."""
        parity = "even" if world_size % 2 == 0 else "odd"
        return world_size >= self.min_world_size and self.parity in (None, parity)

    def holds(self, case: Case) -> bool:
        """Tell whether the bug must show in this case."""
        chunked = 0 < case.chunk_size < case.batch
        ragged = chunked and case.batch % case.chunk_size != 0
        return (
            self.has_world_size(case.world_size)
            and case.batch >= self.min_batch
            and {"any": True, "chunked": chunked, "ragged": ragged}[self.chunk]
            and (self.layouts is None or case.layout in self.layouts)
            and (self.dtypes is None or case.dtype in self.dtypes)
            and (self.features is None or case.features in self.features)
            and (self.upstream is None or case.upstream in self.upstream)
            and (self.calls is None or case.call in self.calls)
            and case.scale >= self.min_scale
        )

    def example(self, exchange: Exchange, world_size: int) -> Case:
        """Return the plainest case that meets every condition but the one on W."""
        scale = max(self.min_scale, Case().scale)
        return Case(
            exchange=exchange,
            world_size=world_size,
            batch=3,
            dim=8,
            chunk_size=0 if self.chunk == "any" else 2,
            layout=(self.layouts or ("contiguous",))[0],
            dtype=(self.dtypes or ("float64",))[0],
            features=(self.features or ("random",))[0],
            upstream=(self.upstream or ("one",))[0],
            call=(self.calls or ("first",))[0],
            scale=scale,
            bias=-scale / 2 if scale == self.min_scale else Case().bias,
        )


@dataclass(frozen=True, kw_only=True)
class Bug:
    """One real bug, planted in a correct loss.

    Attributes:
        id: Its name in the catalogue.
        sentence: What is wrong, in one sentence.
        source: Address of the public thread, `neighbour of <id>`, FORK or ORIGINAL.
        make: Builds it on one rank: (rank, world_size, exchange, chunk_size) -> loss.
        where: The cases in which it must show.
        quantities: What must go wrong there, all of it and nothing else; empty unless the outcome is a mismatch.
        outcomes: How it may show; more than one where ranks race.
        diagnosis: What the words of a diagnosis must match (a regular expression, case ignored).
        row_wise: Whether the loss that carries the bug promises row-wise local values.
        same_upstream: Whether it asks for one upstream gradient on all ranks.
        is_race: Whether a lucky run may come out right.
    """

    id: str
    sentence: str
    source: str
    make: Make
    where: Where = Where()
    quantities: tuple[Quantity, ...] = ()
    outcomes: tuple[Outcome, ...] = ("mismatch",)
    diagnosis: str
    row_wise: bool = True
    same_upstream: bool = False
    is_race: bool = False

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """The exchanges in which it can be planted."""
        return tuple(exchange for exchange in EXCHANGES if exchange in self.make.exchanges)

    @property
    def spec(self) -> LossSpec:
        """The planted loss as a target of the adapter."""
        return LossSpec(
            target="siglip_verify.bugs:make",
            args={"bug": self.id},
            row_wise=self.row_wise,
            same_upstream=self.same_upstream,
        )


@dataclass(frozen=True, kw_only=True)
class Control:
    """A loss that is written differently and is right under the convention that its spec declares.

    Attributes:
        id: Its name in the catalogue.
        sentence: In what it differs, in one sentence.
        spec: Where it is, and its convention.
        exchanges: Those that it has, of a loss that can be told which to use.
    """

    id: str
    sentence: str
    spec: LossSpec
    exchanges: tuple[Exchange, ...] = EXCHANGES
