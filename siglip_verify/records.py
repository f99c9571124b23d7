"""The frozen records that cross from ranks to judgement and from judgement to reports.

Here: what was seen in the ranks, and what was made of it. Not here: any computation on them.
All of them survive pickling (rank -> parent); those from `Share` on survive JSON (result -> report).
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from siglip_verify.case import Case, DType, Exchange

Verdict = Literal["pass", "mismatch", "unknown"]
Phase = Literal["forward", "backward"]
Quantity = Literal[
    "loss",  # mean over ranks of the local losses
    "local_loss",  # each rank's own value, where the loss declares row-wise local values
    "image_grad",
    "text_grad",
    "scale_grad",
    "bias_grad",
    "local_scale_grad",
    "local_bias_grad",
]


# ------------------------------------------------------------------ what a rank saw
class RankRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What one rank computed in one step: everything as float64, exactly as the rank's dtype held it.

    A gradient is None where the rank's leaf had none after backward. Arrays: image_grad and text_grad [b, d].
    `changed_inputs` names those of images, texts, scale and bias that did not hold the same numbers after the step.
    """

    rank: int
    loss: float
    image_grad: NDArray[np.float64] | None
    text_grad: NDArray[np.float64] | None
    scale_grad: float | None
    bias_grad: float | None
    changed_inputs: tuple[str, ...] = ()


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One communication operation of one rank, as recorded.

    Attributes:
        rank: The rank (of the group) that posted it.
        sequence: 0, 1, 2 ... in the order in which the rank posted.
        kind: send, recv, all_reduce, all_gather, reduce_scatter, all_to_all, broadcast, reduce, gather, scatter,
            barrier, or unknown.
        op: The dispatcher's name of the operation, such as `c10d::send`.
        phase: forward or backward.
        hop: Index, within the phase, of the group of operations that were posted together.
        src: Sending rank for send and recv, root for rooted collectives, else None.
        dst: Receiving rank for send and recv, else None.
        tag: Tag of send and recv, else None.
        dtype: Such as `float32`.
        shape: Shape of what the operation hands over.
        payload_bytes: numel x itemsize of what the operation hands over (for recv: of the buffer).
        posted_s: When it was posted, seconds of the monotonic clock (one clock for all ranks of a host).
        returned_s: When waiting for it returned; None if that was not seen.
        group: Name of the process group in use, the same on all its ranks (src and dst are ranks of this group).
    """

    rank: int
    sequence: int
    kind: str
    op: str
    phase: Phase
    hop: int
    src: int | None
    dst: int | None
    tag: int | None
    dtype: str
    shape: tuple[int, ...]
    payload_bytes: int
    posted_s: float
    returned_s: float | None
    group: str = ""


class WireCount(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel says one rank's sockets sent to one peer in one phase (retransmissions left out)."""

    rank: int
    peer: int
    phase: Phase
    wire_bytes: int
    segments: int


class RankFailure(msgspec.Struct, frozen=True, kw_only=True):
    """Why one rank gave no record.

    Attributes:
        rank: The rank.
        kind: raised (an exception), died (the process ended), hung (no answer in time), stopped (SIGSTOP).
        blamed: False for a rank that only suffers from another's failure (its peer went away, or it waits for one).
        detail: One sentence: exception and message, exit status or signal by name, where it hangs.
        reached: How far its messages had come, such as `in forward hop 1 (send)`; empty where that is not known.
        traceback: The rank's traceback, or its Python stack at the time of the hang; empty if there was none.
        stderr_tail: Last lines that the rank wrote to stdout or stderr.
    """

    rank: int
    kind: Literal["raised", "died", "hung", "stopped"]
    blamed: bool
    detail: str
    reached: str = ""
    traceback: str = ""
    stderr_tail: str = ""


# ------------------------------------------------------------------ what was made of it
class Share(msgspec.Struct, frozen=True, kw_only=True):
    """The worst error of one quantity in one case, as a share of its bound (1.0 is the bound).

    A `note` says what no number can: a gradient that is missing, or of another shape.
    """

    quantity: Quantity
    share: float
    rank: int | None
    index: tuple[int, ...]
    expected: float
    observed: float | None
    error: float
    bound: float
    note: str = ""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A fault in what was sent, kept or overwritten, by name, whatever the numbers say. Always a mismatch."""

    name: str
    detail: str
    rank: int | None = None


class CaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """The judgement of one case.

    Attributes:
        case: The input.
        verdict: pass, mismatch or unknown.
        shares: Worst share of each quantity judged; empty when unknown.
        findings: Faults in the messages.
        failures: Ranks that gave no record; empty unless the verdict is unknown (or a finding outranks it).
        reason: Why there were no ranks to run it; empty where there were.
        elapsed_s: Wall-clock seconds, measured in the parent.
    """

    case: Case
    verdict: Verdict
    shares: tuple[Share, ...] = ()
    findings: tuple[Finding, ...] = ()
    failures: tuple[RankFailure, ...] = ()
    reason: str = ""
    elapsed_s: float = 0.0


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """All cases of one exchange at one world size.

    Attributes:
        exchange: The exchange.
        world_size: W.
        verdict: The worst of its cases; `unknown` where not one case was run.
        cases: Number of distinct cases judged.
        unknown_cases: How many of those came to no judgement.
        worst: For each quantity judged, the worst share of its bound and the case line that gave it.
        shares: For each quantity judged, the share of its bound in every case, to three digits.
        by_dtype: The same cases by the dtype of their features.
        elapsed_s: Seconds in these cases, measured.
        note: Why cases were left out, if they were.
    """

    exchange: Exchange
    world_size: int
    verdict: Verdict
    cases: int
    unknown_cases: int
    worst: dict[Quantity, Worst]
    elapsed_s: float
    note: str = ""
    shares: dict[Quantity, tuple[float, ...]] = {}
    by_dtype: dict[DType, DTypeShares] = {}


class DTypeShares(msgspec.Struct, frozen=True, kw_only=True):
    """How many cases had features of one dtype, and the worst share of each quantity in them."""

    cases: int
    worst: dict[Quantity, float]


class Worst(msgspec.Struct, frozen=True, kw_only=True):
    """The worst share of one quantity over some cases, and the case that gave it."""

    share: float
    case: str


class Matrix(msgspec.Struct, frozen=True, kw_only=True):
    """One number for each pair of ranks, and what it should be.

    Attributes:
        title: What is counted.
        rows, columns: What rank i of a row and rank j of a column stand for.
        values: W rows of W numbers; nan where nothing can be said.
        expected: The same for a right loss.
    """

    title: str
    rows: str
    columns: str
    values: tuple[tuple[float, ...], ...]
    expected: tuple[tuple[float, ...], ...]


class Clue(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of evidence: what it is about, and what it says."""

    title: str
    text: str


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a loss, in words that name ranks and cause, and what that rests on.

    Attributes:
        sentence: What is wrong. It was held against the numbers before it was said; where nothing known fits, it says
            so.
        cause: The name of the hypothesis, such as `blocks-unseen`; `unknown` where none fits.
        evidence: What the sentence rests on, plainest first.
        matrices: Which rank counts, hears and labels whose texts; empty where that could not be seen.
        fails_at: World sizes at which the same case fails.
        passes_at: World sizes at which it passes.
        smallest_world_size, smallest_batch: W and b of the shrunk case.
    """

    sentence: str
    cause: str
    evidence: tuple[Clue, ...] = ()
    matrices: tuple[Matrix, ...] = ()
    fails_at: tuple[int, ...] = ()
    passes_at: tuple[int, ...] = ()
    smallest_world_size: int
    smallest_batch: int


class Counterexample(msgspec.Struct, frozen=True, kw_only=True):
    """A case that fails, shrunk, with the line that replays it.

    Attributes:
        result: The judgement of the shrunk case.
        replay: A shell line that runs this case again.
        calls: How many cases Hypothesis tried from the first failure to the shrunk one.
        reproducible: False where a second run of the same case did not fail (a race).
        diagnosis: What is wrong, in words; None where no diagnosis was made.
    """

    result: CaseResult
    replay: str
    calls: int
    reproducible: bool = True
    diagnosis: Diagnosis | None = None
