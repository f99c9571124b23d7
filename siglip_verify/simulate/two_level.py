"""What an exchange in two levels would cost, which this package does not have: the answer to whether it should.

Every block crosses between hosts once a host. In each of H turns the g ranks of a host hold the g blocks of one host.
They pass them around the host, both ways in autograd as `bidir` does, one way in constant memory as `shift` does; then
each rank sends one block on to its place in the next host, so that all uplinks of a host are in use at once, where a
ring that ignores hosts uses one. Backward takes the same way back; in constant memory gradients travel with their
blocks, and each comes home by one message.

All ranks do the same at the same time, so a step is a sum of hops, in closed form. In autograd blocks leave for the
next host while they go around this one; in constant memory they carry the gradient of what they met here, and cannot.
"""

from __future__ import annotations

from siglip_verify.case import itemsize
from siglip_verify.simulate import lockstep
from siglip_verify.simulate.compute import MemoryMode, block_time
from siglip_verify.simulate.fabric import Fabric
from siglip_verify.simulate.result import Setup
from siglip_verify.simulate.rounds import Round, Transfer


def two_level_step_s(setup: Setup, world_size: int, memory: MemoryMode) -> float:
    """Return the seconds of one step, forward and backward, computing and communicating in turn.

    Raises:
        UsageError: The cluster has no such world, or says nothing of the dtype.
    """
    computing_s = world_size * sum(
        block_time(setup.cluster, memory, setup.batch, setup.dim, setup.dtype, setup.chunk_size)
    )
    return computing_s + two_level_communication_s(setup, world_size, memory)


def two_level_communication_s(setup: Setup, world_size: int, memory: MemoryMode) -> float:
    """Return the seconds of communication in a step."""
    block_bytes = float(setup.batch * setup.dim * itemsize(setup.dtype))
    whole = Fabric(setup.cluster, world_size)
    inside = Fabric(setup.cluster, whole.ranks_per_host)
    if memory != "constant":
        around_s = _around_both_ways_s(inside, block_bytes)
        between_s = _hop_s(whole, block_bytes, offset=whole.ranks_per_host)
        return 2 * _turns_s(whole.num_hosts, around_s, between_s)
    gradient_bytes = float(setup.batch * setup.dim * max(itemsize(setup.dtype), 4))  # float32 or wider, as in a ring
    around_s = (whole.ranks_per_host - 1) * _hop_s(inside, block_bytes + gradient_bytes, offset=1)
    between_s = _hop_s(whole, block_bytes + gradient_bytes, offset=whole.ranks_per_host)
    home_s = _hop_s(whole, gradient_bytes, offset=whole.ranks_per_host)
    return whole.num_hosts * around_s + (whole.num_hosts - 1) * between_s + home_s


def _turns_s(num_hosts: int, around_s: float, between_s: float) -> float:
    """Go around each host's blocks once; texts leave for the next host meanwhile."""
    return (num_hosts - 1) * max(around_s, between_s) + around_s


def _around_both_ways_s(inside: Fabric, num_bytes: float) -> float:
    double, single = divmod(inside.world_size - 1, 2)
    both = Round((Transfer(num_bytes, offset=1), Transfer(num_bytes, offset=-1)), call_s=inside.cluster.call_s)
    return double * lockstep.communication_s(inside, both) + single * _hop_s(inside, num_bytes, offset=1)


def _hop_s(fabric: Fabric, num_bytes: float, *, offset: int) -> float:
    if fabric.world_size == 1 or offset % fabric.world_size == 0:
        return 0.0
    return lockstep.communication_s(fabric, Round((Transfer(num_bytes, offset=offset),), call_s=fabric.cluster.call_s))
