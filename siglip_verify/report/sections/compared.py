"""How the exchanges compare: what they took and kept here, and on a modelled cluster; and which blocks they count."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from siglip_verify.records import Matrix
from siglip_verify.report import words
from siglip_verify.report.blocks import Column, Fact, Table, Value
from siglip_verify.result import (
    BlockCoverage,
    HeldAgainst,
    LossResult,
    Modelled,
    SimulatorValidation,
    StepCost,
    StepError,
)

_COST_CAPTION = (
    "One step, forward + backward, on gloo over loopback (never a cluster's): b = {batch}, d = {dim}, {dtype}; "
    "the exchanges took turns."
)


def costs(loss: LossResult) -> list[Table]:
    """Show what a step of each exchange took and kept; one table for each batch shape and dtype."""
    return [
        _cost_table(list(steps), _COST_CAPTION.format(batch=batch, dim=dim, dtype=words.one_line(dtype)))
        for (batch, dim, dtype), steps in groupby(loss.costs, key=lambda step: (step.batch, step.dim, step.dtype))
    ]


def _cost_table(steps: list[StepCost], caption: str) -> Table:
    return Table(
        caption=caption,
        columns=(
            Column("W"),
            Column("exchange", is_number=False),
            Column("step", "ms, median", "measured"),
            Column("fastest", "ms", "measured"),
            Column("slowest", "ms", "measured"),
            Column("kept", "bytes per rank", "counted"),
        ),
        rows=tuple(
            (
                Value(str(step.world_size)),
                Value(step.exchange),
                *(Value(words.milliseconds(s)) for s in (step.median_s, min(step.seconds), max(step.seconds))),
                Value(words.count(step.kept_bytes)),
            )
            for step in sorted(steps, key=lambda step: step.world_size)
            if step.seconds
        ),
    )


def coverage(loss: LossResult) -> list[Fact]:
    """Say of each exchange whether every block is counted, received and labelled once."""
    return [Fact(f"{seen.exchange}, W = {seen.world_size}", _covered(seen), "measured") for seen in loss.coverage]


def _covered(seen: BlockCoverage) -> str:
    wrong = [words.one_line(matrix.title) for matrix in seen.matrices if matrix.values != matrix.expected]
    return f"not as it should be: {', '.join(wrong)}" if wrong else "every block counted, received and labelled once"


def coverage_matrices(loss: LossResult) -> Iterable[tuple[BlockCoverage, tuple[Matrix, ...]]]:
    """Give the matrices of each exchange that are drawn: all where one is wrong, else forward and backward."""
    for seen in loss.coverage:
        right = all(matrix.values == matrix.expected for matrix in seen.matrices)
        yield seen, seen.matrices[:2] if right else seen.matrices


def modelled(of: Modelled) -> list[Fact]:
    """Say which cluster and step were modelled, and which form is the fastest there."""
    return [
        Fact("cluster", words.one_line(of.cluster)),
        Fact("step", f"b = {of.batch}, d = {of.dim}, {words.one_line(of.dtype)}"),
        Fact("fastest that fits", words.one_line(of.fastest), "modelled"),
        *(_held(of.validation) if of.validation else ()),
    ]


def _held(validation: SimulatorValidation) -> list[Fact]:
    """Say how the simulator compares with what was counted and measured, and what was not done."""
    recorded, one_of_many, errors = validation.recorded, validation.one_of_many, validation.errors
    return [
        Fact(
            "simulated and recorded",
            _equal(recorded, "messages and payload bytes of this run"),
            "counted" if recorded else None,
        ),
        Fact(
            "one rank of many",
            _equal(one_of_many, "operations of the loss on torch's fake back end"),
            "counted" if one_of_many else None,
        ),
        Fact("error of a simulated step", _errors(errors), "measured" if errors else None),
    ]


def _equal(held: HeldAgainst | None, what: str) -> str:
    if held is None:
        return f"no {what} to compare with: siglip-verify check --bugs quick has them, of our loss"
    at = f"at W = {', '.join(f'{size:,}' for size in held.world_sizes)}"
    if held.differing:
        return f"DIFFERENT: {words.one_line(', '.join(held.differing))}, of {words.plural(held.steps, 'step')} {at}"
    return f"{what}, {words.plural(held.steps, 'step')} {at}: equal, exactly"


def _errors(errors: Sequence[StepError]) -> str:
    if not errors:
        return (
            "no calibration at hand: siglip-verify calibrate --json calibration.json, in the report folder, makes one"
        )
    by_size = groupby(errors, key=lambda each: each.world_size)
    return "; ".join(f"W = {size}: {', '.join(_off(each) for each in steps)}" for size, steps in by_size)


def _off(each: StepError) -> str:
    return f"{words.one_line(each.form)} {each.error:+.0%}"
