"""The benchmarks whose figures the documentation shows: one run, some twenty minutes on two cores with 15 turns.

At small sizes a step takes milliseconds and its noise is large: there are more turns. What takes longest is left out:
reduce at W = 16 and, where features are larger, at W = 8; all of autograd but bidir at (1024, 512), W = 8.
"""

from __future__ import annotations

import functools

from siglip_verify.bench.forms import Form
from siglip_verify.bench.local_block import local_block
from siglip_verify.bench.measure import Setup
from siglip_verify.bench.memory import memory
from siglip_verify.bench.recording import recording
from siglip_verify.bench.steps import steps
from siglip_verify.bench.warm_worlds import warm_worlds
from siglip_verify.bench.whole import Bench
from siglip_verify.case import EXCHANGES, Exchange

TURNS = 15
_WORLDS, _CASES, _RECORDED = 3, 4, 100  # turns of what has its own number
_RINGS: tuple[Exchange, ...] = ("bidir", "shift")
_STEPS: tuple[tuple[Setup, int, tuple[Exchange, ...], bool], ...] = (
    (Setup(world_size=4, batch=8, dim=64), 10, EXCHANGES, True),
    (Setup(world_size=8, batch=8, dim=64), 6, EXCHANGES, True),
    (Setup(world_size=16, batch=8, dim=64), 2, (*_RINGS, "gather"), True),
    (Setup(world_size=4, batch=256, dim=256), 2, EXCHANGES, True),
    (Setup(world_size=8, batch=256, dim=256), 1, (*_RINGS, "gather"), True),
    (Setup(world_size=2, batch=1024, dim=512), 2, EXCHANGES, False),
    (Setup(world_size=4, batch=1024, dim=512), 1, EXCHANGES, False),
    (Setup(world_size=8, batch=1024, dim=512), 1, ("bidir",), False),
)
"""Sizes; how many times the turns asked for; autograd's exchanges; whether constant forms with overlap are in, too."""


def published(turns: int = TURNS) -> dict[str, Bench]:
    """Return the benchmarks by name.

    Args:
        turns: How often a step is measured at least; the others have numbers of their own.
    """
    large = {"local-block": Bench(local_block, 2 * turns, False)}
    for setup, times, exchanges, overlap in _STEPS:
        chosen = functools.partial(_in_steps, exchanges=exchanges, overlap=overlap)
        run = functools.partial(steps, setup, chosen=chosen)
        large[f"steps/{setup.batch}x{setup.dim}/W{setup.world_size}"] = Bench(run, times * turns, False)
    peaks = functools.partial(memory, 1024, 512, (2, 4, 8, 16), chosen=_in_memory)
    return {
        "warm-worlds": Bench(warm_worlds, _CASES, False),
        "recording": Bench(recording, _RECORDED, False),
        **large,
        "memory/1024x512": Bench(peaks, _WORLDS, False),
    }


def _in_steps(form: Form, *, exchanges: tuple[Exchange, ...], overlap: bool) -> bool:
    if form.memory == "autograd":
        return form.exchange in exchanges
    return form.memory == "constant" and (overlap or not form.overlap)


def _in_memory(form: Form) -> bool:
    return (form.exchange == "bidir" and form.memory == "autograd") or (form.memory == "constant" and not form.overlap)
