"""Counting the messages of single steps: the ranks record them, the kernel measures them, the ledger adds them up.

Here: running a step to be counted. Not here: the totals (`check.counts`), the judgement of numbers (`judge`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from siglip_verify.adapt import LossSpec, LossSpecError, Traits
from siglip_verify.case import Case, Exchange
from siglip_verify.check import messages
from siglip_verify.check.counts import message_row
from siglip_verify.observe import attribute, read_log
from siglip_verify.result import MessageRow, StepMessages
from siglip_verify.run import step
from siglip_verify.world import WorldError, Worlds


def count_step(worlds: Worlds, spec: LossSpec, traits: Traits, case: Case) -> StepMessages:
    """Run one step of a loss and return every operation of every rank, with what the kernel measured.

    Raises:
        LossSpecError: The loss cannot be used as declared.
        WorldError: A rank gave no record.
    """
    replies = worlds.run(case.world_size, step.measured_step, spec, traits, case)
    for reply, _ in replies:
        if isinstance(reply, step.Rejected):
            raise LossSpecError(reply.why)
    world = worlds.world(case.world_size)
    events = [event for rank in range(case.world_size) for event in read_log(world.log(rank), rank)]
    wire = attribute([readings for _, readings in replies])
    return StepMessages(
        case=case,
        events=tuple(events),
        wire=None if wire is None else tuple(wire),
        findings=messages.lint(
            events,
            world_size=case.world_size,
            dtype=case.dtype,
            feature_numel=case.batch * case.dim,
            waits_seen=True,
        ),
    )


def message_table(
    worlds: Worlds, spec: LossSpec, traits: Traits, steps: Iterable[tuple[Exchange, int]]
) -> Iterator[MessageRow]:
    """Count one step of each exchange and world size, and total each to one row of the message table."""
    for exchange, world_size in steps:
        case = Case(exchange=exchange, world_size=world_size, batch=8, dim=64, dtype="float32", seed=1)
        try:
            counted = count_step(worlds, spec, traits, case)
        except WorldError:
            continue  # it failed on these features and not on its cases: there is nothing to count
        yield message_row(case, counted.events, counted.wire)
