"""What a block takes to compute and what a step holds, against the loss itself.

Oracle: the loss run as one rank of W on torch's fake backend, its operations counted from outside: how many, what they
read and write of logits, the products' size, and which storages live at once. Sees: a model of another loss than ours.
Does not see how fast a device is.
"""

from __future__ import annotations

import pytest
import torch
from counting import Operations, held_by, operations_of

from siglip_verify.plan import plan
from siglip_verify.simulate import PRESETS, Form, Setup
from siglip_verify.simulate.compute import block_time, block_work, rows_at_once
from siglip_verify.simulate.memory import memory_cost
from siglip_verify.simulate.predict import planned_step

B, D = 48, 20
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}
FORMS = [
    *((exchange, "autograd", 0) for exchange in ("bidir", "shift", "reduce", "gather")),
    *((exchange, "chunked", 12) for exchange in ("bidir", "shift", "reduce", "gather")),
    ("bidir", "constant", 12),
    ("shift", "constant", 12),
    ("bidir", "constant", 0),
    ("bidir", "recompute", 12),
    ("shift", "recompute", 0),
]
OVERLAPPED = [
    *((exchange, memory, 12) for exchange in ("bidir", "shift") for memory in ("chunked", "constant", "recompute")),
    ("shift", "autograd", 0),
    ("bidir", "constant", 0),
]
with_and_without_overlap = pytest.mark.parametrize(
    ("exchange", "memory", "chunk_size", "overlap"),
    [*((*form, False) for form in FORMS), *((*form, True) for form in OVERLAPPED)],
)


def options(exchange: str, memory: str, chunk_size: int, overlap: bool) -> dict[str, object]:
    kept = "autograd" if memory == "chunked" else memory
    return {"dist_impl": exchange, "memory": kept, "chunk_size": chunk_size, "overlap": overlap}


def difference(small: list[Operations], large: list[Operations], blocks: int) -> list[tuple[float, float, float]]:
    """Return flops, bytes and operations of one block more, by phase."""
    return [
        (
            (b.flops - a.flops) / blocks,
            (b.num_bytes - a.num_bytes) / blocks,
            (b.count - a.count) / blocks,
        )
        for a, b in zip(small, large, strict=True)
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("memory", "chunk_size", "overlap"),
    [
        *(("autograd", 0, False), ("chunked", 12, False), ("chunked", B, False), ("autograd", 0, True)),
        *(("constant", 0, False), ("constant", 12, False), ("constant", 12, True)),
        *(("recompute", 0, False), ("recompute", 12, True)),
    ],
)
def test_one_block_more_takes_what_the_loss_does(memory: str, chunk_size: int, overlap: bool, dtype: str) -> None:
    rows = rows_at_once(memory, B, chunk_size)
    small, large = (
        operations_of(world_size, B, D, DTYPES[dtype], rows * B, **options("bidir", memory, chunk_size, overlap))
        for world_size in (5, 7)
    )
    seen = difference(small, large, blocks=2)
    modelled = block_work(memory, B, D, dtype, chunk_size, overlap=overlap)
    assert seen == [pytest.approx(tuple(work)) for work in modelled]


def test_the_default_chunk_is_the_losss_own() -> None:
    from siglip_verify.loss.closed_form import LOGITS_AT_ONCE

    assert rows_at_once("constant", 2048, 0) == LOGITS_AT_ONCE // 2048
    assert rows_at_once("constant", 16, 0) == 16
    assert rows_at_once("autograd", 2048, 64) == 2048


def test_a_block_takes_products_and_passes_or_its_launches_whichever_is_longer() -> None:
    on = PRESETS["h100-ib"]
    work = block_work("autograd", 2048, 1152, "bfloat16")[0]
    moving = work.flops / (0.6 * 989e12) + work.logit_bytes / (0.8 * 3350e9)
    assert block_time(on, "autograd", 2048, 1152, "bfloat16").forward == pytest.approx(moving)
    assert block_time(on, "autograd", 8, 64, "bfloat16").forward == pytest.approx(6 * 5e-6)


def test_a_dtype_that_the_cluster_does_not_know_is_named() -> None:
    import msgspec

    on = PRESETS["h100-ib"]
    narrow = msgspec.structs.replace(on, compute=msgspec.structs.replace(on.compute, tflops_per_s={"bfloat16": 1.0}))
    with pytest.raises(ValueError, match=r"'h100-ib' names bfloat16; got dtype=float32: add float32 = \.\.\. there"):
        block_time(narrow, "autograd", 8, 8, "float32")


# ------------------------------------------------------------------ memory
@with_and_without_overlap
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_what_is_kept_until_backward_is_what_the_loss_keeps(
    exchange: str, memory: str, chunk_size: int, overlap: bool, dtype: str
) -> None:
    """To the byte, but for a few scalars."""
    for world_size in (2, 5):
        held = held_by(world_size, B, D, DTYPES[dtype], **options(exchange, memory, chunk_size, overlap))
        model = cost(exchange, memory, chunk_size, overlap, dtype, world_size)
        sums = 2 * B * D * 4 if memory == "constant" else 0  # what backward multiplies: gradients, whatever W is
        assert held.kept == pytest.approx(model.text_bytes + model.logit_bytes + model.image_bytes + sums, abs=64)


@with_and_without_overlap
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_peak_is_an_upper_bound_that_grows_as_the_losss_does(
    exchange: str, memory: str, chunk_size: int, overlap: bool, dtype: str
) -> None:
    seen, modelled = [], []
    for world_size in (7, 9):  # with overlap both ways, all that can be under way is so from W = 7 on
        held = held_by(world_size, B, D, DTYPES[dtype], **options(exchange, memory, chunk_size, overlap))
        seen.append(max(held.forward, held.backward))
        modelled.append(cost(exchange, memory, chunk_size, overlap, dtype, world_size).peak_bytes)
    assert modelled[1] - modelled[0] == seen[1] - seen[0]
    assert all(bytes_seen <= bound * 1.01 for bytes_seen, bound in zip(seen, modelled, strict=True))
    block = B * D * DTYPES[dtype].itemsize
    assert all(bound <= bytes_seen * 1.01 + 8 * block for bytes_seen, bound in zip(seen, modelled, strict=True))


def cost(exchange: str, memory: str, chunk_size: int, overlap: bool, dtype: str, world_size: int):  # type: ignore[no-untyped-def]
    setup = Setup(cluster=PRESETS["h100-ib"], batch=B, dim=D, dtype=dtype)
    return memory_cost(planned_step(setup, Form(exchange, memory, overlap), world_size), memory, dtype, chunk_size)


def test_gather_holds_twice_its_texts_at_the_end_of_backward_and_that_shows_only_without_logits() -> None:
    block = 2048 * 1152 * 2
    planned = plan("gather", 512, 2048, 1152, 2)
    autograd, chunked = (memory_cost(planned, memory, "bfloat16") for memory in ("autograd", "chunked"))
    assert autograd.gradient_bytes == chunked.gradient_bytes == 2 * 512 * block
    kept = autograd.text_bytes + autograd.logit_bytes + autograd.image_bytes
    assert autograd.peak_bytes == kept + autograd.working_bytes
    assert chunked.peak_bytes == chunked.gradient_bytes + chunked.image_bytes + chunked.working_bytes
