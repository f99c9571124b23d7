"""What recording costs: a step with the recorder on against the same step without, and torch's CommDebugMode beside it.

All three run in turn in the same ranks of a warm world. A step lasts from the moment when the first rank begins until
the last one ends. CommDebugMode is a mode over every operation of torch and knows no send or receive, so that it counts
nothing of bidir and shift.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from siglip_verify import features
from siglip_verify.bench.measure import Comparison, Requirement, compare, in_turn
from siglip_verify.case import EXCHANGES, Case
from siglip_verify.loss import SigLipLoss
from siglip_verify.observe import Recorder
from siglip_verify.world import Worlds, context

AT_MOST = 1.5
WORLD_SIZE, BATCH, DIM = 4, 8, 64
WARM_UP_TURNS = 3
_TIMEOUT_S = 600.0

Span = tuple[float, float]
Spans = dict[str, list[Span]]
Counts = dict[str, int]


def recording(turns: int) -> Iterator[Comparison]:
    """Measure each exchange's step at W = 4, b = 8, d = 64, float32.

    Args:
        turns: Steps of each contestant.
    """
    with Worlds(timeout_s=_TIMEOUT_S) as worlds:
        for exchange in EXCHANGES:
            case = Case(exchange=exchange, world_size=WORLD_SIZE, batch=BATCH, dim=DIM, dtype="float32", seed=1)
            replies: list[tuple[Spans, Counts]] = worlds.run(WORLD_SIZE, steps_in_turn, case, turns)
            counts = replies[0][1]
            yield compare(
                f"recording/{exchange}",
                f"one step of {exchange}, W = {WORLD_SIZE}, b = {BATCH}, d = {DIM}, float32",
                {name: _lasted([spans[name] for spans, _ in replies]) for name in replies[0][0]},
                each="step",
                ratios={("recorded", "unrecorded"): Requirement(bound="at most", ratio=AT_MOST)},
                notes={name: f"sees {counts[name]} operations on rank 0" for name in ("recorded", "CommDebugMode")},
            )


def _lasted(ranks: list[list[Span]]) -> list[float]:
    """Return for each turn the seconds from the first rank's start to the last rank's end; one clock for all."""
    return [max(end for _, end in spans) - min(start for start, _ in spans) for spans in zip(*ranks, strict=True)]


def steps_in_turn(case: Case, turns: int) -> tuple[Spans, Counts]:
    """Run steps of each contestant in turn in this rank; return when each began and ended, and how much was seen."""
    work, counts = _Step(case), Counts()

    def timed(name: str, run: Callable[[], int]) -> Callable[[], Span]:
        def once() -> Span:
            dist.barrier()
            start_s = time.monotonic()
            counts[name] = run()
            return start_s, time.monotonic()

        return once

    runs = {"unrecorded": work.plain, "recorded": work.recorded, "CommDebugMode": work.debugged}
    spans = in_turn({name: timed(name, run) for name, run in runs.items()}, WARM_UP_TURNS + turns)
    return {name: measured[WARM_UP_TURNS:] for name, measured in spans.items()}, counts


class _Step:
    """One forward and one backward of this rank's part of a case, watched or not; returns how much was seen."""

    def __init__(self, case: Case) -> None:
        rank, inputs = context().rank, features.draw(case)
        self._loss = SigLipLoss(rank=rank, world_size=case.world_size, dist_impl=case.exchange)
        leaves = (inputs.images[rank], inputs.texts[rank], inputs.scale, inputs.bias)
        self._leaves: list[Tensor] = [leaf.clone().requires_grad_() for leaf in leaves]
        self._seen: Tensor | None = None

    def plain(self) -> int:
        self._backward(self._forward())
        return 0

    def recorded(self) -> int:
        with Recorder(context().log) as recorder:
            with recorder.phase("forward"):
                value = self._forward()
            with recorder.phase("backward"):
                self._backward(value)
        return recorder.num_posted

    def debugged(self) -> int:
        from torch.distributed.tensor.debug import CommDebugMode  # half a second to import, and only ranks need it

        with CommDebugMode() as mode:
            self._backward(self._forward())
        return mode.get_total_counts()

    def _forward(self) -> Tensor:
        for leaf in self._leaves:
            leaf.grad = None
        return self._loss(*self._leaves)

    def _backward(self, value: Tensor) -> None:
        torch.autograd.backward(value)
        grad = self._leaves[1].grad
        assert grad is not None
        self._seen = grad if self._seen is None else self._seen
        assert torch.equal(grad, self._seen), "watching a step must not change what it computes"
