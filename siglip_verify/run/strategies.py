"""Hypothesis strategies for cases, and the profiles that say how many.

Here: how the space of inputs is drawn, simplest first, so that shrinking lands on what a person would try first.
Not here: what a case means in tensors (`features`), or whether it passes.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from siglip_verify.case import Call, Case, DType, Exchange, Features, Frozen, Layout, Rows, Scalars, Upstream

REGIMES = (
    (3.7, -0.6),  # every negative matters: where a dropped block shows most
    (3.7, -0.6),
    (3.7, -0.6),
    (10.0, -10.0),  # the start of SigLIP training
    (120.0, -60.0),  # saturating
    (0.0, 0.5),
    (-2.0, 1.0),
)
FLOAT16_REGIMES = REGIMES[:4]  # at (120, -60) a float16 sum over a block overflows in losses that are right
BATCHES = (*range(1, 8), 17)  # one in eight has more rows than the tiles of 8 and 16 in which a loss may work
DIMS = (*range(1, 13), 40)
WORLD_SIZE_WEIGHT = {2: 3, 3: 3, 4: 3, 5: 3}  # the rest weigh 1: bidir's kinds of hop all occur in 2..5


class Dimensions(msgspec.Struct, frozen=True, kw_only=True):
    """The values that each dimension of a case may take for one loss; simplest first.

    What a loss does not take is left out here and said in the report.
    """

    dtypes: tuple[DType, ...] = ("float64", "float64", "float64", "float32", "float32", "bfloat16", "float16")
    regimes: tuple[tuple[float, float], ...] = REGIMES
    features: tuple[Features, ...] = ("random", "random", "identical", "orthogonal", "antipodal", "unnormalized")
    layouts: tuple[Layout, ...] = ("contiguous", "contiguous", "transposed", "strided")
    chunk_sizes: tuple[int, ...] = (0, 0, 1, 2, 3)
    frozen: tuple[Frozen, ...] = ("none", "none", "none", "none", "image", "text")
    upstream: tuple[Upstream, ...] = ("one", "one", "scaled", "by-rank")
    scalars: tuple[Scalars, ...] = ("0-dim", "0-dim", "1-dim", "float32")
    rows: tuple[Rows, ...] = ("equal",)
    calls: tuple[Call, ...] = ("first", "first", "first", "second")
    max_batch: int = max(BATCHES)


@st.composite
def cases(
    draw: st.DrawFn, exchange: Exchange, world_sizes: Sequence[int], dimensions: Dimensions | None = None
) -> Case:
    """Draw a case of one exchange at one of some world sizes.

    Sizes are drawn with `sampled_from`, from ranges that differ: what is drawn alike Hypothesis copies over each other,
    and goes on from there, so that of 25 cases 15 would have one world size and 12 one row.
    """
    of = dimensions or Dimensions()
    dtype = draw(st.sampled_from(of.dtypes))
    half = dtype == "float16"
    regimes = [r for r in of.regimes if not half or r in FLOAT16_REGIMES]
    scale, bias = draw(st.sampled_from(regimes))
    return Case(
        exchange=exchange,
        world_size=draw(st.sampled_from(world_sizes)),
        batch=draw(st.sampled_from([batch for batch in BATCHES if batch <= of.max_batch])),
        dim=draw(st.sampled_from(DIMS)),
        dtype=dtype,
        scale=scale,
        bias=bias,
        features=draw(st.sampled_from([f for f in of.features if not half or f != "unnormalized"])),
        layout=draw(st.sampled_from(of.layouts)),
        chunk_size=draw(st.sampled_from(of.chunk_sizes)),
        frozen=draw(st.sampled_from(of.frozen)),
        upstream=draw(st.sampled_from(of.upstream)),
        scalars=draw(st.sampled_from(of.scalars)),
        seed=draw(st.integers(0, (1 << 32) - 1)),
        rows=draw(st.sampled_from(of.rows)),
        call=draw(st.sampled_from(of.calls)),
    )


def cases_of(
    exchanges: Sequence[Exchange], world_sizes: Sequence[int], dimensions: Dimensions | None = None
) -> SearchStrategy[Case]:
    """Draw a case of any of some exchanges."""
    return st.sampled_from(exchanges).flatmap(lambda exchange: cases(exchange, world_sizes, dimensions))


def allot(examples: int, world_sizes: Sequence[int]) -> dict[int, int]:
    """Share out the examples of one exchange over world sizes: at least one each, three times as many at W = 2..5."""
    weights = {w: WORLD_SIZE_WEIGHT.get(w, 1) for w in world_sizes}
    total = sum(weights.values())
    return {w: max(1, round(examples * weight / total)) for w, weight in weights.items()}


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """How much to check.

    Attributes:
        examples: Cases for each exchange of the loss that is checked.
        comparison_examples: Cases for each exchange of what is checked beside it: the other forms, open_clip.
        seed: Where the draws start; None draws a seed and says it.
    """

    examples: int
    comparison_examples: int
    seed: int | None


PROFILES = {
    "dev": Profile(examples=160, comparison_examples=48, seed=None),
    "ci": Profile(examples=160, comparison_examples=48, seed=0),
    "nightly": Profile(examples=1000, comparison_examples=250, seed=None),
}
