"""The few numbers of a cluster, fitted to what was measured on it.

Here: least squares from samples to latency, bandwidth, call and block time. Not here: measuring (`run.calibration`).

Each sample is a sum of the numbers that are sought, known multiples of each: a hop of n bytes takes call + latency +
n / bandwidth, a second message in it one posting and n bytes more, a ring of W ranks a call of its own and (W-1)
latencies and messages. They are fitted so that the relative errors are least, since a wrong microsecond matters in a
small message alone; none can be negative.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from siglip_verify.case import DType
from siglip_verify.simulate.cluster import Compute, Link
from siglip_verify.simulate.compute import block_work

Pattern = Literal["hop", "double hop", "all_gather", "all_reduce"]

_LEAST = 1e-12  # seconds a byte, or an operation: what was too fast to be seen


class LinkSample(msgspec.Struct, frozen=True, kw_only=True):
    """How long some communication took, of which every rank did the same.

    Attributes:
        pattern: What: a hop passes n bytes to the right, a double hop to both sides, collectives hand n bytes over.
        world_size: W.
        num_bytes: n.
        offset: How many places a hop goes.
        seconds: Until the last rank was through: the median over turns.
    """

    pattern: Pattern
    world_size: int
    num_bytes: int
    offset: int = 1
    seconds: float


class BlockSample(msgspec.Struct, frozen=True, kw_only=True):
    """How long forward and backward of one block took, on all ranks at once: medians over turns of the slowest."""

    batch: int
    dim: int
    forward_s: float
    backward_s: float


class LinkFit(msgspec.Struct, frozen=True, kw_only=True):
    """What was fitted to link samples.

    Attributes:
        call_us: Microseconds that a hop takes before anything is sent.
        message_us: Microseconds that each further message of a hop adds to that.
        collective_call_us: Microseconds that a collective takes before anything is sent.
        link: Latency and bandwidth.
        error: How far the samples lie from the fit: the mean relative error.
    """

    call_us: float
    message_us: float
    collective_call_us: float
    link: Link
    error: float


def fit_link(samples: Sequence[LinkSample]) -> LinkFit:
    """Fit calls, latency and bandwidth to samples of ranks that are all alike."""
    found = _fit([_multiples(sample) for sample in samples], [each.seconds for each in samples])
    predicted = [float(np.dot(_multiples(each), found)) for each in samples]
    call_s, message_s, collective_call_s, latency_s, byte_s = found
    return LinkFit(
        call_us=call_s * 1e6,
        message_us=message_s * 1e6,
        collective_call_us=collective_call_s * 1e6,
        link=Link(latency_us=latency_s * 1e6, gbytes_per_s=1e-9 / max(byte_s, _LEAST)),
        error=_mean_error(predicted, [each.seconds for each in samples]),
    )


def fit_uplink(samples: Sequence[LinkSample], call_us: float, ranks_per_host: int) -> tuple[Link, int, float]:
    """Fit the link between hosts to hops that cross them, and how many of it a host has.

    In a hop by one place one message leaves each host; in a hop by as many places as a host has ranks, all do.

    Returns:
        The link, how many there are, and the mean relative error.
    """
    alone = [each for each in samples if each.offset == 1]
    rows = [(1.0, float(each.num_bytes)) for each in alone]
    measured = [max(each.seconds - call_us * 1e-6, _LEAST) for each in alone]
    latency_s, byte_s = _fit(rows, measured)
    predicted = [latency_s + n * byte_s for _, n in rows]
    largest = max((each.num_bytes for each in samples), default=0)
    crowded = {each.offset: each.seconds for each in samples if each.num_bytes == largest}
    times_slower = max(1.0, crowded[ranks_per_host] / crowded[1])
    divisors = [n for n in range(1, ranks_per_host + 1) if ranks_per_host % n == 0]
    per_host = min(divisors, key=lambda n: abs(np.log(ranks_per_host / n / times_slower)))
    link = Link(latency_us=latency_s * 1e6, gbytes_per_s=1e-9 / max(byte_s, _LEAST))
    return link, per_host, _mean_error(predicted, measured)


def fit_compute(samples: Sequence[BlockSample], dtype: DType) -> tuple[Compute, float]:
    """Fit the time of an operation to the smallest block, products and passes over logits to the larger ones.

    Returns:
        The fit, and the mean relative error over all of them.
    """
    works = [block_work("autograd", each.batch, each.dim, dtype) for each in samples]
    seconds = [(each.forward_s, each.backward_s) for each in samples]
    flat = [
        (work, taken) for both, of in zip(works, seconds, strict=True) for work, taken in zip(both, of, strict=True)
    ]
    smallest = min(work.flops for work, _ in flat)
    operation_s = statistics.mean(taken / work.operations for work, taken in flat if work.flops <= 2 * smallest)
    large = [(work, taken) for work, taken in flat if taken > 1.5 * work.operations * operation_s]
    flop_s, byte_s = _fit([(work.flops, work.logit_bytes) for work, _ in large], [taken for _, taken in large])
    predicted = [
        max(work.flops * flop_s + work.logit_bytes * byte_s, work.operations * operation_s) for work, _ in flat
    ]
    compute = Compute(
        tflops_per_s={dtype: 1e-12 / max(flop_s, 1e-18)},
        memory_gbytes_per_s=1e-9 / max(byte_s, 1e-18),
        operation_us=operation_s * 1e6,
    )
    return compute, _mean_error(predicted, [taken for _, taken in flat])


# ------------------------------------------------------------------ the multiples
_Row = tuple[float, float, float, float, float]

_MULTIPLES: Mapping[Pattern, Callable[[int, int], _Row]] = {
    "hop": lambda w, n: (1, 0, 0, 1, n),
    "double hop": lambda w, n: (1, 1, 0, 1, 2 * n),
    "all_gather": lambda w, n: (0, 0, 1, w - 1, (w - 1) * n),
    "all_reduce": lambda w, n: (0, 0, 1, 2 * (w - 1), 2 * (w - 1) * n / w),
}


def _multiples(sample: LinkSample) -> _Row:
    """Return how many calls, further messages, calls of collectives, latencies and bytes follow one another.

    Collectives are rings, see `collectives`.
    """
    return _MULTIPLES[sample.pattern](sample.world_size, sample.num_bytes)


def _fit(rows: Sequence[Sequence[float]], measured: Sequence[float]) -> tuple[float, ...]:
    """Find numbers >= 0 by which the multiples give what was measured, with the least relative errors.

    A few numbers: every choice of those that are not zero is tried.
    """
    weighted: NDArray[np.float64] = np.array(rows, dtype=np.float64) / np.array(measured)[:, None]
    goal = np.ones(len(measured))
    width = weighted.shape[1]
    best, least = np.zeros(width), float(np.sum(goal**2))
    for chosen in _subsets(range(width)):
        found = np.zeros(width)
        found[list(chosen)] = np.linalg.lstsq(weighted[:, chosen], goal, rcond=None)[0]
        error = float(np.sum((weighted @ found - goal) ** 2))
        if np.all(found >= 0) and error < least:
            best, least = found, error
    return tuple(float(number) for number in best)


def _subsets(items: Iterable[int]) -> Iterable[list[int]]:
    every = list(items)
    return (list(some) for size in range(1, len(every) + 1) for some in itertools.combinations(every, size))


def _mean_error(predicted: Sequence[float], measured: Sequence[float]) -> float:
    return statistics.mean(abs(p / m - 1) for p, m in zip(predicted, measured, strict=True))
