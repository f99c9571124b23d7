"""The simulator held against the run itself: its counts, one rank of many, and a calibration where one is at hand.

Here: comparing what is there already, and running the fake back end. Not here: the simulation, and how it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch

from siglip_verify.errors import UsageError
from siglip_verify.plan.schedule import GatherBackward
from siglip_verify.result import HeldAgainst, LossResult, MessageRow, SimulatorValidation, StepError
from siglip_verify.run.declare import form_of
from siglip_verify.run.settings import LossPlan, Settings
from siglip_verify.run.validation import FAKE_WORLD_SIZES, counted_on_fake_ranks
from siglip_verify.simulate import PRESETS, Form, Setup, dtype_named
from siglip_verify.simulate.calibration import Calibration
from siglip_verify.simulate.predict import cost_of, planned_step

CALIBRATION_FILE = "calibration.json"
"""Where a run looks for a calibration, in its report folder."""


def calibrated(report_dir: Path | None) -> SimulatorValidation:
    """Begin with what a calibration in the report folder says, which is read before anything runs.

    Raises:
        UsageError: What is there is no calibration.
    """
    path = None if report_dir is None else report_dir / CALIBRATION_FILE
    if path is None or not path.is_file():
        return SimulatorValidation()
    try:
        calibration = msgspec.json.decode(path.read_bytes(), type=Calibration)
    except msgspec.DecodeError as error:
        raise UsageError(
            f"{CALIBRATION_FILE} in the report folder is what calibrate --json writes; got {str(path)!r}: {error}: "
            "write it anew, or remove it"
        ) from None
    errors = (StepError(form=str(s.form), world_size=s.world_size, error=s.error) for s in calibration.steps)
    return SimulatorValidation(errors=tuple(errors))


def validate(
    begun: SimulatorValidation, chosen: Settings, results: Sequence[LossResult], gather_backward: GatherBackward
) -> SimulatorValidation:
    """Hold the simulator against what a run counted, and in runs that plant known bugs against one rank of many.

    One rank of 1,024 takes seconds, and says nothing of the losses that are checked: it is for runs that hold the tool
    itself to account.
    """
    fake = chosen.bugs != "none" and not torch.distributed.is_initialized()
    rows = [
        (form, row)
        for result, plan in zip(results, chosen.losses, strict=True)
        for row in result.messages
        if row.counted_messages is not None and (form := _form(plan, row)) is not None
    ]
    return msgspec.structs.replace(
        begun,
        recorded=_recorded(rows, gather_backward) if rows else None,
        one_of_many=_one_of_many() if fake else None,
    )


def _form(plan: LossPlan, row: MessageRow) -> Form | None:
    """Return the form of a counted step; None for what is not simulated: other losses, ragged rows, wide gradients."""
    form = form_of(plan.spec)
    if form is None or form.ragged or form.grad_dtype or form.check_shapes or form.check_upstream:
        return None
    return Form(row.exchange, form.memory, form.overlap)


def _recorded(rows: Sequence[tuple[Form, MessageRow]], gather_backward: GatherBackward) -> HeldAgainst:
    differing = [each for each in rows if not _is_simulated(*each, gather_backward)]
    return HeldAgainst(
        world_sizes=tuple(sorted({row.world_size for _, row in rows})),
        steps=len(rows),
        differing=tuple(f"{form} at W = {row.world_size}" for form, row in differing),
    )


def _is_simulated(form: Form, row: MessageRow, gather_backward: GatherBackward) -> bool:
    cluster = msgspec.structs.replace(PRESETS["loopback"], gather_backward=gather_backward)
    setup = Setup(cluster=cluster, batch=row.batch, dim=row.dim, dtype=dtype_named(row.dtype))
    cost = cost_of(setup, form, planned_step(setup, form, row.world_size))
    counted = row.counted_messages, row.counted_collectives, row.counted_payload_bytes
    return counted == (cost.sends, cost.collectives, cost.payload_bytes)


def _one_of_many() -> HeldAgainst:
    counted = [each for size in FAKE_WORLD_SIZES for each in counted_on_fake_ranks(size)]
    return HeldAgainst(
        world_sizes=FAKE_WORLD_SIZES,
        steps=len(counted),
        differing=tuple(f"{each.form} at W = {each.world_size}" for each in counted if not each.is_equal),
    )
