"""Measure what precision each form of our loss keeps, and write the table into docs/precision.md: `make precision`.

Every form runs one step of shift, whose gradients travel farthest, on real gloo ranks; loss and gradients are held
against the float64 oracle of the features as they are after rounding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from siglip_verify import features, oracle
from siglip_verify.case import Case, DType
from siglip_verify.loss import SigLipLoss
from siglip_verify.world import Worlds

PAGE = Path(__file__).with_name("precision.md")
BEGIN, END = "<!-- measured by docs/make_precision.py -->", "<!-- end -->"
WORLD_SIZE, BATCH, DIM, SEEDS = 8, 32, 64, 5
QUANTITIES = ("loss", "image", "text", "scale", "bias")
FORMS: dict[str, tuple[str, bool]] = {
    "autograd": ("autograd", False),
    "recompute": ("recompute", False),
    "recompute, narrow": ("recompute", True),
    "constant": ("constant", False),
    "constant, narrow": ("constant", True),
}
"""By name: `memory`, and whether gradients are asked to travel in the features' dtype."""
FEATURES: dict[str, tuple[DType, bool]] = {
    "bfloat16": ("bfloat16", False),
    "float16": ("float16", False),
    "float32": ("float32", False),
    "float32, autocast to bfloat16": ("float32", True),
}


def step(case: Case, options: dict[str, Any], autocast: bool) -> list[Tensor]:
    """Run one step in this rank and return loss and gradients in float64; scale and bias are float32."""
    inputs, rank = features.draw(case), dist.get_rank()
    values = [inputs.images[rank], inputs.texts[rank], inputs.scale, inputs.bias]
    values = [value.clone().requires_grad_() for value in values]
    loss = SigLipLoss(rank=rank, world_size=dist.get_world_size(), dist_impl=case.exchange, **options)
    with torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext():
        value = loss(*values)
    value.backward()
    return [each.detach().double() for each in (value, *(leaf.grad for leaf in values))]


def errors(worlds: Worlds, case: Case, options: dict[str, Any], autocast: bool) -> Iterator[float]:
    """Yield the error of each quantity over all ranks, relative to its norm."""
    inputs = features.draw(case)
    wanted = oracle.reference(inputs.images, inputs.texts, inputs.scale.item(), inputs.bias.item())
    parts = (
        wanted.local_loss,
        wanted.image_grad,
        wanted.text_grad,
        wanted.local_scale_grad,
        wanted.local_bias_grad,
    )
    ranks = worlds.run(case.world_size, step, case, options, autocast)
    for observed, expected in zip(zip(*ranks, strict=True), parts, strict=True):
        seen, right = torch.stack(observed), torch.stack([estimate.value for estimate in expected])
        yield ((seen - right).norm() / right.norm()).item()


def measured(worlds: Worlds, dtype: DType, autocast: bool, options: dict[str, Any]) -> list[float]:
    """Return the median error of each quantity over some draws."""
    cases = [
        Case(exchange="shift", world_size=WORLD_SIZE, batch=BATCH, dim=DIM, dtype=dtype, scalars="float32", seed=seed)
        for seed in range(SEEDS)
    ]
    draws = torch.tensor([list(errors(worlds, case, options, autocast)) for case in cases])
    return draws.median(0).values.tolist()


def table(worlds: Worlds) -> str:
    """Return the table in Markdown."""
    lines = ["| features | form | " + " | ".join(QUANTITIES) + " |", "|---|---|" + "---:|" * len(QUANTITIES)]
    for features_name, (dtype, autocast) in FEATURES.items():
        for form, (memory, is_narrow) in FORMS.items():
            if dtype == "float32" and is_narrow:
                continue  # the same form
            options: dict[str, Any] = {"memory": memory, **({"grad_dtype": getattr(torch, dtype)} if is_narrow else {})}
            found = measured(worlds, dtype, autocast, options)
            lines.append(f"| {features_name} | {form} | " + " | ".join(f"{error:.1e}" for error in found) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    _, after = rest.split(END, 1)
    with Worlds(timeout_s=60) as worlds:
        PAGE.write_text(f"{before}{BEGIN}\n{table(worlds)}\n{END}{after}")
    print(f"wrote {PAGE}")
