"""The finished result of a simulation: one object, from which console, files, charts and timeline are rendered.

Here: frozen records that survive JSON. Every time and byte in them is modelled. Not here: any computation but sums and
comparisons of what they hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Literal

import msgspec

from siglip_verify.case import DType, Exchange
from siglip_verify.errors import UsageError
from siglip_verify.plan import Memory
from siglip_verify.simulate.cluster import Cluster
from siglip_verify.simulate.collectives import Algorithm
from siglip_verify.simulate.compute import MemoryMode
from siglip_verify.simulate.memory import MemoryCost

SIMULATION_SCHEMA_VERSION = 1


class Form(msgspec.Struct, frozen=True, order=True):
    """An exchange, what it keeps in memory, and whether hops leave before blocks are looked at: what one chooses."""

    exchange: Exchange
    memory: MemoryMode
    overlap: bool = False

    def __str__(self) -> str:
        said = [self.exchange, self.memory * (self.memory != "autograd"), "overlap" * self.overlap]
        return " ".join(filter(None, said))

    @property
    def kept(self) -> Memory:
        """What the loss is asked to keep, and the plan knows: a chunk_size changes no message."""
        return "autograd" if self.memory == "chunked" else self.memory


class PhaseCost(msgspec.Struct, frozen=True, kw_only=True):
    """One phase of a step.

    Attributes:
        seconds: From its begin, at once on all ranks, to its end on the last.
        compute_s: What computing takes.
        communication_s: What communication would take if computing took no time.
        how: "closed form" or "events".
    """

    seconds: float
    compute_s: float
    communication_s: float
    how: Literal["closed form", "events"]

    @property
    def exposed_s(self) -> float:
        """Communication that no computing hides."""
        return self.seconds - self.compute_s


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """One step of one form at one world size, a rank.

    Attributes:
        form: Exchange, memory and overlap.
        world_size: W.
        forward, backward: The phases.
        sends: Messages from the plan.
        collectives: Calls from the plan.
        payload_bytes: Handed over, from the plan.
        sent_bytes: Sent by a rank, what collectives send by their algorithm included.
        host_bytes: Sent by a host to others.
        algorithms: How each collective is done.
        memory: What a rank holds.
        fits: Whether that, alone, fits its device.
    """

    form: Form
    world_size: int
    forward: PhaseCost
    backward: PhaseCost
    sends: int
    collectives: int
    payload_bytes: int
    sent_bytes: float
    host_bytes: float
    algorithms: dict[str, str]
    memory: MemoryCost
    fits: bool

    @property
    def step_s(self) -> float:
        """Forward and backward."""
        return self.forward.seconds + self.backward.seconds

    @property
    def compute_s(self) -> float:
        """Computing in both phases."""
        return self.forward.compute_s + self.backward.compute_s

    @property
    def communication_s(self) -> float:
        """Communication in both phases, if computing took no time."""
        return self.forward.communication_s + self.backward.communication_s

    @property
    def exposed_s(self) -> float:
        """Communication that no computing hides, in both phases."""
        return self.step_s - self.compute_s


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The fastest form that fits, at some world sizes in a row.

    Attributes:
        form: The form; None where none fits.
        world_sizes: Where.
        lead: By how much the next best that fits takes longer, at least and at most: 0.1 is 10 %. None where no other
            fits.
    """

    form: Form | None
    world_sizes: tuple[int, ...]
    lead: tuple[float, float] | None


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What is simulated, but for forms and world sizes.

    Attributes:
        cluster: Where.
        batch, dim: b rows a rank, d.
        dtype: Of the features.
        chunk_size: Rows of logits held at once where memory is not autograd; 0 is what fits a cache.
        collective: How collectives are done; None is the fastest for each.
    """

    cluster: Cluster
    batch: int
    dim: int
    dtype: DType = "bfloat16"
    chunk_size: int = 0
    collective: Algorithm | None = None

    def __post_init__(self) -> None:
        for name, value, least in (("batch", self.batch, 1), ("dim", self.dim, 1), ("chunk_size", self.chunk_size, 0)):
            if value < least:
                raise UsageError(f"{name} must be a whole number from {least} on; got {name}={value}")


class Simulation(msgspec.Struct, frozen=True, kw_only=True):
    """The finished result.

    Attributes:
        schema_version: Of this record.
        basis: Of all its numbers but `took_s`.
        setup: What was simulated.
        world_sizes: Which W, ascending.
        proved: Whether every schedule was proved at these W: each block seen once, each gradient home, nobody waits.
        costs: One for each form and W.
        took_s: Seconds that simulating took, by W; measured.
        notes: What stands out in the setup.
    """

    schema_version: int = SIMULATION_SCHEMA_VERSION
    basis: Literal["modelled"] = "modelled"
    setup: Setup
    world_sizes: tuple[int, ...]
    proved: bool
    costs: tuple[Cost, ...]
    took_s: dict[int, float]
    notes: tuple[str, ...] = ()

    @property
    def forms(self) -> tuple[Form, ...]:
        """The forms, in order."""
        return tuple(dict.fromkeys(cost.form for cost in self.costs))

    def at(self, world_size: int) -> tuple[Cost, ...]:
        """Return the costs at one world size."""
        return tuple(cost for cost in self.costs if cost.world_size == world_size)

    def cost(self, form: Form, world_size: int) -> Cost:
        """Return one cost.

        Raises:
            LookupError: It was not simulated.
        """
        for cost in self.at(world_size):
            if cost.form == form:
                return cost
        raise LookupError(
            f"simulated are {', '.join(map(str, self.forms))} at W = {', '.join(map(str, self.world_sizes))}; "
            f"got {form} at W = {world_size}"
        )

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The fastest form that fits, at each W, equal ones in a row together."""
        ranked = [(world_size, fastest(self.at(world_size))) for world_size in self.world_sizes]
        grouped = groupby(ranked, key=lambda each: each[1][0].form if each[1] else None)
        return tuple(_choice(form, list(same)) for form, same in grouped)


def fastest(costs: Iterable[Cost]) -> list[Cost]:
    """Sort the costs that fit, the fastest first."""
    return sorted((cost for cost in costs if cost.fits), key=lambda cost: cost.step_s)


def _choice(form: Form | None, ranked: Sequence[tuple[int, list[Cost]]]) -> Choice:
    leads = [costs[1].step_s / costs[0].step_s - 1 for _, costs in ranked if len(costs) > 1]
    return Choice(
        form=form,
        world_sizes=tuple(world_size for world_size, _ in ranked),
        lead=(min(leads), max(leads)) if leads else None,
    )
