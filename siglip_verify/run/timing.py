"""Timings inside ranks, for a calibration: communication, blocks, whole steps.

Here: what a rank runs and times; these functions are sent to all ranks of a world. Not here: what is made of the times
(`calibration`). Every value is one rank's; a time is that of the slowest, which the others have to wait for.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from siglip_verify.loss import SigLipLoss
from siglip_verify.loss.ranks import Ranks
from siglip_verify.loss.ring import hop, leftward, rightward
from siglip_verify.simulate import Form
from siglip_verify.simulate.fit import Pattern
from siglip_verify.world import context

_IN_A_ROW = 4
_WARM_UP = 2
# The name since torch 2.13, where the older one warns of its end.
_all_gather: Any = getattr(dist, "all_gather_single", None) or getattr(dist, "all_gather_into_tensor")  # noqa: B009


def time_links(patterns: Sequence[tuple[Pattern, int, int]], dtype: str, turns: int) -> list[list[float]]:
    """Time each pattern (name, bytes, offset) by turns; return seconds, of the mean of a few in a row.

    Args:
        patterns: What, how many bytes, and over how many places.
        dtype: Of what is sent.
        turns: How often.
    """
    jobs = [_communication(*each, dtype=getattr(torch, dtype)) for each in patterns]
    return _by_turns([[_repeated(job)] for job in jobs], turns, share=_IN_A_ROW)


def time_blocks(shapes: Sequence[tuple[int, int]], dtype: str, turns: int) -> list[list[float]]:
    """Time forward and backward of one block for each (b, d), one after the other, by turns; all ranks at once."""
    steps = [_Step(SigLipLoss(), batch, dim, dtype) for batch, dim in shapes]
    return _by_turns([[step.forward, step.backward] for step in steps], turns)


def time_steps(forms: Sequence[Form], batch: int, dim: int, dtype: str, turns: int) -> list[list[float]]:
    """Time forward and backward of a whole step of each form, by turns."""
    rank, world_size = context().rank, context().world_size
    steps = [_Step(loss_of(form, rank, world_size), batch, dim, dtype) for form in forms]
    return _by_turns([[step.both] for step in steps], turns)


def loss_of(form: Form, rank: int, world_size: int) -> SigLipLoss:
    """Return our loss in a form, which chunks nothing."""
    return SigLipLoss(rank=rank, world_size=world_size, dist_impl=form.exchange, memory=form.kept, overlap=form.overlap)


class _Step:
    """One forward and one backward of a loss on features that stay."""

    def __init__(self, loss: SigLipLoss, batch: int, dim: int, dtype: str) -> None:
        kind: dict[str, Any] = {"dtype": getattr(torch, dtype), "device": context().device}
        self._loss = loss
        self._features = [
            torch.nn.functional.normalize(torch.randn(batch, dim, **kind), dim=-1).requires_grad_() for _ in range(2)
        ]
        self._scalars = [torch.tensor(value, **kind).requires_grad_() for value in (10.0, -10.0)]
        self._value: Tensor | None = None

    def forward(self) -> None:
        self._value = self._loss(*self._features, *self._scalars)

    def backward(self) -> None:
        assert self._value is not None, "forward comes first"
        self._value.backward()  # type: ignore[no-untyped-call]
        self._value = None

    def both(self) -> None:
        self.forward()
        self.backward()


def _communication(pattern: Pattern, num_bytes: int, offset: int, dtype: torch.dtype) -> Callable[[], object]:
    ranks = Ranks(context().rank, context().world_size, None)
    numel = max(1, num_bytes // dtype.itemsize)
    mine = torch.zeros(-(-numel // ranks.world_size) * ranks.world_size, dtype=dtype, device=context().device)
    match pattern:
        case "hop":
            return lambda: hop([mine], [rightward(ranks, offset)], ranks)
        case "double hop":
            return lambda: hop([mine, mine], [rightward(ranks), leftward(ranks)], ranks)
        case "all_gather":
            return functools.partial(_all_gather, mine.new_empty(ranks.world_size * mine.numel()), mine)
        case "all_reduce":
            return functools.partial(dist.all_reduce, mine)


def _repeated(job: Callable[[], object]) -> Callable[[], object]:
    def several() -> None:
        for _ in range(_IN_A_ROW):
            job()

    return several


def _by_turns(jobs: Sequence[Sequence[Callable[[], object]]], turns: int, share: int = 1) -> list[list[float]]:
    """Time each job's parts once a turn, all ranks beginning together; return the seconds of each part.

    Jobs come in another order every turn, on all ranks the same: what one leaves behind, such as ranks that wait, would
    else always be the next one's. The turns of warming up are left out.
    """
    taken: list[list[list[float]]] = [[[] for _ in parts] for parts in jobs]
    order = list(zip(jobs, taken, strict=True))
    draw = random.Random(0)
    for _ in range(_WARM_UP + turns):
        draw.shuffle(order)
        for part, seconds in (each for parts, of_parts in order for each in zip(parts, of_parts, strict=True)):
            dist.barrier()
            _settle()
            started_s = time.perf_counter()
            part()
            _settle()
            seconds.append((time.perf_counter() - started_s) / share)
    return [seconds[_WARM_UP:] for of_parts in taken for seconds in of_parts]


def _settle() -> None:
    """Wait for what runs on the device."""
    if context().device.startswith("cuda"):
        torch.cuda.synchronize()
