"""Gradients that travel with their blocks, and are lost, doubled or delivered elsewhere on the way.

The loss is right in all of them: only gradients tell, those of texts as a rule.
Here: the constant-memory form. Not here: the same faults where autograd brings gradients home (`gradient`, `ring`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from siglip_verify.bugs.companions import STREAMS, Companions, Direction, Stream, share_added, sum_of_all
from siglip_verify.bugs.entry import Bug, Where, neighbour_of, seen_in, thread
from siglip_verify.bugs.plant import differentiable
from siglip_verify.loss.ranks import Ranks
from siglip_verify.loss.ring import Route

_SHIFT = {"shift": STREAMS["shift"]}


def _not_sent_home(own: Tensor, homes: Sequence[Tensor]) -> Tensor:
    return own  # bug: what the blocks gathered on their way stays where it ended


def _own_once_more(own: Tensor, homes: Sequence[Tensor]) -> Tensor:
    return sum_of_all(own, homes) + own  # bug: the own share is in the sum already


def _added_twice(came_along: Tensor | None, stream: Stream) -> Tensor:
    return share_added(came_along, stream) + stream.shares[-1]  # bug: once when the block comes, once when it goes


def _text_alone(stream: Stream) -> Tensor:
    return stream.text  # bug: the gradient that the block came with stays behind


def _late_share(came_along: Tensor | None, stream: Stream) -> Tensor:
    late = stream.shares[-2]  # bug: the share of the block before this one
    return late if came_along is None else came_along + late


def _back_one_place(direction: Direction, num_hops: int, ranks: Ranks) -> Route:
    return direction(ranks, 1).reverse  # bug: to the rank that the block came from, not to its owner


def _upstream_ignored(loss: Tensor, ranks: Ranks) -> Tensor:
    return differentiable(torch.clone, torch.ones_like)(loss)  # bug: gradients made in forward are returned as they are


BUGS = (
    Bug(
        id="constant-not-home",
        sentence="A block's gradient is not sent home after the last hop.",
        source=neighbour_of("gather-local-grad"),
        make=Companions(total=_not_sent_home),
        quantities=seen_in("T"),
        diagnosis=r"no gradient comes home to the text features from other ranks$",
        same_upstream=True,
    ),
    Bug(
        id="constant-own-twice",
        sentence="A rank adds its own share to a sum that holds it already.",
        source=neighbour_of("constant-share-twice"),
        make=Companions(total=_own_once_more),
        quantities=seen_in("T"),
        where=Where(min_world_size=1),
        diagnosis=r"text features get the own block's gradient twice and the remote blocks' once",
        same_upstream=True,
    ),
    Bug(
        id="constant-share-twice",
        sentence="A rank adds its share to a travelling gradient twice: when the block comes, and when it goes on.",
        source=neighbour_of("self-negative"),
        make=Companions(add=_added_twice),
        quantities=seen_in("T"),
        diagnosis=r"text features get the own block's gradient once and the remote blocks' twice",
        same_upstream=True,
    ),
    Bug(
        id="constant-without-gradient",
        sentence="A block is sent on without its gradient: what the ranks before gave to it is lost.",
        source=neighbour_of("not-forwarded"),
        make=Companions(exchanges=_SHIFT, message=_text_alone),
        where=Where(min_world_size=3),
        quantities=seen_in("T"),
        diagnosis=r"text gradients are lost on the way home: what ranks? \d",
        same_upstream=True,
    ),
    Bug(
        id="constant-late-share",
        sentence="A rank adds to a block's gradient the share that it has for the block before.",
        source=neighbour_of("stale-block"),
        make=Companions(add=_late_share),
        quantities=seen_in("T"),
        diagnosis=r"text gradients.*another rank",
        same_upstream=True,
    ),
    Bug(
        id="constant-home-astray",
        sentence="After the last hop a gradient goes back to the rank that its block came from, not to the owner.",
        source=neighbour_of("shift-not-reversed"),
        make=Companions(exchanges=_SHIFT, home=_back_one_place),
        where=Where(min_world_size=3),
        quantities=seen_in("T"),
        diagnosis=r"text gradients.*another rank",
        same_upstream=True,
    ),
    Bug(
        id="constant-upstream-ignored",
        sentence="Gradients are computed in forward, and backward returns them without what reaches the loss.",
        source=thread("pytorch/pytorch", 21961),
        make=Companions(finish=_upstream_ignored),
        where=Where(min_world_size=1, upstream=("scaled",)),
        quantities=seen_in("ITsb"),
        diagnosis=r"upstream",
        same_upstream=True,
    ),
)
