"""The catalogue: real bugs of distributed contrastive losses, each planted in a correct loss, and controls.

A verifier is worth what it catches: `CATALOGUE` says of every bug where it must show and how, `CONTROLS` are losses
that are written differently and are right. One family a file; in each plant the line that is wrong says so.

    entry          what is said of an entry: Bug, Control, Where
    verdict        how a bug showed, held against what its entry says
    plant          the correct loss in parts
    companions     the correct loss in constant memory in parts
    gradient       gradients that do not come home from collectives
    ring           hops and neighbours, forward and backward
    labels         positives on the wrong pairs
    constant       gradients that travel with their blocks, in constant memory
    normaliser     divisors, factors and chunks
    terms          scale, bias and images lost or detached
    collectives    aliased, rooted, unmatched; ranks taken for others
    wire           dtype, layout, size and waiting of messages
    outside        what no number shows
    controls       right, though written differently
"""

from siglip_verify.bugs import collectives, constant, gradient, labels, normaliser, outside, ring, terms, wire
from siglip_verify.bugs.controls import CONTROLS
from siglip_verify.bugs.entry import Bug, Control, Loss, Outcome, Where
from siglip_verify.bugs.plant import Plant

__all__ = ["CATALOGUE", "CONTROLS", "Bug", "Control", "Loss", "Outcome", "Where", "make"]

_FAMILIES = (gradient, ring, constant, labels, normaliser, terms, collectives, wire, outside)

CATALOGUE: dict[str, Bug] = {bug.id: bug for family in _FAMILIES for bug in family.BUGS}


def make(rank: int, world_size: int, exchange: str, bug: str = "", chunk_size: int = 0) -> Loss:
    """Return the loss of one rank with a bug planted in it; the adapter's target `siglip_verify.bugs:make`.

    Args:
        rank: This process's rank.
        world_size: W.
        exchange: Which exchange; one in which the bug can be planted.
        bug: Id of the catalogue; without it the loss is correct.
        chunk_size: Rows of logits held at once; 0 is all.

    Raises:
        ValueError: No such bug, or not in this exchange.
    """
    if bug and bug not in CATALOGUE:
        raise ValueError(f"bug must be one of {', '.join(sorted(CATALOGUE))}; got bug={bug!r}")
    plant = CATALOGUE[bug].make if bug else Plant()
    if exchange not in plant.exchanges:
        raise ValueError(f"{bug} can be planted in {', '.join(plant.exchanges)} alone; got exchange={exchange!r}")
    return plant(rank, world_size, exchange, chunk_size)
