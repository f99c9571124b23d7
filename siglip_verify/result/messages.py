"""What was sent in single steps: operation by operation, and in totals.

Here: records of counted steps, those of a checked loss and those of `siglip-verify messages`. Not here: the operations
themselves (`records.Event`).
"""

from __future__ import annotations

import msgspec

from siglip_verify.case import Case, Exchange
from siglip_verify.records import Event, Finding, Phase, RankFailure, Verdict, WireCount
from siglip_verify.result.verdict import worst


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


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """One message that arrived: the send and the receive that took it, each by rank and sequence number."""

    src_rank: int
    src_sequence: int
    dst_rank: int
    dst_sequence: int


class StepMessages(msgspec.Struct, frozen=True, kw_only=True):
    """Every operation of one step.

    Attributes:
        case: The step.
        events: What all ranks posted, by rank and in order; of a step that did not end, what was posted by then.
        wire: What the kernel says each rank sent to each peer in each phase; None where it does not say.
        matches: Which receive took which send.
        findings: What is wrong with the messages.
        failures: Ranks that gave no record, or not a whole one.
        notes: Operations that the recorder does not know.
        payload_matrix: Payload bytes of messages from each rank (row) to each rank (column), counted.
        wire_matrix: Bytes that each rank's sockets sent to each rank, measured; None where the kernel does not say.
    """

    case: Case
    events: tuple[Event, ...]
    wire: tuple[WireCount, ...] | None
    matches: tuple[Match, ...] = ()
    findings: tuple[Finding, ...] = ()
    failures: tuple[RankFailure, ...] = ()
    notes: tuple[str, ...] = ()
    payload_matrix: tuple[tuple[int, ...], ...] = ()
    wire_matrix: tuple[tuple[int, ...], ...] | None = None

    @property
    def verdict(self) -> Verdict:
        """Say mismatch if anything was found, unknown if a rank failed, else pass; of messages, not of numbers."""
        if self.findings:
            return "mismatch"
        return "unknown" if self.failures else "pass"


class RankTotal(msgspec.Struct, frozen=True, kw_only=True):
    """What one rank does in one step, forward and backward together.

    Attributes:
        rank: The rank.
        sends, receives, collectives: How many it posted; an operation of unknown kind counts as a collective.
        payload_bytes: What it hands over in sends and collectives.
        wire_bytes, segments: What the kernel says its sockets sent; None where it does not say.
        modelled_wire_bytes: What gloo should send for these operations; None where no model is known for one of them.
    """

    rank: int
    sends: int
    receives: int
    collectives: int
    payload_bytes: int
    wire_bytes: int | None
    segments: int | None
    modelled_wire_bytes: int | None


class CollectiveRow(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of collective in a step, and what it is as messages of a ring algorithm.

    Attributes:
        exchange, phase, kind: Which.
        calls: How often rank 0 calls it, counted.
        payload_bytes: What rank 0 hands over a call, counted (the largest, where they differ).
        ring_messages, ring_bytes: What a rank sends in all calls by the ring algorithm, modelled; None where there is
            none (rooted collectives).
    """

    exchange: Exchange
    phase: Phase
    kind: str
    calls: int
    payload_bytes: int
    ring_messages: int | None
    ring_bytes: int | None


class GatherBackwardCost(msgspec.Struct, frozen=True, kw_only=True):
    """What it costs a rank to bring gather's gradients home by some collective.

    Attributes:
        collective: Which, in words.
        calls: How many calls it takes.
        payload_bytes: What a rank hands over.
        ring_bytes: What a rank must send by the best algorithm, modelled.
        modelled_wire_bytes: What gloo's sockets should send.
        wire_bytes: What they did send, measured on the spot (maximum over ranks); None where the kernel does not say.
        note: Why.
    """

    collective: str
    calls: int
    payload_bytes: int
    ring_bytes: int
    modelled_wire_bytes: int
    wire_bytes: int | None
    note: str

    @property
    def times_needed(self) -> float | None:
        """How many times the bytes that must be sent are on the wire, measured."""
        return None if self.wire_bytes is None else self.wire_bytes / self.ring_bytes


class MessageReport(msgspec.Struct, frozen=True, kw_only=True):
    """The finished result of counting one step of one loss, and its other exchanges beside it.

    Attributes:
        name, target, declared: The loss, as in `LossResult`.
        step: The step, operation by operation.
        wrong_beside: Steps of other exchanges in which something is wrong.
        totals: What each rank does.
        rows: Plan, count, wire and lower bound of each exchange that was counted at this step's size.
        collectives: The collectives of these, as messages of ring algorithms.
        gather_backward: What gather's backward costs by one collective or another; empty with one rank.
        environment: Versions and machine, in words.
    """

    name: str
    target: str
    declared: str
    step: StepMessages
    totals: tuple[RankTotal, ...]
    rows: tuple[MessageRow, ...]
    collectives: tuple[CollectiveRow, ...]
    gather_backward: tuple[GatherBackwardCost, ...]
    environment: dict[str, str]
    wrong_beside: tuple[StepMessages, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Say the worst of the steps' verdicts; of messages, not of numbers."""
        return worst(step.verdict for step in (self.step, *self.wrong_beside))
