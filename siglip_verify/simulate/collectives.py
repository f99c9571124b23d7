"""What a collective costs, by algorithm.

With W ranks on H hosts of g, P bytes handed over, alpha and beta of the links:

| | all_gather | reduce_scatter | all_reduce | all_to_all |
|---|---|---|---|---|
| ring | W-1 steps of P | W-1 steps of P/W | 2 (W-1) steps of P/W | none: W-1 messages of P/W at once |
| recursive-doubling | log W steps of P, 2P, 4P ... | P/2, P/4 ... | both in turn | log W steps of P/2 |
| tree | as ring | as ring | up and down a tree, pipelined | as ring |

**ring**: as many rings as a host has uplinks, each with its part of the bytes and its own way out of the host, as NCCL
lays them. Messages stream: each step costs a piece the latency of the link that it goes over, and every step the time
of the busiest link, so n steps cost n (mean alpha + bytes beta on the busiest link). This is NCCL's own reckoning
(`tuning.cc`); where all ranks are alike it is the textbook's n (alpha + m beta), and elsewhere it lies between that of
rings that hide all latencies and of rings that wait at every step.
**recursive-doubling** (Thakur, Rabenseifner and Gropp 2005, Optimization of Collective Communication Operations in
MPICH): partners r XOR 1, 2, 4 ... In reduce_scatter the large halves go to near ranks first, and back in all_gather, so
that little crosses hosts. For powers of two alone.
**tree**: NCCL's for all_reduce: a chain within each host, two binary trees between them (Sanders, Speck and Traeff
2009, Two-tree algorithms for full bandwidth broadcast, reduction and scan), all uplinks in use, cut so finely that only
latencies and the busiest link count: 2 ((g-1) alpha + ceil(log H) alpha) + 2 P beta. NCCL has no tree for the others
with several ranks a host.
**at once**: in place of a ring, an all_to_all posts a message to every other rank and waits for all of them, as gloo
does (`gloo/alltoall.cc`): one latency, and W-2 messages beside the first. All ranks use all links alike, so that the
busiest link tells, on any hosts.

The time of adding numbers up is left out.
"""

from __future__ import annotations

import math
import typing
from typing import Literal

import msgspec

from siglip_verify.errors import UsageError
from siglip_verify.simulate import lockstep
from siglip_verify.simulate.cluster import Link
from siglip_verify.simulate.fabric import Fabric
from siglip_verify.simulate.rounds import Loop, Program, Round, Transfer

Algorithm = Literal["ring", "tree", "recursive-doubling"]

ALGORITHMS: tuple[Algorithm, ...] = typing.get_args(Algorithm)
KINDS = ("all_reduce", "all_gather", "all_to_all", "reduce_scatter")
_FOR_ANY_WORLD: tuple[Algorithm, ...] = ("ring", "tree")


class CollectiveCost(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a collective.

    Attributes:
        algorithm: As it was done; "at once" for an all_to_all by ring.
        seconds: From the call to its end.
        sent_bytes: What a rank sends, the mean over ranks.
        host_bytes: What leaves a host.
    """

    algorithm: str
    seconds: float
    sent_bytes: float
    host_bytes: float


def collective_cost(
    fabric: Fabric, kind: str, payload_bytes: int, algorithm: Algorithm | None = None
) -> CollectiveCost:
    """Return what one call costs if all ranks call at once.

    Args:
        fabric: The links.
        kind: The collective, one of `KINDS`.
        payload_bytes: What a rank hands over, P.
        algorithm: How it is done; None is the fastest, as libraries choose.

    Raises:
        ValueError: There is no such collective.
        UsageError: The algorithm cannot be used with so many ranks.
    """
    if kind not in KINDS:
        raise ValueError(f"a collective is one of {', '.join(KINDS)}; got {kind!r}")
    if algorithm is not None:
        return _cost(fabric, kind, payload_bytes, algorithm)
    possible = ALGORITHMS if _doubles(fabric) else _FOR_ANY_WORLD
    return min((_cost(fabric, kind, payload_bytes, each) for each in possible), key=lambda cost: cost.seconds)


def _cost(fabric: Fabric, kind: str, payload_bytes: int, algorithm: Algorithm) -> CollectiveCost:
    if algorithm == "recursive-doubling":
        if not _doubles(fabric):
            raise UsageError(
                f"recursive doubling pairs ranks by powers of two; got W = {fabric.world_size} with "
                f"{fabric.ranks_per_host} ranks a host: take ring or tree, or powers of two"
            )
        return _of_flips(fabric, _doubling(kind, fabric.world_size, payload_bytes))
    if algorithm == "tree" and kind == "all_reduce":
        return _tree(fabric, payload_bytes)
    if kind == "all_to_all":
        return _at_once(fabric, payload_bytes)
    return _rings(fabric, kind, payload_bytes)


def _doubles(fabric: Fabric) -> bool:
    return all(size & (size - 1) == 0 for size in (fabric.world_size, fabric.ranks_per_host))


# ------------------------------------------------------------------ ring
def _rings(fabric: Fabric, kind: str, payload_bytes: int) -> CollectiveCost:
    """Reckon the rings of a host side by side, in each step one message a rank and ring."""
    others = fabric.world_size - 1
    steps = 2 * others if kind == "all_reduce" else others
    step_bytes = payload_bytes if kind == "all_gather" else payload_bytes / fabric.world_size
    rings = max(1, fabric.uplinks_per_host)
    turns = [ring * fabric.ranks_per_host // rings for ring in range(rings)]
    flows = fabric.flows([Transfer(step_bytes / rings, offset=1, turn=turn) for turn in turns])
    latency_s = math.fsum(flow.latency_s for flow in flows) / len(flows)
    busiest_s = max(lockstep.busy_seconds(fabric, flows).values())
    return CollectiveCost(
        algorithm="ring",
        seconds=fabric.cluster.collective_call_s + steps * (latency_s + busiest_s),
        sent_bytes=steps * step_bytes,
        host_bytes=steps * sum(flow.num_bytes for flow in flows if flow.crosses),
    )


# ------------------------------------------------------------------ all messages at once
def _at_once(fabric: Fabric, payload_bytes: int) -> CollectiveCost:
    """Send its part to each other rank, all posted together: those in the host by ports, the others by uplinks."""
    world_size, g = fabric.world_size, fabric.ranks_per_host
    part = payload_bytes / world_size
    host_bytes = g * (world_size - g) * part
    ways_s = [0.0]
    if g > 1:
        ways_s.append(_way_s(fabric.cluster.within_host, (g - 1) * part))
    if fabric.num_hosts > 1 and (uplinks := fabric.cluster.between_hosts):
        ways_s.append(_way_s(uplinks, host_bytes / uplinks.per_host))
    further = max(0, world_size - 2)
    return CollectiveCost(
        algorithm="at once",
        seconds=fabric.cluster.collective_call_s + further * fabric.cluster.message_s + max(ways_s),
        sent_bytes=(world_size - 1) * part,
        host_bytes=host_bytes,
    )


def _way_s(link: Link, num_bytes: float) -> float:
    return link.latency_s + _both_ways(link.duplex) * num_bytes / link.bytes_per_s


# ------------------------------------------------------------------ recursive doubling
def _doubling(kind: str, world_size: int, payload_bytes: float) -> Program:
    """Exchange with r XOR 1, 2, 4 ...; or the other way round where messages grow."""
    flips = [1 << level for level in range(world_size.bit_length() - 1)]
    if kind == "all_reduce":
        halving = _doubling("reduce_scatter", world_size, payload_bytes)
        return halving + _doubling("all_gather", world_size, payload_bytes / world_size)
    if kind == "all_gather":
        sizes = [payload_bytes * (world_size // flip // 2) for flip in flips]
        return tuple(
            Loop((Round((Transfer(size, flip=flip),)),))
            for flip, size in zip(reversed(flips), reversed(sizes), strict=True)
        )
    sizes = [payload_bytes / (2 if kind == "all_to_all" else 2 * flip) for flip in flips]
    return tuple(Loop((Round((Transfer(size, flip=flip),)),)) for flip, size in zip(flips, sizes, strict=True))


def _of_flips(fabric: Fabric, program: Program) -> CollectiveCost:
    """Time rounds in which all ranks cross hosts or none does, and add up their bytes."""
    sent = [(loop.times, *fabric.sent_bytes(each.transfers)) for loop in program for each in loop.rounds]
    return CollectiveCost(
        algorithm="recursive-doubling",
        seconds=fabric.cluster.collective_call_s + lockstep.seconds(fabric, program),
        sent_bytes=sum(times * sent_bytes for times, sent_bytes, _ in sent),
        host_bytes=sum(times * host_bytes for times, _, host_bytes in sent),
    )


# ------------------------------------------------------------------ tree
def _tree(fabric: Fabric, payload_bytes: int) -> CollectiveCost:
    """Reckon an all-reduce up a tree and down again, both pipelined and at the same time."""
    within, between = fabric.cluster.within_host, fabric.cluster.between_hosts
    latency_s, busy_s, host_bytes = 0.0, [0.0], 0.0
    if fabric.ranks_per_host > 1:
        latency_s += (fabric.ranks_per_host - 1) * within.latency_s
        busy_s.append(_both_ways(within.duplex) * payload_bytes / within.bytes_per_s)
    if fabric.num_hosts > 1 and between:
        latency_s += math.ceil(math.log2(fabric.num_hosts)) * between.latency_s
        busy_s.append(_both_ways(between.duplex) * payload_bytes / (between.bytes_per_s * between.per_host))
        host_bytes = 2.0 * payload_bytes
    return CollectiveCost(
        algorithm="tree",
        seconds=fabric.cluster.collective_call_s + 2 * latency_s + 2 * max(busy_s),
        sent_bytes=2 * payload_bytes * (fabric.world_size - 1) / fabric.world_size,
        host_bytes=host_bytes,
    )


def _both_ways(duplex: str) -> int:
    """How often what passes a link passes it, in and out counted apart."""
    return 1 if duplex == "full" else 2
