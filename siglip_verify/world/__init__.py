"""Worlds: groups of real processes, one for each world size, kept warm between runs.

Three kinds of process. The *parent* (where `Worlds` lives) hands out work and judges who failed; it never runs the
function itself. The *template* has torch imported, runs no user code and forks the ranks; when the parent is gone, by
whatever death, it kills them all and removes the private folder. The *ranks* form one gloo group and call what the
parent sends.

    parent -- socket -- template
       |                  | forks
       +----- socket -- rank 0 --+
       +----- socket -- rank 1 --+ gloo over loopback

Here: starting, supervising and ending processes, and saying what happened to them. Not here: what is run in them.

Linux first: that no process outlives its parent (PR_SET_PDEATHSIG, pidfd), that a stopped rank is told from a silent
one (/proc) and that logs need no file (memfd) is asked of the Linux kernel. On other POSIX systems the same code runs
on what is left: sockets that report their other end's death.
"""

from siglip_verify.world.context import LOG_BYTES, RankContext, context
from siglip_verify.world.errors import WorldError
from siglip_verify.world.pool import Worlds
from siglip_verify.world.template import CHECKPOINTS
from siglip_verify.world.warm import WarmWorld
from siglip_verify.world.world import World

__all__ = ["CHECKPOINTS", "LOG_BYTES", "RankContext", "WarmWorld", "World", "WorldError", "Worlds", "context"]
