"""The finished result of a calibration: what was measured, what was fitted, and how far the model can be trusted.

Here: frozen records that survive JSON, and the judgement of the model's order. Not here: measuring (`run.calibration`),
the fit itself (`fit`).
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from siglip_verify.case import DType
from siglip_verify.simulate.cluster import Cluster
from siglip_verify.simulate.fit import BlockSample, LinkSample
from siglip_verify.simulate.result import Form

CALIBRATION_SCHEMA_VERSION = 1


class StepTime(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a form, measured and simulated.

    Attributes:
        form: Exchange and memory.
        world_size: W.
        seconds: Until the last rank was through, by turn; measured.
        simulated_s: What the model says with the numbers that were fitted at this W.
    """

    form: Form
    world_size: int
    seconds: tuple[float, ...]
    simulated_s: float

    @property
    def median_s(self) -> float:
        """The median, measured."""
        return statistics.median(self.seconds)

    @property
    def noise_s(self) -> float:
        """How far the median of as many turns may be off: 1.57 quartile ranges over their root (McGill et al. 1978)."""
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return 1.57 * (high - low) / math.sqrt(len(self.seconds))

    @property
    def error(self) -> float:
        """How far the model is off: 0.1 is 10 % too long."""
        return self.simulated_s / self.median_s - 1


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two forms whose medians differ beyond noise, the faster first, and whether the model says so too."""

    world_size: int
    faster: Form
    slower: Form
    times: float
    is_so_simulated: bool


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """Whether what one form sends is what is simulated, message for message.

    Attributes:
        form: Exchange and memory.
        world_size: W.
        ranks: How many ranks were looked at: all of a real world, one on torch's fake back end.
        operations: How many they posted, counted.
        payload_bytes: What they handed over, counted.
        where: On "real ranks", or on the "fake back end".
        is_equal: Whether the simulation says the same, exactly.
    """

    form: Form
    world_size: int
    ranks: int
    operations: int
    payload_bytes: int
    where: Literal["real ranks", "fake back end"]
    is_equal: bool


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster as it was fitted at one world size.

    Attributes:
        world_size: W at which it was measured.
        cluster: What was fitted.
        links, blocks: On what.
        link_error, uplink_error, block_error: Mean relative errors of the fit; None where nothing was fitted.
    """

    world_size: int
    cluster: Cluster
    links: tuple[LinkSample, ...]
    blocks: tuple[BlockSample, ...]
    link_error: float
    block_error: float
    uplink_error: float | None = None


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """The finished result.

    Attributes:
        schema_version: Of this record.
        batch, dim, dtype: The step that was measured and simulated.
        turns: How often.
        fits: One for each W, ascending; the last one is the cluster file.
        steps: Steps measured and simulated.
        counted: What is sent, against what is simulated.
        notes: What was left out, and why.
        environment: Versions and machine, in words.
        elapsed_s: Seconds, measured.
    """

    schema_version: int = CALIBRATION_SCHEMA_VERSION
    batch: int
    dim: int
    dtype: DType
    turns: int
    fits: tuple[Fit, ...]
    steps: tuple[StepTime, ...] = ()
    counted: tuple[Counted, ...] = ()
    notes: tuple[str, ...] = ()
    environment: dict[str, str]
    elapsed_s: float

    @property
    def cluster(self) -> Cluster:
        """The cluster as fitted at the largest W."""
        return self.fits[-1].cluster

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Every two forms of one W whose medians differ beyond noise."""
        return tuple(
            pair for size in self.world_sizes for pair in _pairs([s for s in self.steps if s.world_size == size])
        )

    @property
    def world_sizes(self) -> tuple[int, ...]:
        """Where it was measured."""
        return tuple(fit.world_size for fit in self.fits)

    @property
    def counts_are_equal(self) -> bool:
        """Whether everything that was sent is what is simulated."""
        return all(each.is_equal for each in self.counted)

    @property
    def is_ordered_as_measured(self) -> bool:
        """Whether the model ranks every two forms as they were measured, where their medians differ beyond noise."""
        return all(pair.is_so_simulated for pair in self.pairs)


def _pairs(steps: Sequence[StepTime]) -> Iterator[Pair]:
    ranked = sorted(steps, key=lambda step: step.median_s)
    for faster, slower in itertools.combinations(ranked, 2):
        if slower.median_s - slower.noise_s > faster.median_s + faster.noise_s:
            yield Pair(
                world_size=faster.world_size,
                faster=faster.form,
                slower=slower.form,
                times=slower.median_s / faster.median_s,
                is_so_simulated=faster.simulated_s < slower.simulated_s,
            )
