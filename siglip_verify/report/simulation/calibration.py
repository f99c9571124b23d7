"""A calibration as blocks of text: what was fitted, and how far the model is from what was measured.

Here: which figures are shown, and their words. Not here: any judgement of them.
"""

from __future__ import annotations

import statistics

import msgspec
from rich.console import Console

from siglip_verify.report import words
from siglip_verify.report.blocks import Column, Table, Value
from siglip_verify.report.console.final import STYLES, say, table
from siglip_verify.report.simulation.tables import milliseconds, significant
from siglip_verify.simulate.calibration import Calibration, Counted, Fit, StepTime


def render_calibration(calibration: Calibration, console: Console) -> None:
    """Print whether the model agrees with what was measured, the numbers fitted, and every comparison."""
    agrees = calibration.counts_are_equal and calibration.is_ordered_as_measured
    say(console, headline(calibration), style=STYLES["pass" if agrees else "mismatch"], wrap=console.is_terminal)
    say(console, f"  {words.one_line(calibration.cluster.about)}", wrap=console.is_terminal)
    for note in calibration.notes:
        say(console, f"  {words.one_line(note)}", wrap=console.is_terminal)
    table(_fits(calibration), console)
    table(_steps(calibration), console)
    if calibration.counted:
        table(_counts(calibration), console)


def dump_calibration(calibration: Calibration) -> bytes:
    """Write the result as JSON: every value of every turn, and what follows for the order of the exchanges."""
    whole = msgspec.to_builtins(calibration) | {"order": _order(calibration)}
    return msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"


def _order(calibration: Calibration) -> dict[str, object]:
    steps = [
        {
            "world_size": step.world_size,
            "form": str(step.form),
            "median_s": step.median_s,
            "noise_s": step.noise_s,
            "simulated_s": step.simulated_s,
            "error": step.error,
        }
        for step in calibration.steps
    ]
    pairs = [
        msgspec.to_builtins(pair) | {"faster": str(pair.faster), "slower": str(pair.slower)}
        for pair in calibration.pairs
    ]
    return {"steps": steps, "pairs": pairs, "is_ordered_as_measured": calibration.is_ordered_as_measured}


def headline(calibration: Calibration) -> str:
    """Say how the model compares, in one sentence."""
    pairs, wrong = calibration.pairs, [pair for pair in calibration.pairs if not pair.is_so_simulated]
    errors = [abs(step.error) for step in calibration.steps]
    if not pairs:
        said = ["no two exchanges differ beyond noise: raise --turns, or measure a quieter machine"]
    else:
        said = [f"{len(pairs) - len(wrong)} of {words.plural(len(pairs), 'pair')} of exchanges ordered as measured"]
    said.append(f"median error of a step {statistics.median(errors):.0%}")
    if calibration.counted:
        unequal = [each for each in calibration.counted if not each.is_equal]
        counts = f"{len(calibration.counted) - len(unequal)} of {words.plural(len(calibration.counted), 'step')}"
        said.append(f"messages and bytes of {counts} equal to the simulation")
    return "; ".join(said)


def _fits(calibration: Calibration) -> Table:
    return Table(
        caption=(
            "Fitted to measurements: a message's latency and bandwidth, what a hop adds, posting each message of it "
            "beside the first, and a collective, how fast blocks are computed. Error: of the fit on its own samples, "
            "the mean relative one."
        ),
        columns=(
            Column("W"),
            Column("latency", "us"),
            Column("width", "GB/s"),
            Column("hop", "us"),
            Column("post", "us"),
            Column("call", "us"),
            Column("error", ""),
            Column("between hosts", "us, GB/s", is_number=False, is_extra=True),
            Column("products", "GFLOP/s"),
            Column("passes", "GB/s"),
            Column("op", "us"),
            Column("error", ""),
        ),
        rows=tuple(_fit(fit, calibration) for fit in calibration.fits),
    )


def _fit(fit: Fit, calibration: Calibration) -> tuple[Value, ...]:
    cluster, between = fit.cluster, fit.cluster.between_hosts
    across = words.NOTHING
    if between is not None:
        across = f"{between.per_host} x {significant(between.latency_us)}, {significant(between.gbytes_per_s)}"
    return (
        Value(words.count(fit.world_size)),
        Value(significant(cluster.within_host.latency_us)),
        Value(significant(cluster.within_host.gbytes_per_s)),
        Value(significant(cluster.call_us)),
        Value(significant(cluster.message_us)),
        Value(significant(cluster.collective_call_s * 1e6)),
        Value(f"{fit.link_error:.0%}"),
        Value(across),
        Value(significant(cluster.compute.tflops_per_s[calibration.dtype] * 1e3)),
        Value(significant(cluster.compute.memory_gbytes_per_s)),
        Value(significant(cluster.compute.operation_us)),
        Value(f"{fit.block_error:.0%}"),
    )


def _steps(calibration: Calibration) -> Table:
    wrong = [pair for pair in calibration.pairs if not pair.is_so_simulated]
    notes = [
        f"W = {pair.world_size}: {pair.faster} was measured faster than {pair.slower}, by {pair.times - 1:.0%}; "
        "the model has it the other way round"
        for pair in wrong
    ]
    return Table(
        caption=(
            f"A step, b = {calibration.batch}, d = {calibration.dim}, {calibration.dtype}, {calibration.turns} turns; "
            "nothing was fitted to these. Noise: how far a median may be off."
        ),
        columns=(
            Column("W"),
            Column("exchange", is_number=False),
            Column("step", "ms", "measured"),
            Column("noise", "ms", "measured"),
            Column("step", "ms", "modelled"),
            Column("error", "", "modelled"),
        ),
        rows=tuple(_step(step) for step in calibration.steps),
        notes=tuple(notes) or ("Where medians differ beyond noise, the model orders the exchanges as measured.",),
    )


def _step(step: StepTime) -> tuple[Value, ...]:
    return (
        Value(words.count(step.world_size)),
        Value(str(step.form)),
        Value(milliseconds(step.median_s)),
        Value(milliseconds(step.noise_s)),
        Value(milliseconds(step.simulated_s)),
        Value(f"{step.error:+.0%}"),
    )


def _counts(calibration: Calibration) -> Table:
    return Table(
        caption="What is sent in a step, counted, and whether plan and simulation say the same, exactly.",
        columns=(
            Column("W", is_number=False),
            Column("where", is_number=False),
            Column("exchange", is_number=False),
            Column("operations", "", "counted"),
            Column("payload", "B", "counted"),
            Column("simulation", is_number=False),
        ),
        rows=tuple(_count(each) for each in calibration.counted),
    )


def _count(each: Counted) -> tuple[Value, ...]:
    return (
        Value(words.count(each.world_size)),
        Value(each.where if each.ranks == each.world_size else f"one rank, {each.where}"),
        Value(str(each.form)),
        Value(words.count(each.operations)),
        Value(words.count(each.payload_bytes)),
        Value("equal", "pass") if each.is_equal else Value("differs", "mismatch"),
    )
