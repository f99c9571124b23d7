"""Hypothesis: positives lie on the wrong pairs. The image gradients tell the label of every pair."""

from __future__ import annotations

import numpy as np

from siglip_verify.checks.diagnosis import fit, words
from siglip_verify.checks.diagnosis.evidence import Evidence
from siglip_verify.checks.diagnosis.model import Array, Marks, by_block
from siglip_verify.checks.diagnosis.statement import Statement


def positives_on_wrong_pairs(evidence: Evidence) -> Statement | None:
    """Some pair is labelled otherwise than it should be."""
    seen = evidence.plain
    if seen is None:
        return None
    found = fit.labels(seen, seen.right)
    if found is None or (found == seen.right.labels).all():
        return None
    if fit.complete(seen, seen.right.but(labels=found)) is None:
        return None
    return Statement("labels", _said(evidence, found))


def _said(evidence: Evidence, found: Array) -> str:
    """Say which pairs are taken for positives."""
    num_ranks, batch = found.shape[:2]
    diagonal = np.eye(batch)[None, :, None, :]
    blocks = np.einsum("imkm->ik", found) / batch  # [W, W]: share of the diagonal that is labelled positive
    if (by_block(blocks) * diagonal == found).all():
        return _said_by_block(blocks)
    if (found == 1 - np.eye(num_ranks * batch).reshape(found.shape)).all():
        return "matches are labelled negative and all other pairs positive"
    if (whole := _wholly_positive(found)).any():
        return _said_of_wholly_positive(whole)
    size = evidence.needed("chunk_size")
    if size and (found == _chunk_by_chunk(num_ranks, batch, int(size))).all():
        return f"positives begin anew at the first text in every chunk of {size} rows"
    return _first_wrong_pair(found)


def _said_by_block(blocks: Array) -> str:
    own, num_ranks = np.eye(len(blocks)), len(blocks)
    if (blocks == 1).all():
        return "the diagonals of remote blocks are labelled positive, where only the own block's should be"
    if not blocks.any():
        return "no pair is labelled positive"
    if (blocks.sum(1) == 1).all() and (blocks.max(1) == 1).all():
        source = blocks.argmax(1)
        if (source == 0).all():
            return "every rank looks for its positives in rank 0's texts: the label offset rank x b is missing"
        wrong = [rank for rank in range(num_ranks) if source[rank] != rank]
        said = [f"rank {rank} looks for its positives in rank {source[rank]}'s texts" for rank in wrong]
        modulus = int(source.max()) + 1
        on_its_host = (source == np.arange(num_ranks) % modulus).all()
        return words.each_rank(said, blocks) + (f": rank modulo {modulus} is taken for the rank" if on_its_host else "")
    said = [
        _said_of_rank(rank, row) if (row - mine).any() else ""
        for rank, (row, mine) in enumerate(zip(blocks, own, strict=True))
    ]
    return words.each_rank(said, blocks)


def _said_of_rank(rank: int, row: Array) -> str:
    """Say against whose texts a rank labels the diagonal positive, if against any."""
    sources = np.flatnonzero(row)
    if not sources.size:
        return f"rank {rank} labels no pair positive"
    return f"rank {rank} labels the diagonal against {words.ranks(sources)} positive"


def _wholly_positive(found: Array) -> Marks:
    """Return which blocks [W, W] have every pair labelled positive, if all others are labelled as they should be."""
    num_ranks, batch = found.shape[:2]
    whole = (found == 1).all((1, 3))
    right = np.eye(num_ranks * batch).reshape(found.shape)
    explains = np.where(by_block(whole.astype(np.float64)) == 1, 1.0, right) == found
    return whole if explains.all() else np.zeros_like(whole)


def _said_of_wholly_positive(whole: Marks) -> str:
    """Say against whose texts every pair is labelled positive."""
    is_own = np.eye(len(whole), dtype=bool)
    for where, name, of in (
        (is_own, "the own block", "its labels"),
        (~is_own, "remote blocks", "their labels"),
        (is_own | ~is_own, "all blocks", "their labels"),
    ):
        if (whole == where).all():
            return f"every pair of {name} is labelled positive: the sign of {of} is wrong"
    clauses = [
        f"rank {rank} labels every pair with the texts of {words.ranks(np.flatnonzero(row))} positive"
        if row.any()
        else ""
        for rank, row in enumerate(whole)
    ]
    return f"{words.each_rank(clauses, whole.astype(np.float64))}: the sign of such a block's labels is wrong"


def _first_wrong_pair(found: Array) -> str:
    """Name an image whose positive is another text, or some weight other than 1."""
    num_ranks, batch = found.shape[:2]
    right = np.eye(num_ranks * batch).reshape(found.shape)
    rank, row = (int(index) for index in np.argwhere((found != right).any((2, 3)))[0])
    taken = [(int(src), int(text), found[rank, row, src, text]) for src, text in np.argwhere(found[rank, row] != 0)]
    if not taken:
        return f"row {row} of rank {rank} has no positive at all, and others with it"
    src, text, weight = max(taken, key=lambda each: (each[:2] != (rank, row), each[2]))
    weighed = "" if weight == 1 else f" with weight {weight:.3g}"
    pair = f"image {row} of rank {rank} is paired with text {text} of rank {src}{weighed}"
    return f"positives do not match row by row: {pair}"


def _chunk_by_chunk(num_ranks: int, batch: int, size: int) -> Array:
    """Return the labels of a loss that starts the diagonal anew in every chunk of rows."""
    block = np.zeros((batch, batch))
    for row in range(batch):
        block[row, row % size] = 1.0
    return np.einsum("ik,ml->imkl", np.eye(num_ranks), block)
