"""Three claims that are often made of the exchanges, answered with figures.

Here: from finished simulations to verdicts, by rules that are written down with each claim. Modelled, all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

from siglip_verify.case import EXCHANGES, Exchange
from siglip_verify.plan import has_form
from siglip_verify.simulate.compute import MemoryMode
from siglip_verify.simulate.predict import simulate
from siglip_verify.simulate.presets import PRESETS
from siglip_verify.simulate.result import Cost, Form, Setup, Simulation

CLAIM_WORLD_SIZES = (8, 64, 512, 4096)
CLAIM_CLUSTERS = ("h100-ib", "pcie-100g")
_MEMORY: tuple[MemoryMode, ...] = ("autograd", "chunked")
_MARGIN = 0.01  # what differs by less is called equal: the model is no better than that

_OTHERS_WITHOUT_GATHER: tuple[Exchange, ...] = ("shift", "reduce")

Answer = Literal["holds", "holds with a condition", "does not hold"]


class ClaimFigure(msgspec.Struct, frozen=True, kw_only=True):
    """What a claim says at one place.

    Attributes:
        cluster, world_size, memory, overlap: The place; with overlap, bidir and shift have it and the others cannot.
        unit: Of the values: "s" a step, or "bytes" held at the peak.
        values: By exchange.
        agrees: Whether the claim is true here.
        margin: How far the exchange that the claim is about lies above the fastest of the others (bidir), or above the
            slowest or largest of them (reduce, gather): 0.1 is 10 %.
    """

    cluster: str
    world_size: int
    memory: MemoryMode
    overlap: bool
    unit: Literal["s", "bytes"]
    values: dict[Exchange, float]
    agrees: bool
    margin: float


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A claim and its answer.

    Attributes:
        claim: As it is made.
        answer: In words.
        because: Why, with the decisive figures.
        rule: When it is said to be true at a place.
        figures: One for each place.
    """

    claim: str
    answer: Answer
    because: str
    rule: str
    figures: tuple[ClaimFigure, ...]


def claim_simulations(
    clusters: Sequence[str] = CLAIM_CLUSTERS, *, batch: int = 2048, dim: int = 1152
) -> tuple[Simulation, ...]:
    """Simulate what the claims are judged by: b and d of a large SigLIP run, bfloat16, without and with overlap."""
    setups = [Setup(cluster=PRESETS[name], batch=batch, dim=dim) for name in clusters]
    return tuple(simulate(setup, CLAIM_WORLD_SIZES, _MEMORY, overlap=True) for setup in setups)


def claims(simulations: Iterable[Simulation]) -> tuple[Claim, ...]:
    """Answer the three claims from simulations at `CLAIM_WORLD_SIZES`, with autograd and chunked memory.

    The loss is judged as it is by default, without overlap; forms with overlap say on what the first claim depends.

    Raises:
        LookupError: A simulation lacks one of these.
    """
    found = tuple(simulations)
    return _bidir_most_efficient(found), _reduce_less_efficient(found), _gather_most_memory(found)


def _bidir_most_efficient(simulations: Sequence[Simulation]) -> Claim:
    figures = [
        _figure(
            simulation,
            *(size, "autograd", "bidir", _seconds),
            best=min,
            agrees=lambda margin: margin <= _MARGIN,
            overlap=overlap,
        )
        for overlap in (False, True)
        for simulation in simulations
        for size in CLAIM_WORLD_SIZES
    ]
    default = [figure for figure in figures if not figure.overlap]
    ratios = [each.values[name] / each.values["bidir"] - 1 for each in default for name in _OTHERS_WITHOUT_GATHER]
    slower = [figure for figure in default if not figure.agrees]
    beats_all_but_gather = min(ratios) >= 0
    if not slower:
        because = f"no other exchange is faster by more than {_MARGIN:.0%} anywhere"
    elif beats_all_but_gather:
        because = (
            f"shift and reduce take {_percent(min(ratios))} to {_percent(max(ratios))} longer; but gather is faster at "
            f"{_places(slower)}, and bidir takes up to {_percent(max(each.margin for each in slower))} longer there: "
            "a library's rings use every uplink of a host and stream, a rank's messages use one and wait at every hop"
        )
    else:
        because = f"other exchanges are faster at {_places(slower)}"
    fast = [figure for figure in figures if figure.overlap and figure.agrees]
    if slower:
        because += (
            f". With overlap=True, which hides hops in forward alone, it is true at {_places(fast) or 'no place'}"
        )
    return Claim(
        claim="bidir is generally most efficient",
        answer=_answer(default, conditional=beats_all_but_gather),
        because=because,
        rule=f"a step of bidir takes at most {_MARGIN:.0%} longer than the fastest exchange's",
        figures=tuple(figures),
    )


def _reduce_less_efficient(simulations: Sequence[Simulation]) -> Claim:
    figures = [
        _figure(simulation, size, "autograd", "reduce", _seconds, best=max, agrees=lambda margin: margin > _MARGIN)
        for simulation in simulations
        for size in CLAIM_WORLD_SIZES
    ]
    margins = [figure.margin for figure in figures]
    return Claim(
        claim="reduce is less efficient",
        answer=_answer(figures, conditional=any(figure.agrees for figure in figures)),
        because=(
            f"its step takes {_percent(min(margins))} to {_percent(max(margins))} longer than the slowest other, "
            "by the fastest algorithm: W all-reduces in forward and W in backward, each of which moves a block twice"
        ),
        rule=f"a step of reduce takes more than {_MARGIN:.0%} longer than any other exchange's",
        figures=tuple(figures),
    )


def _gather_most_memory(simulations: Sequence[Simulation]) -> Claim:
    figures = [
        _figure(simulation, size, mode, "gather", _bytes, best=max, agrees=lambda margin: margin > _MARGIN)
        for simulation in simulations[:1]  # what is held does not depend on links
        for mode in _MEMORY
        for size in CLAIM_WORLD_SIZES
    ]
    chunked = [figure.margin for figure in figures if figure.memory == "chunked"]
    above = [each.values["gather"] / each.values["bidir"] - 1 for each in figures if each.memory == "autograd"]
    return Claim(
        claim="gather is most memory intensive",
        answer=_answer(figures, conditional=any(figure.agrees for figure in figures)),
        because=(
            "autograd keeps every block's texts and logits until backward in every exchange, so gather holds what "
            f"reduce holds, and its own block more than bidir and shift ({_percent(min(above))} to "
            f"{_percent(max(above))}); where logits are not kept (chunk_size), the gradients that it collects for all "
            f"blocks show, and it holds {_percent(min(chunked))} to {_percent(max(chunked))} more than any other"
        ),
        rule=f"the most that gather holds at once is more than {_MARGIN:.0%} above any other exchange's",
        figures=tuple(figures),
    )


def _figure(
    simulation: Simulation,
    world_size: int,
    memory: MemoryMode,
    exchange: Exchange,
    measure: Callable[[Cost], float],
    *,
    best: Callable[[Iterable[float]], float],
    agrees: Callable[[float], bool],
    overlap: bool = False,
) -> ClaimFigure:
    forms = [Form(name, memory, overlap and has_form(name, overlap=True)) for name in EXCHANGES]
    values: dict[Exchange, float] = {form.exchange: measure(simulation.cost(form, world_size)) for form in forms}
    margin = values[exchange] / best(value for name, value in values.items() if name != exchange) - 1
    return ClaimFigure(
        cluster=simulation.setup.cluster.name,
        world_size=world_size,
        memory=memory,
        overlap=overlap,
        unit="s" if measure is _seconds else "bytes",
        values=values,
        agrees=agrees(margin),
        margin=margin,
    )


def _seconds(cost: Cost) -> float:
    return cost.step_s


def _bytes(cost: Cost) -> float:
    return float(cost.memory.peak_bytes)


def _answer(figures: Sequence[ClaimFigure], *, conditional: bool) -> Answer:
    if all(figure.agrees for figure in figures):
        return "holds"
    return "holds with a condition" if conditional else "does not hold"


def _places(figures: Sequence[ClaimFigure]) -> str:
    sizes: dict[str, list[str]] = {}
    for figure in figures:
        sizes.setdefault(figure.cluster, []).append(str(figure.world_size))
    return " and ".join(f"W = {', '.join(each)} on {cluster}" for cluster, each in sizes.items())


def _percent(share: float) -> str:
    digits = 0 if share >= 0.1 else 1 if share >= 0.01 else 2
    return f"{share:.{digits}%}"
