"""The order of the exchanges, measured and simulated: from a calibration's JSON to docs/simulate.md.

Oracle: a calibration made up so that one pair is ordered wrongly; the committed JSON. Sees: a page that says something
else than its JSON, a wrong order that is not said. Cannot see whether it holds today: `make order` measures again.
"""

from __future__ import annotations

import json
from types import ModuleType

import pytest
from docs_script import docs_script

from siglip_verify.report.simulation import dump_calibration
from siglip_verify.simulate import PRESETS, Form
from siglip_verify.simulate.calibration import Calibration, Fit, StepTime


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return docs_script("make_order")


def calibration(**simulated_s: float) -> dict:
    """Let bidir take 1 s, gather 2 s and shift 4 s at W = 4, by a clock without noise."""
    steps = tuple(
        StepTime(form=Form(name, "autograd"), world_size=4, seconds=(took,) * 4, simulated_s=simulated_s[name])
        for name, took in (("bidir", 1.0), ("gather", 2.0), ("shift", 4.0))
    )
    fit = Fit(world_size=4, cluster=PRESETS["loopback"], links=(), blocks=(), link_error=0, block_error=0)
    environment = {"torch": "2", "platform": "a machine of mine"}
    made = Calibration(
        batch=8, dim=16, dtype="float32", turns=4, fits=(fit,), steps=steps, environment=environment, elapsed_s=1
    )
    return json.loads(dump_calibration(made))


def test_the_json_holds_medians_noise_simulated_times_and_the_verdict() -> None:
    order = calibration(bidir=1.0, gather=3.0, shift=2.0)["order"]
    assert order["steps"][1] == {
        "world_size": 4,
        "form": "gather",
        "median_s": 2.0,
        "noise_s": 0.0,
        "simulated_s": 3.0,
        "error": 0.5,
    }
    assert [(each["faster"], each["slower"], each["is_so_simulated"]) for each in order["pairs"]] == [
        ("bidir", "gather", True),
        ("bidir", "shift", True),
        ("gather", "shift", False),
    ]
    assert order["is_ordered_as_measured"] is False
    assert calibration(bidir=1.0, gather=1.5, shift=2.0)["order"]["is_ordered_as_measured"] is True


def test_the_page_says_which_pair_is_ordered_otherwise(script: ModuleType) -> None:
    said = script.section(script.kept(calibration(bidir=1.0, gather=3.0, shift=2.0)))
    assert "| 4 | gather | 2e+03 | 0 | 3e+03 | +50% |" in said
    assert "2 of 3 pairs whose medians differ beyond noise are ordered as measured." in said
    assert "- W = 4: gather was faster than shift by 100%; the model has it the other way round." in said
    assert "machine of mine" not in said


def test_the_page_says_what_is_committed(script: ModuleType) -> None:
    data = json.loads(script.DATA.read_text()) if script.DATA.exists() else None
    page = script.PAGE.read_text()
    assert page == script.write(page, script.section(data)), "make order writes both"
