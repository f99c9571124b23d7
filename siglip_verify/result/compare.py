"""What the exchanges cost beside each other: measured on the ranks of the run, and modelled for a cluster."""

from __future__ import annotations

import statistics

import msgspec

from siglip_verify.case import Exchange


class StepCost(msgspec.Struct, frozen=True, kw_only=True):
    """What one step of one exchange took and kept on the ranks of the run: gloo on loopback, never a cluster's.

    Attributes:
        exchange: The exchange.
        world_size: W.
        batch, dim, dtype: The step.
        seconds: Forward + backward until the last rank was through, measured, once a turn; the exchanges took turns.
        kept_bytes: What a rank keeps of forward for its backward beside its inputs, counted (maximum over ranks).
    """

    exchange: Exchange
    world_size: int
    batch: int
    dim: int
    dtype: str
    seconds: tuple[float, ...]
    kept_bytes: int

    @property
    def median_s(self) -> float:
        """The turn in the middle."""
        return statistics.median(self.seconds)


class ModelledStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of one form at one world size, a rank, on a cluster; all of it modelled.

    Attributes:
        form: The exchange, and what it keeps in memory where that is not what autograd keeps.
        world_size: W.
        calls: Sends and collectives.
        sent_bytes: Sent by a rank, what collectives send by their algorithm included.
        held_bytes: The most that a rank holds at once beside its inputs.
        step_s: Forward + backward until the last rank is through.
        fits: Whether what it holds fits its device.
    """

    form: str
    world_size: int
    calls: int
    sent_bytes: float
    held_bytes: int
    step_s: float
    fits: bool


class HeldAgainst(msgspec.Struct, frozen=True, kw_only=True):
    """Steps whose messages were counted, and in which the simulation says something else.

    Attributes:
        world_sizes: At which W.
        steps: How many, counted.
        differing: Those in which messages, collectives or bytes differ at all, in words.
    """

    world_sizes: tuple[int, ...]
    steps: int
    differing: tuple[str, ...]


class StepError(msgspec.Struct, frozen=True, kw_only=True):
    """How far the calibrated simulator was from one measured step: 0.1 is 10 % too long."""

    form: str
    world_size: int
    error: float


class SimulatorValidation(msgspec.Struct, frozen=True, kw_only=True):
    """What the simulator was held against.

    Attributes:
        recorded: The counted steps of our loss in this run; None where there was none.
        one_of_many: The loss run as one rank of many on torch's fake back end, operation by operation against the plan;
            None where that was not done.
        errors: From a calibration that was at hand, by form and W; empty where none was.
    """

    recorded: HeldAgainst | None = None
    one_of_many: HeldAgainst | None = None
    errors: tuple[StepError, ...] = ()


class Modelled(msgspec.Struct, frozen=True, kw_only=True):
    """The exchanges on a cluster, from the plan that real runs are checked against.

    Attributes:
        cluster: Its name, and what it is.
        batch, dim, dtype: The step.
        steps: By form and W.
        fastest: Which form is the fastest that fits, in words.
        validation: What the simulator was held against; None before the run is over.
    """

    cluster: str
    batch: int
    dim: int
    dtype: str
    steps: tuple[ModelledStep, ...]
    fastest: str
    validation: SimulatorValidation | None = None
