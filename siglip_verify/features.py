"""What a case means in tensors: the same numbers in every process that draws them.

Here: features, scale, bias and upstream gradients of a case, rounded to its dtype, and how they lie in memory.
Not here: any loss. The global generator is never touched.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import torch
from torch import Tensor

from siglip_verify import given
from siglip_verify.case import Case, Layout


class Inputs(NamedTuple):
    """All ranks' inputs of one case, contiguous, after rounding to the dtypes that the ranks will use.

    Attributes:
        images: One [b, d] tensor a rank, b its own number of rows.
        texts: One [b, d] tensor a rank.
        scale: logit_scale, 0-dim or [1].
        bias: logit_bias, likewise.
        upstream: The gradient that reaches each rank's loss; exact in every dtype.
    """

    images: tuple[Tensor, ...]
    texts: tuple[Tensor, ...]
    scale: Tensor
    bias: Tensor
    upstream: tuple[float, ...]


def draw(case: Case) -> Inputs:
    """Draw the inputs of a case from its seed; ranks hold different rows."""
    generator = torch.Generator().manual_seed(case.seed)
    images, texts = _rows(case, generator)
    dtype = getattr(torch, case.dtype)
    scalar_dtype = torch.float32 if case.scalars == "float32" else dtype
    scalar_shape = (1,) if case.scalars == "1-dim" else ()
    return Inputs(
        images=_own_rows(case, images.to(dtype)),
        texts=_own_rows(case, texts.to(dtype)),
        scale=torch.full(scalar_shape, case.scale, dtype=scalar_dtype),
        bias=torch.full(scalar_shape, case.bias, dtype=scalar_dtype),
        upstream=_upstream(case, generator),
    )


def of_earlier_call(case: Case) -> Case:
    """Return the case of the step before, where a second call is judged: as many rows, and every number another."""
    return msgspec.structs.replace(
        case,
        call="first",
        features="random",
        scale=2.3 if case.scale != 2.3 else 1.7,
        bias=0.9 if case.bias != 0.9 else 0.4,
        seed=(case.seed + 1) % (1 << 32),
    )


def sizes(case: Case) -> tuple[int, ...]:
    """Return each rank's number of rows: b, or of ragged ranks 0 to b, drawn from the seed, with b on one of them."""
    if case.rows == "equal":
        return (case.batch,) * case.world_size
    generator = torch.Generator().manual_seed(case.seed)
    found = torch.randint(case.batch + 1, (case.world_size,), generator=generator)
    found[torch.randint(case.world_size, (), generator=generator)] = case.batch
    return tuple(found.tolist())


def _own_rows(case: Case, blocks: Tensor) -> tuple[Tensor, ...]:
    """Cut [W, b, d] into the rows of each rank."""
    return tuple(block[:size] for block, size in zip(blocks, sizes(case), strict=True))


def lay_out(features: Tensor, layout: Layout) -> Tensor:
    """Return features of the same values that lie in memory as the layout says."""
    if layout == "transposed":
        return features.T.contiguous().T
    if layout == "strided":
        return features.repeat_interleave(2, dim=1)[:, ::2]
    return features.contiguous()


def _rows(case: Case, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw images and texts, each [W, b, d] in float64."""
    shape = (case.world_size, case.batch, case.dim)
    images = torch.randn(shape, dtype=torch.float64, generator=generator)
    texts = torch.randn(shape, dtype=torch.float64, generator=generator)
    match case.features:
        case "random":  # unit rows, drawn independently
            return _unit(images), _unit(texts)
        case "identical":  # the rows of one rank are all the same; ranks still differ
            return _unit(images[:, :1].expand(shape)), _unit(texts[:, :1].expand(shape))
        case "orthogonal":  # rows of the standard basis in turn: products are 0 or 1
            turn = torch.arange(shape[0] * shape[1]).view(shape[:2]) % case.dim
            basis = torch.eye(case.dim, dtype=torch.float64)[turn]
            return basis, basis
        case "antipodal":  # every pair that should match points opposite ways
            return _unit(images), -_unit(images)
        case "unnormalized":  # lengths around sqrt(d), as from an encoder without its last normalisation
            return images, texts
        case "one-hot-by-rank":  # rank i's rows are all e_i: a gradient's component j tells of rank j (checks.coverage)
            basis = torch.eye(case.world_size, case.dim, dtype=torch.float64)[:, None].repeat(1, case.batch, 1)
            return basis, basis
        case "given":
            return given.split(case)
        case "equal-on-all-ranks":  # never drawn by a check: it hides most of what it looks for (run.catalogue)
            return _unit(images[:1].expand(shape)), _unit(texts[:1].expand(shape))


def _unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=-1, keepdim=True)


def _upstream(case: Case, generator: torch.Generator) -> tuple[float, ...]:
    """Return multiples of 1/8 up to 2, which every dtype holds exactly."""
    eighths = torch.randint(1, 17, (case.world_size,), generator=generator) / 8
    match case.upstream:
        case "one":
            return (1.0,) * case.world_size
        case "scaled":
            return (eighths[0].item(),) * case.world_size
        case "by-rank":
            return tuple(eighths.tolist())
