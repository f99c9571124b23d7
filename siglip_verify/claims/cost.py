"""What is said of the cost of an exchange at large W: modelled, by the simulation and its rules (`simulate.claims`).

A timing on one machine's loopback says nothing of a cluster, so none is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from siglip_verify.case import Exchange
from siglip_verify.claims.result import Figure, Finding
from siglip_verify.claims.statement import DOCS, Lab, Statement
from siglip_verify.plan import has_form
from siglip_verify.simulate import Claim, Form, Simulation

_SLIGHTLY = (0.01, 0.25)
_SETTING = "b = 2,048, d = 1,152, bfloat16, W = 8..4,096, two clusters"


def finding_of(claim: Claim) -> Finding:
    """Turn what the simulation answers into a finding, with every figure of it."""
    figures = tuple(
        Figure(
            f"{exchange} {figure.memory}{', overlapped' * figure.overlap}, W = {figure.world_size} on {figure.cluster}",
            value,
            figure.unit,
            "modelled",
        )
        for figure in claim.figures
        for exchange, value in figure.values.items()
        if not figure.overlap or has_form(exchange, overlap=True)  # the others' figures stand there already
    )
    return Finding(answer=claim.answer, because=claim.because, figures=figures)


class Slower(NamedTuple):
    """How much longer a step of shift takes than one of bidir, at one place; 0.1 is 10 %."""

    cluster: str
    world_size: int
    longer: float


def measure_shift(lab: Lab) -> list[Slower]:
    """Model shift beside bidir as they are by default, without overlap."""
    return [
        Slower(
            simulation.setup.cluster.name,
            size,
            _step_s(simulation, "shift", size) / _step_s(simulation, "bidir", size) - 1,
        )
        for simulation in lab.simulations
        for size in simulation.world_sizes
    ]


def _step_s(simulation: Simulation, exchange: Exchange, world_size: int) -> float:
    return simulation.cost(Form(exchange, "autograd"), world_size).step_s


def judge_shift(places: Sequence[Slower]) -> Finding:
    """Answer from modelled steps: slower everywhere, and not by much."""
    least, most = _SLIGHTLY
    slower = [place for place in places if place.longer > least]
    much = [place for place in places if place.longer > most]
    figures = tuple(
        Figure(f"shift over bidir, W = {each.world_size} on {each.cluster}", 1 + each.longer, "", "modelled")
        for each in places
    )
    said = f"a step takes {_percent(min(p.longer for p in places))} to {_percent(max(p.longer for p in places))} longer"
    if not slower:
        return Finding(answer="does not hold", because=said, figures=figures)
    if len(slower) == len(places) and not much:
        return Finding(answer="holds", because=said, figures=figures)
    conditions = [
        *([f"more than slightly at {_where(much)}"] if much else []),
        *([f"not at {_where(p for p in places if p not in slower)}"] if len(slower) < len(places) else []),
    ]
    return Finding(answer="holds with a condition", because=f"{said}: {'; '.join(conditions)}", figures=figures)


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _where(places: Iterable[Slower]) -> str:
    return ", ".join(f"W = {each.world_size} on {each.cluster}" for each in places)


STATEMENTS = (
    Statement(
        id="bidir-most-efficient",
        says="bidir is generally the most efficient exchange.",
        source=DOCS,
        how=f"Modelled, {_SETTING}. Holds if nowhere another exchange's step is shorter by more than 1 %.",
        measure=lambda lab: lab.modelled[0],
        judge=finding_of,
    ),
    Statement(
        id="shift-slightly-slower",
        says="shift is slightly slower than bidir.",
        source=DOCS,
        how=f"Modelled, {_SETTING}. Holds if its step is longer everywhere, by more than 1 % and by at most 25 %.",
        measure=measure_shift,
        judge=judge_shift,
    ),
    Statement(
        id="reduce-less-efficient",
        says="reduce is less efficient.",
        source=DOCS,
        how=f"Modelled, {_SETTING}. Holds if its step is longer than any other's everywhere, by more than 1 %.",
        measure=lambda lab: lab.modelled[1],
        judge=finding_of,
    ),
    Statement(
        id="gather-most-memory",
        says="gather is the most memory intensive exchange.",
        source=DOCS,
        how=f"Modelled, {_SETTING}. Holds if it holds more than any other everywhere, by more than 1 %.",
        measure=lambda lab: lab.modelled[2],
        judge=finding_of,
    ),
)
