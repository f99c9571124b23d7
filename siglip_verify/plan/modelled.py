"""What an operation becomes below the API: messages of the ring algorithms, and bytes on gloo's sockets.

Everything here is modelled: report it under that word, beside what was counted and measured. The ring messages are the
textbook algorithms. The wire bytes are gloo over TCP as measured with torch 2.13 on loopback: never extrapolate them
to NCCL.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Protocol


class Operation(Protocol):
    """What a planned and a recorded operation have in common."""

    @property
    def rank(self) -> int:
        """The rank that posts it."""
        ...

    @property
    def kind(self) -> str:
        """send, recv, or a collective."""
        ...

    @property
    def phase(self) -> str:
        """Phase: forward or backward."""
        ...

    @property
    def hop(self) -> int:
        """Index, within the phase, of the group posted together."""
        ...

    @property
    def src(self) -> int | None:
        """Sending rank of a send or recv."""
        ...

    @property
    def dst(self) -> int | None:
        """Receiving rank of a send or recv."""
        ...

    @property
    def payload_bytes(self) -> int:
        """What it hands over: numel x itemsize."""
        ...


@dataclass(frozen=True, slots=True)
class ModelledMessages:
    """The point-to-point messages that one rank sends in one collective.

    Attributes:
        messages: How many.
        message_bytes: Bytes of each; a mean where W does not divide the payload.
    """

    messages: int
    message_bytes: float

    @property
    def sent_bytes(self) -> float:
        """Bytes that the rank sends in all."""
        return self.messages * self.message_bytes


def modelled_messages(kind: str, world_size: int, payload_bytes: int) -> ModelledMessages:
    """Return the messages that one rank sends for one operation that hands over P = payload_bytes.

    all_reduce: 2 (W-1) of P/W (ring). all_gather: W-1 of P (ring). reduce_scatter: W-1 of P/W (ring). all_to_all: W-1
    of P/W, one to each other rank. A send is one message of P, a recv none.

    Raises:
        ValueError: The kind has no ring algorithm here (rooted collectives differ by rank).
    """
    others, share = world_size - 1, payload_bytes / world_size
    models = {
        "send": ModelledMessages(1, payload_bytes),
        "recv": ModelledMessages(0, 0),
        "all_reduce": ModelledMessages(2 * others, share),
        "all_gather": ModelledMessages(others, payload_bytes),
        "reduce_scatter": ModelledMessages(others, share),
        "all_to_all": ModelledMessages(others, share),
    }
    if kind not in models:
        raise ValueError(f"a ring is modelled for {', '.join(models)}; got kind={kind!r}. Show its count and payload.")
    return models[kind]


# ------------------------------------------------------------------ gloo over TCP
GLOO_PREAMBLE_BYTES = 48
GLOO_SENDER_BYTES = 2 * GLOO_PREAMBLE_BYTES
GLOO_RECEIVER_BYTES = GLOO_PREAMBLE_BYTES
GLOO_SEGMENT_BYTES = 1 << 20


def gloo_wire_bytes(operation: Operation, world_size: int) -> dict[int, int]:
    """Return what gloo's sockets of `operation.rank` send for it, by peer rank.

    A message of n bytes costs its sender n + 96 and its receiver 48 (preambles). With P = payload_bytes:

    | kind | in all | where to |
    |---|---|---|
    | send | P + 96 | dst |
    | recv | 48 | src |
    | all_gather | (W-1) (P + 288) | a ring to the right, each block in two segments; 96 (W-1) of it to the left |
    | all_to_all | (W-1) (P/W + 144) | every other rank |
    | all_reduce | 2 (W-1) P/W + 576 (W-1) | a ring to the left; 192 (W-1) of it to the right |
    | reduce_scatter | as all_reduce of all P | where a ring reduce-scatter would need half of that |
    | scatter | (W-1) (P/W + 96) from the root (src), 48 from others | from the root to all, to the root |

    Exact for send, recv, all_gather, all_to_all and scatter. An all-reduce is cut into segments of at most 1 MiB, two a
    rank or more, and its rounding to segments is not modelled: exact where W times the segments a rank divide P into
    multiples of 16 bytes. A collective that hands over nothing sends nothing, save all_to_all; a message of no bytes is
    sent.

    Raises:
        ValueError: What gloo does for this kind was not measured.
    """
    rank, kind, payload_bytes, others = operation.rank, operation.kind, operation.payload_bytes, world_size - 1
    right, left = (rank + 1) % world_size, (rank - 1) % world_size
    wire: Counter[int] = Counter()
    if kind == "send" and operation.dst is not None:
        wire[operation.dst] = payload_bytes + GLOO_SENDER_BYTES
    elif kind == "recv" and operation.src is not None:
        wire[operation.src] = GLOO_RECEIVER_BYTES
    elif kind == "all_to_all":
        for peer in range(world_size):
            if peer != rank:
                wire[peer] = payload_bytes // world_size + GLOO_SENDER_BYTES + GLOO_RECEIVER_BYTES
    elif kind == "all_gather":
        wire.update(_gloo_ring(others * payload_bytes, 2 * others if payload_bytes else 0, to=right, back=left))
    elif kind == "scatter" and operation.src is not None:
        if rank == operation.src:
            wire.update(dict.fromkeys(range(world_size), payload_bytes // world_size + GLOO_SENDER_BYTES))
            del wire[rank]
        else:
            wire[operation.src] = GLOO_RECEIVER_BYTES
    elif kind in ("all_reduce", "reduce_scatter"):
        segments = max(2, -(-payload_bytes // (world_size * GLOO_SEGMENT_BYTES))) if payload_bytes else 0
        sent_bytes = round(2 * others * payload_bytes / world_size)
        wire.update(_gloo_ring(sent_bytes, 2 * others * segments, to=left, back=right))
    else:
        raise ValueError(f"gloo's wire bytes are known for P2P and the collectives of the exchanges; got kind={kind!r}")
    return {peer: num_bytes for peer, num_bytes in wire.items() if num_bytes}


def _gloo_ring(sent_bytes: int, messages: int, *, to: int, back: int) -> Counter[int]:
    """Return one rank's part of a ring: `messages` sent one way, as many received from the other."""
    wire = Counter({to: sent_bytes + messages * GLOO_SENDER_BYTES})
    wire[back] += messages * GLOO_RECEIVER_BYTES
    return wire
