"""The reference implementation of the distributed SigLIP loss.

This folder imports torch and nothing else: copy it out of the repository and it runs. It knows nothing of verification.

    siglip      SigLipLoss: checks its arguments, then sums one block loss per rank's texts
    block       the loss of one rank's images against one rank's texts
    exchanges/  the ways in which every rank comes to see every other rank's texts, one file each
    ring        the differentiable exchange with a neighbour, on which `bidir` and `shift` stand
    ranks       who is who in the process group
    validate    errors that name the value and the mend, before anything is sent

The same in constant memory, without autograd:

    constant    the loss whose gradients are there before backward
    recompute   the loss whose blocks are exchanged again in backward
    walk        one walk around the ranks: an exchange shows texts, sums answer
    closed_form the loss of a block and its gradients by formula, added up over blocks
    exchanges/constant/  the same ways, with each block's gradient as a companion
    stream      blocks that travel with their gradients, on which those stand

Where ranks may differ:

    agree       what the ranks tell each other before a step
    ragged      ranks with different numbers of rows
"""

from .siglip import SigLipLoss

__all__ = ["SigLipLoss"]
