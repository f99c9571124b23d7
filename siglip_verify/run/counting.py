"""Counting the messages of single steps: the ranks record them, the kernel measures them, the ledger adds them up.

Here: running a step to be counted. Not here: the totals (`checks.counts`), the judgement of numbers (`judge`).
"""

from __future__ import annotations

from collections.abc import Sequence

from siglip_verify.adapt import LossSpec, LossSpecError, Traits
from siglip_verify.case import Case, DType, Exchange
from siglip_verify.checks.failures import located
from siglip_verify.checks.step_messages import step_messages
from siglip_verify.observe import attribute
from siglip_verify.result import LeftOut, StepMessages
from siglip_verify.run import step
from siglip_verify.run.declare import form_of
from siglip_verify.run.logs import read_logs
from siglip_verify.world import WorldError, Worlds


def count_step(worlds: Worlds, spec: LossSpec, traits: Traits, case: Case) -> StepMessages:
    """Run one step of a loss and return every operation of every rank, with what the kernel measured.

    A step that does not end gives what was posted by then, and says which rank failed.

    Args:
        worlds: Where the ranks are.
        spec: The loss.
        traits: What it takes.
        case: The step.

    Raises:
        LossSpecError: The loss cannot be used as declared.
        WorldError: There are no ranks to run it.
    """
    with worlds.alone(case.world_size):
        return _counted(worlds, spec, traits, case)


def _counted(worlds: Worlds, spec: LossSpec, traits: Traits, case: Case) -> StepMessages:
    """Run and read one step; whoever calls it has the world alone."""
    since_s = worlds.now_s()
    try:
        replies = worlds.run(case.world_size, step.measured_step, spec, traits, case)
    except WorldError as error:
        if not error.failures:
            raise
        logs = read_logs(error.logs, since_s)
        wire, failures = None, located(error.failures, logs.events)
    else:
        for reply, _ in replies:
            if isinstance(reply, step.Rejected):
                raise LossSpecError(reply.why)
        wire, failures = attribute([readings for _, readings in replies]), ()
        logs = read_logs(worlds.logs(case.world_size), since_s)
    return step_messages(
        case,
        logs.events,
        wire,
        form=form_of(spec, worlds.gather_backward),
        failures=failures + logs.overflowed,
        past_forward=logs.past_forward,
    )


def table_case(exchange: Exchange, world_size: int, dtypes: Sequence[DType] = ("float32",)) -> Case:
    """Return the step that stands for an exchange and world size in the message table, in float32 where taken."""
    dtype = "float32" if "float32" in dtypes else dtypes[0]
    return Case(exchange=exchange, world_size=world_size, batch=8, dim=64, dtype=dtype, seed=1)


SAMPLE_WORLD_SIZE = 5  # bidir there has two chained double hops, and a picture of it can still be read


def sample_of(steps: Sequence[StepMessages]) -> StepMessages | None:
    """Pick the step that reports show operation by operation: bidir if it is there, at the largest W up to 5."""
    small = [step for step in steps if step.case.world_size <= SAMPLE_WORLD_SIZE]
    return max(small, key=lambda step: (step.case.exchange == "bidir", step.case.world_size), default=None)


def unknown_operations(steps: Sequence[StepMessages]) -> list[LeftOut]:
    """Say which operations the recorder does not know, so that nothing was concluded from them."""
    known_by_name = sorted({event.op for step in steps for event in step.events if event.kind == "unknown"})
    return [
        LeftOut(
            what=f"unknown-operation {op}",
            why="the recorder knows only its name: it is listed and its payload counted, and nothing is concluded",
        )
        for op in known_by_name
    ]
