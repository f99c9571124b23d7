"""Which faults are set off, in which steps: every kind at every exchange, many in a row, or at random for some minutes.

Here: drawing them. Not here: setting them off (`faults`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from siglip_verify.case import DTYPES, EXCHANGES, Case, Exchange
from siglip_verify.checks.form import Form, planned_step
from siglip_verify.errors import UsageError
from siglip_verify.fault import KINDS, Burst, Fault, Kind
from siglip_verify.records import Phase
from siglip_verify.run.faults import Act

PHASES: tuple[Phase, ...] = ("forward", "backward")
WORLD_SIZES = (2, 3, 4)
UNTOUCHED_WORLD_SIZE = 5
"""A world that no fault is set off in: its ranks last, so that what they gather shows."""

_EVERY = 5  # faults between two looks at the untouched world
_CASES = 20  # of the soak, between two faults
_RARELY: dict[Kind, float] = {"parent-killed": 0.2, "lost-folder": 0.2}  # each starts a template: seconds


class Place(NamedTuple):
    """Where in a step a fault is set off; what is None is drawn."""

    rank: int | None = None
    phase: Phase | None = None
    hop: int | None = None


ANYWHERE = Place()


def matrix(
    *,
    seed: int,
    timeout_s: float,
    kinds: Sequence[Kind] = KINDS,
    exchanges: Sequence[Exchange] = EXCHANGES,
    world_sizes: Sequence[int] = WORLD_SIZES,
    at: Place = ANYWHERE,
) -> list[Act]:
    """List every kind of fault at every exchange and world size; rank, phase and hop are drawn where `at` leaves them.

    Raises:
        UsageError: There is no such rank or hop in one of these steps.
    """
    rng = random.Random(seed)
    return [
        _fault(rng, kind, exchange, world_size, timeout_s, at)
        for kind in kinds
        for exchange in exchanges
        for world_size in world_sizes
    ]


def in_a_row(number: int, *, seed: int, timeout_s: float) -> Iterator[Act]:
    """Draw faults one after the other, now and then a few cases in a world that none of them touches."""
    rng = random.Random(seed)
    for index in range(number):
        if index % _EVERY == 0:
            yield _burst(rng, UNTOUCHED_WORLD_SIZE, _EVERY)
        yield _any_fault(rng, timeout_s)
    yield _burst(rng, UNTOUCHED_WORLD_SIZE, _EVERY)


def soak(minutes: float, *, seed: int, timeout_s: float) -> Iterator[Act]:
    """Draw random cases and random faults in turn, until the time is over."""
    rng = random.Random(seed)
    ends_s = time.monotonic() + 60 * minutes
    while time.monotonic() < ends_s:
        yield _burst(rng, rng.randint(1, UNTOUCHED_WORLD_SIZE), _CASES)
        yield _burst(rng, UNTOUCHED_WORLD_SIZE, _EVERY)
        yield _any_fault(rng, timeout_s)


def _any_fault(rng: random.Random, timeout_s: float) -> Act:
    (kind,) = rng.choices(KINDS, [_RARELY.get(kind, 1) for kind in KINDS])
    return _fault(rng, kind, rng.choice(EXCHANGES), rng.choice(WORLD_SIZES), timeout_s)


def _fault(
    rng: random.Random, kind: Kind, exchange: Exchange, world_size: int, timeout_s: float, at: Place = ANYWHERE
) -> Act:
    case = Case(
        exchange=exchange,
        world_size=world_size,
        batch=2 * rng.randint(1, 4),  # even, so that half a message is a whole number of numbers everywhere
        dim=rng.randint(1, 12),
        dtype=rng.choice(DTYPES),
        seed=rng.getrandbits(32),
    )
    ranks = [rank for rank in range(world_size) if at.rank in (None, rank)]
    hops: list[tuple[Phase, int]] = [
        (phase, hop)
        for phase in PHASES
        if at.phase in (None, phase)
        for hop in range(len(planned_step(case, Form()).hops(phase)))
        if at.hop in (None, hop)
    ]
    if not ranks:
        raise UsageError(f"a rank is 0 to W - 1; got rank={at.rank} where W = {world_size}: take larger world sizes")
    if not hops:
        place = f"hop {at.hop}" if at.phase is None else f"{at.phase} hop {at.hop}"
        raise UsageError(f"{exchange} at W = {world_size} has no {place}: `siglip-verify messages` shows its hops")
    phase, hop = rng.choice(hops)
    return Fault(kind=kind, rank=rng.choice(ranks), phase=phase, hop=hop, late_s=timeout_s / 2), case


def _burst(rng: random.Random, world_size: int, examples: int) -> Burst:
    return Burst(exchange=rng.choice(EXCHANGES), world_size=world_size, examples=examples, seed=rng.getrandbits(32))
