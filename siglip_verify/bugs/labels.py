"""Labels on the wrong pairs: positives where there are none, and negatives where there are positives.

Here: which pairs of which blocks count as matching. Not here: what a block is divided by (`normaliser`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from siglip_verify.bugs.entry import ALL, FORK, ORIGINAL, Bug, Where, seen_in, thread
from siglip_verify.bugs.plant import Brought, Meeting, Plant, block, gathered
from siglip_verify.loss.block import block_loss, ground_truth
from siglip_verify.loss.ranks import Ranks

RANKS_ON_A_HOST = 2


def _remote_positives(m: Meeting) -> Tensor:
    return block_loss(m.image, m.texts, m.scale, m.bias, ground_truth, m.chunk_size)  # bug: on remote blocks too


def _label_offset(m: Meeting) -> Tensor:
    labels = ground_truth if m.src == 0 else None  # bug: positives at columns 0..b-1, not rank b and on
    return block_loss(m.image, m.texts, m.scale, m.bias, labels, m.chunk_size)


def _local_rank(m: Meeting) -> Tensor:
    labels = ground_truth if m.src == m.ranks.rank % RANKS_ON_A_HOST else None  # bug: the rank on its host
    return block_loss(m.image, m.texts, m.scale, m.bias, labels, m.chunk_size)


def _self_negative(m: Meeting) -> Tensor:
    negatives = block_loss(m.image, m.texts, m.scale, m.bias, None, m.chunk_size)
    return block(m) + negatives if m.is_own else negatives  # bug: the own block counts among the negatives as well


def _square_chunks(m: Meeting) -> Tensor:
    def labels(rows: int, columns: int, first_row: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        return ground_truth(rows, columns, 0, device, dtype)  # bug: the chunk's first row is not the block's

    return block_loss(m.image, m.texts, m.scale, m.bias, labels if m.is_own else None, m.chunk_size)


def _interleaved(text: Tensor, ranks: Ranks) -> Brought:
    texts = gathered(text, ranks)
    # bug: rows are read as row 0 of every rank, then row 1 of every rank
    yield from enumerate(texts.transpose(0, 1).reshape(texts.shape))


def _order_as_given(text: Tensor, ranks: Ranks) -> Brought:
    given = range(ranks.world_size)[::-1]  # as handed to new_group
    for place, texts in enumerate(gathered(text, ranks)):
        yield given[place], texts  # bug: new_group sorts its ranks


BUGS = (
    Bug(
        id="remote-positives",
        sentence="The diagonal of every remote block is labelled positive.",
        source=FORK,
        make=Plant(block=_remote_positives),
        quantities=ALL,
        diagnosis=r"positive.*remote|remote.*positive",
    ),
    Bug(
        id="label-offset",
        sentence="The positives of every rank are looked for in rank 0's texts: the offset rank x b is missing.",
        source=thread("lightly-ai/lightly", 1176),
        make=Plant(block=_label_offset),
        quantities=seen_in("LITs"),
        diagnosis=r"positive",
    ),
    Bug(
        id="local-rank",
        sentence="The rank on its host is used as the rank, so from the second host on positives lie in other blocks.",
        source=FORK,
        make=Plant(block=_local_rank),
        where=Where(min_world_size=RANKS_ON_A_HOST + 1),
        quantities=seen_in("LITs"),
        diagnosis=r"positive",
    ),
    Bug(
        id="self-negative",
        sentence="The own block is counted a second time, all negative: the test `i != rank` is missing.",
        source=ORIGINAL,
        make=Plant(block=_self_negative),
        where=Where(min_world_size=1),
        quantities=ALL,
        diagnosis=r"twice|counted 2",
    ),
    Bug(
        id="chunk-labels",
        sentence="Every chunk of rows is labelled as if it began at the block's first row.",
        source=thread("mlfoundations/open_clip", 1145),
        make=Plant(block=_square_chunks),
        where=Where(min_world_size=1, chunk="chunked"),
        quantities=seen_in("LITs"),
        diagnosis=r"chunk",
    ),
    Bug(
        id="gather-interleaved",
        sentence="Gathered rows are taken to come rank by rank where they were interleaved, so positives do not match.",
        source=thread("Spijkervet/SimCLR", 46),
        make=Plant(exchanges={"gather": _interleaved}),
        where=Where(min_batch=2),
        quantities=seen_in("LITs"),
        diagnosis=r"positive|row",
    ),
    Bug(
        id="group-order",
        sentence="Blocks are taken to come in the order in which ranks were given to the group, which sorts them.",
        source=thread("pytorch/pytorch", 176126),
        make=Plant(exchanges={"gather": _order_as_given}),
        quantities=seen_in("LITs"),
        diagnosis=r"positive",
    ),
)
