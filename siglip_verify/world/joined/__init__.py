"""Worlds of the ranks that a launcher (torchrun, srun, mpirun ...) started, on one or more hosts.

    rank 0        main thread: draws, gives jobs, judges, reports      job thread: does them
    other ranks   main thread: answers the roll call, ends             job thread: does them
                        |                                                  |
                        +------------- the launcher's store ---------------+

Nothing is started: the process group that is there is joined, or made as the launcher says, and smaller worlds are
groups of its first ranks. A rank that dies cannot be replaced, and ends the run.
"""

from siglip_verify.world.joined.place import Place
from siglip_verify.world.joined.worlds import JoinedWorlds, serve

__all__ = ["JoinedWorlds", "Place", "serve"]
