"""What is said of the parts of the loss: a local block with positives on its diagonal, and remote blocks without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from siglip_verify import features, oracle
from siglip_verify.case import EXCHANGES, Case, Exchange
from siglip_verify.checks.coverage import coverage, probe_cases
from siglip_verify.claims.result import Figure, Finding
from siglip_verify.claims.statement import DOCS, Lab, Statement

WORLD_SIZES = range(1, 6)
_AT_MOST = 1e-13


class Parts(NamedTuple):
    """One exchange at one W.

    Attributes:
        exchange, world_size: Where.
        apart: How far any rank's loss lies from the sum of its blocks, relative.
        whole_apart: How far the mean over ranks lies from the loss of the whole N x N on one device, relative.
        is_covered: Whether every block is counted once and positives are those of the local block, as gradients tell.
    """

    exchange: Exchange
    world_size: int
    apart: float
    whole_apart: float
    is_covered: bool


def measure(lab: Lab) -> list[Parts]:
    """Run our loss on real ranks, add up its blocks by hand, and probe which it counts."""
    return [_parts(lab, exchange, size) for exchange in EXCHANGES for size in WORLD_SIZES]


def _parts(lab: Lab, exchange: Exchange, world_size: int) -> Parts:
    case = Case(exchange=exchange, world_size=world_size, batch=4, dim=8, dtype="float64", seed=1)
    inputs = features.draw(case)
    images, texts = ([each.numpy() for each in rows] for rows in (inputs.images, inputs.texts))
    losses = np.array([record.loss for record in lab.records(case)])
    sums = np.array([sum_of_blocks(images[rank], texts, rank, case.scale, case.bias) for rank in range(world_size)])
    whole = oracle.reference(inputs.images, inputs.texts, case.scale, case.bias).loss.value.item()
    probes = probe_cases(case)
    records = [lab.records(probe) for probe in probes]
    seen = coverage(probes[0], records[0], records[1], [probes[0].batch] * world_size)
    return Parts(
        exchange,
        world_size,
        float(np.abs(losses / sums - 1).max()),
        abs(float(losses.mean()) / whole - 1),
        seen.is_right,
    )


def sum_of_blocks(
    image: NDArray[np.float64], texts: Sequence[NDArray[np.float64]], rank: int, scale: float, bias: float
) -> float:
    """Return (1/b) of the local block, positives on its diagonal, plus each remote block, all negatives."""
    total = 0.0
    for src, text in enumerate(texts):
        z = scale * image @ text.T + bias
        y = 2 * np.eye(len(z)) - 1 if src == rank else -np.ones_like(z)
        total += np.logaddexp(0, -y * z).sum()
    return total / len(image)


def judge(measured: Sequence[Parts]) -> Finding:
    """Answer from distances and coverage."""
    figures = tuple(
        Figure(f"{each.exchange}, W = {each.world_size}: {what}", value, "", "measured")
        for each in measured
        for what, value in (("from the sum of blocks", each.apart), ("from the whole N x N", each.whole_apart))
    )
    farthest = max(max(each.apart, each.whole_apart) for each in measured)
    wrong = [each for each in measured if not (each.apart <= _AT_MOST and each.whole_apart <= _AT_MOST)]
    uncovered = [each for each in measured if not each.is_covered]
    if not wrong and not uncovered:
        because = (
            f"every rank's loss lies within {farthest:.1e} of the sum of its blocks, and the mean over ranks within "
            "that of the whole matrix on one device; gradients tell that each block is counted once, positives in the "
            "local one alone"
        )
        return Finding(answer="holds", because=because, figures=figures)
    named = dict.fromkeys(f"{each.exchange} at W = {each.world_size}" for each in (*wrong, *uncovered))
    return Finding(
        answer="does not hold", because=f"differs by up to {farthest:.1e}: {', '.join(named)}", figures=figures
    )


STATEMENTS = (
    Statement(
        id="local-and-remote-blocks",
        says="The loss is the local block, with positives on its diagonal, plus remote blocks of negatives alone.",
        source=f"{DOCS}; arXiv:2303.15343, section 3.3",
        how=(
            "A step of each exchange at W = 1..5 on gloo, float64, beside sums over blocks in numpy and the oracle's "
            f"whole matrix; and two probing steps each. Holds if all lie within {_AT_MOST:g} and each block is counted "
            "once."
        ),
        measure=measure,
        judge=judge,
    ),
)
