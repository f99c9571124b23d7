"""Rings that lead astray: the wrong number of hops, the wrong block passed on, gradients on the wrong way home.

Here: `shift` and `bidir`, forward and backward. Not here: what goes wrong inside one message (`wire`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from siglip_verify.bugs.entry import ALL, FORK, Bug, Where, neighbour_of, seen_in, thread
from siglip_verify.bugs.plant import (
    Brought,
    Exchange,
    Meeting,
    Plant,
    block_at_once,
    differentiable,
    ring,
    send_and_receive,
    way_back,
)
from siglip_verify.loss.ranks import Ranks
from siglip_verify.loss.ring import Route, hop, leftward, rightward


# ------------------------------------------------------------------ forward
def _shift(num_hops: Callable[[int], int]) -> Exchange:
    def shift(text: Tensor, ranks: Ranks) -> Brought:
        yield ranks.rank, text
        for distance in range(1, num_hops(ranks.world_size) + 1):
            (text,) = hop([text], [rightward(ranks)], ranks)
            yield (ranks.rank - distance) % ranks.world_size, text

    return shift


def _bidir(num_hops: Callable[[int], tuple[int, int]]) -> Exchange:
    def bidir(text: Tensor, ranks: Ranks) -> Brought:
        yield ranks.rank, text
        double_hops, single_hops = num_hops(ranks.world_size)
        to_right = to_left = text
        for distance in range(1, double_hops + 1):
            to_right, to_left = hop([to_right, to_left], [rightward(ranks), leftward(ranks)], ranks)
            yield (ranks.rank - distance) % ranks.world_size, to_right
            yield (ranks.rank + distance) % ranks.world_size, to_left
        if single_hops:
            (opposite,) = hop([to_right], [rightward(ranks)], ranks)
            yield (ranks.rank + ranks.world_size // 2) % ranks.world_size, opposite

    return bidir


_one_hop_too_few = _shift(lambda world_size: world_size - 2)  # bug: W - 1 bring every other rank's texts
_one_hop_too_many = _shift(lambda world_size: world_size)  # bug: after W the own texts are back
_no_remainder = _bidir(lambda world_size: ((world_size - 1) // 2, 0))  # bug: even W leaves one single hop
_extra_round = _bidir(lambda world_size: (world_size // 2, 0))  # bug: at even W both streams bring the rank opposite


def _not_forwarded_shift(text: Tensor, ranks: Ranks) -> Brought:
    yield ranks.rank, text
    for distance in range(1, ranks.world_size):
        (received,) = hop([text], [rightward(ranks)], ranks)  # bug: the own texts are sent again
        yield (ranks.rank - distance) % ranks.world_size, received


def _ping_pong(text: Tensor, ranks: Ranks) -> Brought:
    yield ranks.rank, text
    double_hops, single_hops = divmod(ranks.world_size - 1, 2)
    to_right = to_left = text
    for distance in range(1, double_hops + 1):
        from_left, from_right = hop([to_right, to_left], [rightward(ranks), leftward(ranks)], ranks)
        yield (ranks.rank - distance) % ranks.world_size, from_left
        yield (ranks.rank + distance) % ranks.world_size, from_right
        to_right, to_left = from_right, from_left  # bug: what came from the right goes back to the right
    if single_hops:
        (opposite,) = hop([to_right], [rightward(ranks)], ranks)
        yield (ranks.rank + ranks.world_size // 2) % ranks.world_size, opposite


def _local_only(text: Tensor, ranks: Ranks) -> Brought:
    yield ranks.rank, text  # bug: and nothing else


def _one_buffer(text: Tensor, ranks: Ranks) -> Brought:
    buffer = torch.empty_like(text)

    def receive(block: Tensor) -> Tensor:
        (received,) = send_and_receive([block.clone()], [rightward(ranks)], ranks)
        buffer.data.copy_(received)
        return buffer.data  # bug: autograd has saved this memory for the blocks before

    yield ranks.rank, text
    for distance in range(1, ranks.world_size):
        text = differentiable(receive, lambda grad: way_back([grad], [rightward(ranks)], ranks)[0])(text)
        yield (ranks.rank - distance) % ranks.world_size, text


def _whole(m: Meeting) -> Tensor:
    return block_at_once(m, m.scale)  # a chunk's recomputation would read the buffer too, and hide what this is


# ------------------------------------------------------------------ backward
def _the_same_way(grads: Sequence[Tensor], routes: Sequence[Route], ranks: Ranks) -> tuple[Tensor, ...]:
    return send_and_receive(grads, routes, ranks)  # bug: gradients travel on instead of back


def _swapped(grads: Sequence[Tensor], routes: Sequence[Route], ranks: Ranks) -> tuple[Tensor, ...]:
    return way_back(grads[::-1], routes, ranks)  # bug: each gradient goes back along the other block's route


def _stay(grads: Sequence[Tensor], routes: Sequence[Route], ranks: Ranks) -> tuple[Tensor, ...]:
    return tuple(grads)  # bug: the gradient of what arrived is taken for that of what was sent


BUGS = (
    Bug(
        id="hops-off-by-one",
        sentence="The one-way ring makes one hop too few.",
        source=neighbour_of("bidir-no-remainder"),
        make=Plant(exchanges={"shift": _one_hop_too_few}),
        quantities=ALL,
        diagnosis=r"never (see|meet)|missing",
    ),
    Bug(
        id="hops-off-by-one-more",
        sentence="The one-way ring makes one hop too many, and counts the own texts twice.",
        source=neighbour_of("hops-off-by-one"),
        make=Plant(exchanges={"shift": _one_hop_too_many}),
        quantities=ALL,
        diagnosis=r"twice|counted 2",
    ),
    Bug(
        id="bidir-no-remainder",
        sentence="The two-way ring leaves out the last single hop that even W need.",
        source=thread("mlfoundations/open_clip", 634),
        make=Plant(exchanges={"bidir": _no_remainder}),
        where=Where(parity="even"),
        quantities=ALL,
        diagnosis=r"never (see|meet)|missing",
    ),
    Bug(
        id="bidir-extra-round",
        sentence="The two-way ring ends even W with a double hop, and counts the rank opposite twice.",
        source=neighbour_of("bidir-no-remainder"),
        make=Plant(exchanges={"bidir": _extra_round}),
        where=Where(parity="even"),
        quantities=ALL,
        diagnosis=r"twice|counted 2",
    ),
    Bug(
        id="not-forwarded",
        sentence="The ring sends the own texts at every hop instead of passing on what it received.",
        source=thread("pytorch/tutorials", 1039),
        make=Plant(exchanges={"shift": _not_forwarded_shift}),
        where=Where(min_world_size=3),
        quantities=ALL,
        diagnosis=r"never (see|meet)|missing",
    ),
    Bug(
        id="bidir-ping-pong",
        sentence="The two-way ring sends a block back to where it came from.",
        source=FORK,
        make=Plant(exchanges={"bidir": _ping_pong}),
        where=Where(min_world_size=4),
        quantities=ALL,
        diagnosis=r"never (see|meet)|missing",
    ),
    Bug(
        id="local-only",
        sentence="Other ranks' texts are never used: the loss is that of the local batch.",
        source=thread("huggingface/transformers", 31495),
        make=Plant(exchanges=dict.fromkeys(("bidir", "shift", "reduce", "gather"), _local_only)),
        quantities=ALL,
        diagnosis=r"never (see|meet)|no other rank|local",
    ),
    Bug(
        id="one-buffer",
        sentence="Every hop receives into one buffer, over the block that autograd has saved.",
        source=thread("pytorch/pytorch", 108811),
        make=Plant(exchanges={"shift": _one_buffer}, block=_whole),
        where=Where(min_world_size=3),
        quantities=seen_in("I"),
        diagnosis=r"image.*gradient",
    ),
    Bug(
        id="shift-not-reversed",
        sentence="The one-way ring sends gradients the way the blocks went.",
        source=neighbour_of("bidir-not-reversed"),
        make=Plant(exchanges={"shift": ring(back=_the_same_way)["shift"]}),
        where=Where(min_world_size=3),
        quantities=seen_in("T"),
        diagnosis=r"gradient.*(another|wrong|other) rank|direction",
    ),
    Bug(
        id="bidir-not-reversed",
        sentence="The two-way ring sends gradients the way the blocks went.",
        source=neighbour_of("shift-not-reversed"),
        make=Plant(exchanges={"bidir": ring(back=_the_same_way)["bidir"]}),
        where=Where(min_world_size=3),
        quantities=seen_in("T"),
        diagnosis=r"gradient.*(another|wrong|other) rank|direction",
    ),
    Bug(
        id="bidir-grads-swapped",
        sentence="The two-way ring swaps its two gradients in backward.",
        source=FORK,
        make=Plant(exchanges={"bidir": ring(back=_swapped)["bidir"]}),
        where=Where(min_world_size=3),
        quantities=seen_in("T"),
        diagnosis=r"gradient.*(another|wrong|other) rank|direction|swapped",
    ),
    Bug(
        id="p2p-identity-grad",
        sentence="The exchange's backward returns its input, so gradients stay on the rank that computed them.",
        source=thread("Dao-AILab/flash-attention", 1244),
        make=Plant(exchanges=ring(back=_stay)),
        quantities=seen_in("T"),
        diagnosis=r"gradient.*(another|wrong|other) rank|gradient.*stay",
    ),
)
