"""What is said of the sigmoid loss beside the softmax loss: pairs are independent, and less is held.

Measured and counted on real ranks, on both losses alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from siglip_verify.claims import jobs
from siglip_verify.claims.jobs import LossName
from siglip_verify.claims.result import Figure, Finding
from siglip_verify.claims.statement import DOCS, PAPER, Lab, Statement

# ------------------------------------------------------------------ pairs
SOFTMAX: tuple[LossName, ...] = ("softmax local", "softmax global")
PAIR_WORLD_SIZES = (1, 2, 3)
_PAIR_LOSSES: tuple[LossName, ...] = ("sigmoid", "sigmoid gather", "softmax local", "softmax global")
ROWS = 6  # rows on all ranks together: two, three or six a rank


class Felt(NamedTuple):
    """What happened to the gradients of all other pairs when one pair's logit changed.

    Attributes:
        loss: Which loss.
        world_size: W.
        farthest: The largest change of any of them, over every pair that was changed, relative to the largest gradient.
        own: The least change of the gradient of the pair itself, likewise.
    """

    loss: LossName
    world_size: int
    farthest: float
    own: float


def measure_pairs(lab: Lab) -> list[Felt]:
    """Change every logit of an N x N matrix in turn, and look at the gradients of all others."""
    return [_felt(lab, loss, size) for loss in _PAIR_LOSSES for size in PAIR_WORLD_SIZES]


def _felt(lab: Lab, loss: LossName, world_size: int) -> Felt:
    logits = np.random.default_rng(0).normal(size=(ROWS, ROWS))
    before = _pair_gradients(lab, loss, world_size, logits)
    farthest, own = 0.0, np.inf
    for pair in np.ndindex(ROWS, ROWS):
        changed = logits.copy()
        changed[pair] += 1.0
        moved = np.abs(_pair_gradients(lab, loss, world_size, changed) - before) / np.abs(before).max()
        own = min(own, float(moved[pair]))
        moved[pair] = 0.0
        farthest = max(farthest, float(moved.max()))
    return Felt(loss, world_size, farthest, own)


def _pair_gradients(lab: Lab, loss: LossName, world_size: int, logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate(lab.worlds.run(world_size, jobs.pair_gradients, loss, logits))


def judge_pairs(felt: Sequence[Felt]) -> Finding:
    """Answer from changes of gradients: none at all for the sigmoid loss, some for the softmax loss."""
    figures = tuple(
        Figure(f"{each.loss}, W = {each.world_size}: change of another pair's gradient", each.farthest, "", "measured")
        for each in felt
    )
    sigmoid = [each.farthest for each in felt if each.loss not in SOFTMAX]
    softmax = [each.farthest for each in felt if each.loss in SOFTMAX]
    said = (
        f"when one logit changes by 1, every other pair's gradient changes by at most {max(sigmoid):.2g} of the "
        f"largest with the sigmoid loss, and some by at least {min(softmax):.2g} with the softmax loss"
    )
    if not all(each.own > 0 for each in felt):
        return Finding(
            answer="not checkable here", because="a pair's own gradient did not feel its logit", figures=figures
        )
    if max(sigmoid) > 0:
        return Finding(answer="does not hold", because=said, figures=figures)
    if min(softmax) == 0:
        return Finding(answer="holds with a condition", because=f"{said}: no difference", figures=figures)
    return Finding(answer="holds", because=said, figures=figures)


# ------------------------------------------------------------------ memory
MEMORY_WORLD_SIZES = (1, 2, 4)
_BATCH, _DIM = 256, 32
_MEMORY_LOSSES: tuple[LossName, ...] = (
    "softmax local",
    "softmax global",
    "sigmoid",
    "sigmoid gather",
    "sigmoid chunked",
    "sigmoid constant",
)


class Holding(NamedTuple):
    """The most that a rank's loss holds at once beside its inputs, bytes; of the rank that holds most."""

    loss: LossName
    world_size: int
    peak_bytes: int


def measure_memory(lab: Lab) -> list[Holding]:
    """Count what each loss holds in one step."""
    return [
        Holding(loss, size, max(of.peak for of in lab.worlds.run(size, jobs.memory, loss, _BATCH, _DIM)))
        for size in MEMORY_WORLD_SIZES
        for loss in _MEMORY_LOSSES
    ]


def judge_memory(held: Sequence[Holding]) -> Finding:
    """Answer from bytes: every form of the sigmoid loss below every form of the softmax loss, at every W."""
    figures = tuple(
        Figure(f"{each.loss}, W = {each.world_size}: most held by a rank", each.peak_bytes, "bytes", "counted")
        for each in held
    )
    sizes = sorted({each.world_size for each in held})
    by: dict[tuple[LossName, int], int] = {(each.loss, each.world_size): each.peak_bytes for each in held}
    losses: list[LossName] = list(dict.fromkeys(each.loss for each in held))
    softmax: list[LossName] = [loss for loss in losses if loss in SOFTMAX]
    sigmoid: list[LossName] = [loss for loss in losses if loss not in SOFTMAX]
    below: dict[LossName, list[bool]] = {
        loss: [by[loss, size] < by[other, size] for other in softmax for size in sizes] for loss in sigmoid
    }
    always = [loss for loss in sigmoid if all(below[loss])]
    said = _compared(by, sizes[-1])
    if always == sigmoid:
        return Finding(answer="holds", because=said, figures=figures)
    if not any(any(each) for each in below.values()):
        return Finding(answer="does not hold", because=said, figures=figures)
    return Finding(
        answer="holds with a condition",
        because=f"always for {', '.join(always) or 'none of its forms'}, else where that is so: {said}",
        figures=figures,
    )


def _compared(by: dict[tuple[LossName, int], int], size: int) -> str:
    """Say what each loss holds at one W, as a share of what the local softmax holds."""

    def shares() -> Iterator[str]:
        for (loss, world_size), held in by.items():
            if world_size == size:
                yield f"{loss} {held / by['softmax local', size]:.2f}"

    return f"at W = {size} a rank holds, as a share of what the local softmax loss does, {', '.join(shares())}"


STATEMENTS = (
    Statement(
        id="pairs-independent",
        says="There is no softmax over the batch: each pair is independent of every other.",
        source=f"{DOCS}; {PAPER}, section 3.2",
        how=(
            "Texts are unit vectors, so that an image's numbers are logits. Each of 36 logits is changed by 1 in turn, "
            "at W = 1, 2, 3 on gloo, float64. Holds if no other pair's gradient changes at all, and some do with the "
            "softmax."
        ),
        measure=measure_pairs,
        judge=judge_pairs,
    ),
    Statement(
        id="memory-below-softmax",
        says="The sigmoid loss takes less memory than the softmax loss.",
        source=f"{DOCS}; {PAPER}, section 3.3",
        how=(
            f"Bytes that a step holds at most beside its inputs, b = {_BATCH}, d = {_DIM}, float32, W = 1, 2, 4 on "
            "gloo; the softmax loss gathers with gradient and leaves cross_entropy of its own rows (local) or of all "
            "N x N (global) to autograd. Holds if every form of the sigmoid loss holds less than either, at every W."
        ),
        measure=measure_memory,
        judge=judge_memory,
    ),
)
