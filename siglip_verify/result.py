"""The finished result of a run: one object, from which every report is rendered.

Here: frozen records that survive JSON, and the schema version. Not here: any computation, any rendering.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from siglip_verify.case import Case, Exchange
from siglip_verify.records import CaseResult, Cell, Counterexample, Event, Finding, Verdict, WireCount

SCHEMA_VERSION = 1

Basis = Literal["counted", "measured", "modelled"]


class MessageRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one rank sends in one step of one exchange at one world size.

    Attributes:
        exchange: The exchange.
        world_size: W.
        batch, dim, dtype: The step.
        planned_messages: Point-to-point sends a rank, forward + backward, from the plan; None for a loss without one.
        planned_collectives: Collectives a rank, from the plan.
        planned_payload_bytes: Payload that a rank hands over, from the plan.
        counted_messages, counted_collectives, counted_payload_bytes: The same, counted by the recorder (maximum over
            ranks); None where recording was off.
        counted_hops: Hops in forward.
        wire_bytes: What the kernel says a rank's sockets sent in the step, measured (maximum over ranks); None where
            the kernel does not say.
        lower_bound_bytes: What any exchange must send a rank, modelled.
        operations: What was counted, in words, such as `2 send, 1 all_gather`.
        note: Why it differs from ours or from the plan.
    """

    exchange: Exchange
    world_size: int
    batch: int
    dim: int
    dtype: str
    planned_messages: int | None
    planned_collectives: int | None
    planned_payload_bytes: int | None
    counted_messages: int | None
    counted_collectives: int | None
    counted_payload_bytes: int | None
    counted_hops: int | None
    wire_bytes: int | None
    lower_bound_bytes: int
    operations: str = ""
    note: str = ""


class StepMessages(msgspec.Struct, frozen=True, kw_only=True):
    """Every operation of one step.

    Attributes:
        case: The step.
        events: What all ranks posted, by rank and in order.
        wire: What the kernel says each rank sent to each peer in each phase; None where it does not say.
        findings: What is wrong with the messages.
    """

    case: Case
    events: tuple[Event, ...]
    wire: tuple[WireCount, ...] | None
    findings: tuple[Finding, ...] = ()


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was not checked on a loss, and why."""

    what: str
    why: str


class LossResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of one loss.

    Attributes:
        name: What to call it.
        target: Where it is.
        declared: Its convention and arguments, in words.
        verdict: The worst over its cells.
        cells: One for each exchange and world size.
        counterexamples: Shrunk; at most one for each exchange and world size.
        unknowns: Cases that came to no judgement.
        left_out: Dimensions that were not checked, and why.
        messages: What it sends, for the steps that were counted.
    """

    name: str
    target: str
    declared: str
    verdict: Verdict
    cells: tuple[Cell, ...]
    counterexamples: tuple[Counterexample, ...] = ()
    unknowns: tuple[CaseResult, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    messages: tuple[MessageRow, ...] = ()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The finished result.

    Attributes:
        schema_version: Of this record; readers refuse another.
        verdict: mismatch if anything is one, else unknown if anything is, else pass.
        started_at: UTC, ISO 8601.
        elapsed_s: Wall-clock seconds of the run, measured.
        cases: Distinct cases judged, counted.
        environment: Versions and machine, in words.
        settings: The effective settings and where each came from.
        losses: One for each loss checked.
    """

    schema_version: int = SCHEMA_VERSION
    verdict: Verdict
    started_at: str
    elapsed_s: float
    cases: int
    environment: dict[str, str]
    settings: dict[str, str]
    losses: tuple[LossResult, ...]

    @property
    def counterexamples(self) -> tuple[Counterexample, ...]:
        """Every counterexample, of every loss."""
        return tuple(found for loss in self.losses for found in loss.counterexamples)

    @property
    def unknowns(self) -> tuple[CaseResult, ...]:
        """Every case that came to no judgement, of every loss."""
        return tuple(case for loss in self.losses for case in loss.unknowns)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return mismatch if there is one, else unknown if there is one or if there is no verdict at all, else pass."""
    found = set(verdicts)
    if "mismatch" in found:
        return "mismatch"
    return "pass" if found == {"pass"} else "unknown"
