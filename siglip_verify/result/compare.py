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


class Modelled(msgspec.Struct, frozen=True, kw_only=True):
    """The exchanges on a cluster, from the plan that real runs are checked against.

    Attributes:
        cluster: Its name, and what it is.
        batch, dim, dtype: The step.
        steps: By form and W.
        fastest: Which form is the fastest that fits, in words.
    """

    cluster: str
    batch: int
    dim: int
    dtype: str
    steps: tuple[ModelledStep, ...]
    fastest: str
