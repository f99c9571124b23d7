"""Which links a message takes: from rank-free transfers to flows over the ports and uplinks of a cluster.

A message within a host takes its sender's port out and its receiver's port in. A message between hosts takes the
uplink of its sender's place out and that of its receiver's place in (and no ports: network cards have their own way to
the device). With half duplex, out and in are one.

One host stands for all. Hosts are alike, and every rank does the same relative to its own place, so numbering the
hosts from another one changes nothing: rank l of every host sends, waits and computes at the same times as rank l of
every other, and as fair shares of links are unique, it stays so. So the ranks of one host are followed; a message to
another host is received by the rank of this host that has the receiver's place, over this host's own uplink in. Within
one host, or with one rank a host, all ranks are alike and one would do: there a closed form needs none (`lockstep`).
The symmetry ends where hosts differ or are not full, where ranks compute at different speeds, and where a rank plays
another part than others of its place, as in a tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from siglip_verify.simulate.cluster import Cluster, Link
from siglip_verify.simulate.rounds import Transfer

LinkId = tuple[Literal["port", "uplink"], str, int, int]
"""Port of a rank or uplink of a host; out, in or both; host; number in the host."""

Path = tuple[LinkId, LinkId]


@dataclass(frozen=True, slots=True)
class Flow:
    """One message on its way.

    Attributes:
        src, dst: Ranks, or with one host for all, places in it.
        path: The links that it takes; one that stands twice is taken twice.
        num_bytes: Its size.
        latency_s: Of its way.
        crosses: Whether it goes from host to host.
    """

    src: int
    dst: int
    path: Path
    num_bytes: float
    latency_s: float
    crosses: bool


class Fabric:
    """The links of a world on a cluster.

    Args:
        cluster: The cluster.
        world_size: W; the ranks fill whole hosts.
        every_rank: Follow all ranks in place of those of one host. It shows the same and costs as many times as much as
            there are hosts.

    Raises:
        UsageError: The cluster has no such world.
    """

    def __init__(self, cluster: Cluster, world_size: int, *, every_rank: bool = False) -> None:
        cluster.check_world_size(world_size)
        self.cluster, self.world_size = cluster, world_size
        self.ranks_per_host = min(world_size, cluster.ranks_per_host)
        self.num_hosts = world_size // self.ranks_per_host
        self.num_ranks = world_size if every_rank else self.ranks_per_host

    @property
    def is_level(self) -> bool:
        """Whether all ranks are alike: one host, or one rank a host."""
        return self.num_hosts == 1 or self.ranks_per_host == 1

    @property
    def uplinks_per_host(self) -> int:
        """How many uplinks a host has; 0 if there is one host."""
        uplinks = self.cluster.between_hosts
        return uplinks.per_host if uplinks and self.num_hosts > 1 else 0

    def bytes_per_s(self, link: LinkId) -> float:
        """Return the bandwidth of a link."""
        return self._link(crosses=link[0] == "uplink").bytes_per_s

    def flows(self, transfers: Sequence[Transfer]) -> tuple[Flow, ...]:
        """Return the messages of a round, of all ranks that are followed."""
        return tuple(self._flow(rank, transfer) for transfer in transfers for rank in range(self.num_ranks))

    def sent_bytes(self, transfers: Sequence[Transfer]) -> tuple[float, float]:
        """Return what a rank sends in a round, the mean over ranks, and what a host sends to others."""
        flows = self.flows(transfers)
        of_all = sum(flow.num_bytes for flow in flows)
        crossing = sum(flow.num_bytes for flow in flows if flow.crosses)
        return of_all / self.num_ranks, crossing * self.ranks_per_host / self.num_ranks

    def _flow(self, rank: int, transfer: Transfer) -> Flow:
        peer = transfer.peer(rank, self.world_size, self.ranks_per_host)
        crosses = rank // self.ranks_per_host != peer // self.ranks_per_host
        peer %= self.num_ranks
        return Flow(
            src=rank,
            dst=peer,
            path=(self._id(rank, crosses, "out"), self._id(peer, crosses, "in")),
            num_bytes=transfer.num_bytes,
            latency_s=self._link(crosses).latency_s,
            crosses=crosses,
        )

    def _id(self, rank: int, crosses: bool, way: str) -> LinkId:
        host, place = divmod(rank, self.ranks_per_host)
        way = way if self._link(crosses).duplex == "full" else "both"
        if crosses:
            return "uplink", way, host, place * self.uplinks_per_host // self.ranks_per_host
        return "port", way, host, place

    def _link(self, crosses: bool) -> Link:
        if not crosses:
            return self.cluster.within_host
        assert self.cluster.between_hosts, "a world of several hosts was checked to have links between them"
        return self.cluster.between_hosts
