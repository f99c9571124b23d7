"""What is not checked of a loss, and why: dimensions that it does not take, and layouts that it refuses.

Here: loading a loss to see what it takes, and trying what it does not promise. Not here: the cases themselves.
"""

from __future__ import annotations

import msgspec

from siglip_verify.adapt import OURS, LossSpec, LossSpecError, Traits
from siglip_verify.case import Case, DType, Exchange
from siglip_verify.records import CaseResult
from siglip_verify.result import LeftOut
from siglip_verify.run import step
from siglip_verify.run.declare import form_of
from siglip_verify.run.strategies import BATCHES, DIMS, Dimensions
from siglip_verify.world import Worlds


def load_traits(worlds: Worlds, spec: LossSpec) -> Traits:
    """Load a loss in a rank and return what it takes.

    Raises:
        LossSpecError: It cannot be loaded.
    """
    (reply,) = worlds.run(1, step.traits, spec)
    if isinstance(reply, step.Rejected):
        raise LossSpecError(reply.why)
    return reply


def dimensions_of(spec: LossSpec, traits: Traits) -> tuple[Dimensions, list[LeftOut]]:
    """Return the values that a loss's cases may take, and what is left out because the loss does not take it."""
    of = Dimensions()
    left_out = [
        LeftOut(what="group", why="every case runs in the default process group, none in a subgroup"),
        LeftOut(
            what=f"more than {max(BATCHES)} rows a rank, or d above {max(DIMS)}",
            why="drawn cases are small: --features checks a batch of your own size",
        ),
        LeftOut(
            what="a third call, calls of different sizes, two forwards before a backward",
            why="a case is the first call of a loss, or the second of two of the same size",
        ),
    ]
    if spec.target != OURS:
        of = msgspec.structs.replace(of, scalars=("0-dim",))
        left_out += [
            LeftOut(
                what="scale and bias of another dtype or of shape [1]", why="not promised by losses of this interface"
            ),
        ]
    if spec.target != OURS and not spec.any_layout:
        of = msgspec.structs.replace(of, layouts=("contiguous",))  # strided ones are tried once, see `strided_case`
    if not traits.takes_chunk_size:
        of = msgspec.structs.replace(of, chunk_sizes=(0,))
        left_out.append(LeftOut(what="chunk_size", why="the loss takes none"))
    if not traits.takes_exchange:
        left_out.append(LeftOut(what="exchanges", why="the loss takes none: its cases stand under the first one named"))
    if spec.same_upstream:
        of = msgspec.structs.replace(of, upstream=("one", "scaled"))
        left_out.append(
            LeftOut(what="upstream gradients that differ by rank", why="the loss asks for the same one on all ranks")
        )
    form = form_of(spec)
    if form is not None and form.ragged:
        of = msgspec.structs.replace(of, rows=("equal", "ragged", "ragged", "ragged"))
    if form is not None and form.grad_dtype is not None:
        of = msgspec.structs.replace(of, dtypes=tuple(dtype for dtype in of.dtypes if form.takes(dtype)))
        left_out.append(
            LeftOut(
                what=f"features of other dtypes than {', '.join(dict.fromkeys(of.dtypes))}",
                why=f"gradients travel in {form.grad_dtype}, and in a dtype no narrower than the features'",
            )
        )
    if spec.dtypes:
        of = msgspec.structs.replace(of, dtypes=tuple(dtype for dtype in of.dtypes if dtype in spec.dtypes))
        left_out.append(LeftOut(what="features of other dtypes", why=f"the loss is made for {', '.join(spec.dtypes)}"))
    if not spec.row_wise:
        of = msgspec.structs.replace(of, upstream=("one", "scaled"))
        left_out.append(LeftOut(what="upstream gradients that differ by rank", why="local values are not row-wise"))
    if spec.log_scale:
        of = msgspec.structs.replace(of, regimes=tuple(regime for regime in of.regimes if regime[0] > 0))
        left_out.append(LeftOut(what="zero and negative scale", why="the loss keeps the logarithm of its scale"))
    return of, left_out


def strided_case(exchange: Exchange, world_size: int, dtype: DType) -> Case:
    """Return a small case with transposed features, which gloo refuses to send as they are."""
    return Case(exchange=exchange, world_size=world_size, batch=2, dim=3, dtype=dtype, layout="transposed")


def strided_limit(result: CaseResult) -> LeftOut:
    """Say what a loss that does not promise strided features did with them."""
    if result.verdict == "pass":
        return LeftOut(
            what=f"strided features, {result.case.exchange}", why="accepted, and equal, in the one case tried"
        )
    blamed = next((failure for failure in result.failures if failure.blamed), None)
    why = blamed.detail.splitlines()[0] if blamed else "came to no judgement"
    return LeftOut(what=f"strided features, {result.case.exchange}", why=f"known limit: {why}")
