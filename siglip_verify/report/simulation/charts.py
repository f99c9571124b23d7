"""Charts of a simulation, as one SVG file: step, exposed communication and memory against W (see `log_chart`)."""

from __future__ import annotations

from collections.abc import Callable

from siglip_verify.report.log_chart import Panel, Series, document
from siglip_verify.report.simulation.tables import significant
from siglip_verify.simulate import Cost, Simulation

_DASHES = {"autograd": "", "chunked": "6 3", "constant": "2 3", "recompute": "8 2 2 2"}
_OVERLAP_DASHES = {"autograd": "12 3", "chunked": "6 3 1 3", "constant": "2 6", "recompute": "8 2 2 6"}


def charts(simulation: Simulation) -> bytes:
    """Draw a simulation as an SVG document."""
    setup = simulation.setup
    said = f"{setup.cluster.name}, b = {setup.batch}, d = {setup.dim}, {setup.dtype}"
    panels = [
        Panel("Step", "ms, modelled", _series(simulation, _step_ms)),
        Panel("Exposed communication", "ms, modelled", _series(simulation, _exposed_ms)),
        Panel(
            "Held by a rank",
            "GB, modelled",
            _series(simulation, _held_gbytes),
            ("device", setup.cluster.memory_gbytes),
        ),
    ]
    return document(said, f"Modelled cost of the exchanges: {said}", panels, significant)


def _series(simulation: Simulation, value: Callable[[Cost], float]) -> list[Series]:
    return [
        Series(
            str(form),
            form.exchange,
            (_OVERLAP_DASHES if form.overlap else _DASHES)[form.memory],
            [(cost.world_size, value(cost)) for cost in simulation.costs if cost.form == form],
        )
        for form in simulation.forms
    ]


def _step_ms(cost: Cost) -> float:
    return cost.step_s * 1e3


def _exposed_ms(cost: Cost) -> float:
    return cost.exposed_s * 1e3


def _held_gbytes(cost: Cost) -> float:
    return cost.memory.peak_bytes / 1e9
