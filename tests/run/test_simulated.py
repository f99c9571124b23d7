"""The simulator held against a run's own counts, and how a report says so.

Oracle: what real ranks recorded in the run. Sees: a simulation of other messages than were counted, an error that a
calibration has and the report has not, a comparison that cannot fail.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from siglip_verify import check
from siglip_verify.adapt import LossSpec
from siglip_verify.errors import UsageError
from siglip_verify.report import sections
from siglip_verify.report.blocks import Fact
from siglip_verify.result import HeldAgainst, Report, SimulatorValidation, StepError
from siglip_verify.run import simulated
from siglip_verify.run.settings import settings
from siglip_verify.run.simulated import CALIBRATION_FILE, calibrated, validate
from siglip_verify.simulate import PRESETS, Form
from siglip_verify.simulate.calibration import Calibration, Fit, StepTime
from siglip_verify.world import Worlds

pytestmark = pytest.mark.xdist_group("simulated")
LOSSES = [LossSpec(), LossSpec(args={"memory": "constant", "overlap": True}), LossSpec(args={"ragged": True})]


def values(facts: Iterable[Fact]) -> dict[str, str]:
    return {fact.name: fact.value for fact in facts}


@pytest.fixture(scope="module")
def report(worlds: Worlds) -> Report:
    return check(LOSSES, world_sizes=[1, 2, 4], examples=2, seed=0, worlds=worlds)


def test_a_run_holds_what_it_counted_against_the_simulation(report: Report) -> None:
    """Four exchanges and two with overlap in constant memory, at three W; ragged rows are not simulated."""
    assert report.modelled is not None
    assert report.modelled.validation == SimulatorValidation(
        recorded=HeldAgainst(world_sizes=(1, 2, 4), steps=3 * (4 + 2), differing=())
    )
    facts = values(sections.modelled(report.modelled))
    said = "messages and payload bytes of this run, 18 steps at W = 1, 2, 4: equal, exactly"
    assert facts["simulated and recorded"] == said
    assert "check --bugs quick" in facts["one rank of many"]
    assert "calibrate --json calibration.json" in facts["error of a simulated step"]


@pytest.mark.parametrize("field", ["counted_messages", "counted_collectives", "counted_payload_bytes"])
def test_one_byte_or_message_more_is_said(report: Report, field: str) -> None:
    row = report.losses[1].messages[-1]
    changed = msgspec.structs.replace(row, **{field: getattr(row, field) + 1})
    losses = [report.losses[0], msgspec.structs.replace(report.losses[1], messages=(changed,)), report.losses[2]]
    held = validate(SimulatorValidation(), settings(LOSSES), losses, "all_to_all")
    assert held.recorded
    assert held.recorded.differing == (f"{row.exchange} constant overlap at W = 4",)
    assert report.modelled
    facts = values(sections.modelled(msgspec.structs.replace(report.modelled, validation=held)))
    assert facts["simulated and recorded"].startswith(f"DIFFERENT: {row.exchange} constant overlap at W = 4, of 13")


def test_a_run_that_plants_bugs_runs_one_rank_of_many_and_a_difference_shows(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulated, "FAKE_WORLD_SIZES", (16, 32))
    chosen = settings(LOSSES, bugs="quick")
    held = validate(SimulatorValidation(), chosen, report.losses, "all_to_all")
    assert held.one_of_many == HeldAgainst(world_sizes=(16, 32), steps=2 * 14, differing=())
    other = simulated.counted_on_fake_ranks
    monkeypatch.setattr(
        simulated,
        "counted_on_fake_ranks",
        lambda size: [msgspec.structs.replace(each, is_equal=each.form.exchange != "reduce") for each in other(size)],
    )
    held = validate(SimulatorValidation(), chosen, report.losses, "all_to_all")
    assert held.one_of_many
    assert held.one_of_many.differing == ("reduce at W = 16", "reduce at W = 32")


def test_a_calibration_in_the_report_folder_gives_the_error_of_each_exchange(report: Report, tmp_path: Path) -> None:
    assert calibrated(None) == calibrated(tmp_path) == SimulatorValidation()
    fit = Fit(world_size=2, cluster=PRESETS["loopback"], links=(), blocks=(), link_error=0, block_error=0)
    steps = [
        StepTime(form=Form(exchange, "autograd"), world_size=2, seconds=(1.0, 1.0, 1.0, 1.0), simulated_s=simulated_s)
        for exchange, simulated_s in (("bidir", 0.75), ("gather", 1.5))
    ]
    calibration = Calibration(
        batch=8, dim=8, dtype="float32", turns=4, fits=(fit,), steps=tuple(steps), environment={}, elapsed_s=1.0
    )
    (tmp_path / CALIBRATION_FILE).write_bytes(msgspec.json.encode(calibration))
    held = calibrated(tmp_path)
    assert held.errors == (
        StepError(form="bidir", world_size=2, error=-0.25),
        StepError(form="gather", world_size=2, error=0.5),
    )
    assert report.modelled
    facts = values(sections.modelled(msgspec.structs.replace(report.modelled, validation=held)))
    assert facts["error of a simulated step"] == "W = 2: bidir -25%, gather +50%"


def test_what_is_no_calibration_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / CALIBRATION_FILE).write_text("{}")
    with pytest.raises(UsageError, match=r"is what calibrate --json writes; got .*: write it anew, or remove it"):
        calibrated(tmp_path)
