"""Hypotheses: blocks or pairs are not counted, or more than once, or in part.

How often a block is counted is what the coverage probe says, or gradients, where it failed.
"""

from __future__ import annotations

import numpy as np

from siglip_verify.checks.diagnosis import fit, words
from siglip_verify.checks.diagnosis.evidence import LOSS, Evidence, Observation
from siglip_verify.checks.diagnosis.model import Array, Marks, Model, by_block
from siglip_verify.checks.diagnosis.statement import Statement


def blocks_not_counted_once(evidence: Evidence) -> Statement | None:
    """Some blocks are unseen, or counted twice and more."""
    seen, coverage = evidence.plain, evidence.coverage
    if seen is None:
        return None
    counted = coverage.counted if coverage else fit.counts(seen)
    positives = coverage.positives_forward if coverage else np.eye(len(counted))
    is_whole = np.isfinite(counted).all() and (counted == np.round(counted)).all() and (counted >= 0).all()
    if not is_whole or (counted == 1).all():
        return None
    for model, remark in _models(seen.right, counted, positives):
        if fit.complete(seen, model) is not None:
            return Statement(*_said(evidence, counted, remark))
    return None


def pairs_not_counted_once(evidence: Evidence) -> Statement | None:
    """Positive pairs count as negatives too, or the own block's negatives do not count."""
    seen = evidence.plain
    if seen is None or not seen.unexplained(seen.right) & LOSS:  # positives far below 0 are no matter as negatives
        return None
    right = seen.right
    own = np.eye(right.num_ranks)[:, None, :, None]
    for cause, sentence, use in (
        ("positives-as-negatives", "positive pairs are counted as negatives too", right.use + right.labels),
        ("own-negatives-unseen", "the own block's negatives are left out", np.where(own, right.labels, right.use)),
    ):
        if fit.complete(seen, right.but(use=use)) is not None:
            return Statement(cause, sentence)
    return None


def blocks_weigh_otherwise(evidence: Evidence) -> Statement | None:
    """Some blocks count a fraction of once."""
    seen, coverage = evidence.plain, evidence.coverage
    if seen is None:
        return None
    counted = fit.simple(coverage.counted, seen.tolerance) if coverage else fit.counts(seen)
    if not np.isfinite(counted).all() or (counted == np.round(counted)).all():
        return None
    labels = np.diag(counted)[:, None, None, None] * seen.right.labels
    if fit.complete(seen, seen.right.but(use=by_block(counted), labels=labels)) is None:
        return None
    return Statement("blocks-weighed", _weighed(seen, counted))


def _weighed(seen: Observation, counted: Array) -> str:
    """Say what blocks weigh."""
    is_own = np.eye(len(counted), dtype=bool)
    if (counted[is_own] == 1).all() and len(set(counted[~is_own].tolist())) == 1:
        weight = float(counted[~is_own][0])
        named, _, number = words.factor(weight, len(counted), seen.case.batch, seen.tolerance).partition(" (")
        of_sizes = f" ({named})" if number else ""
        return f"remote blocks count {weight:.3g} times{of_sizes}, and not once"
    clauses = [
        f"rank {rank} counts "
        + words.listed([f"rank {src}'s texts {words.times(round(row[src], 3))}" for src in np.flatnonzero(row != 1)])
        for rank, row in enumerate(counted)
        if (row != 1).any()
    ]
    return f"blocks do not count once each: {words.each_rank(clauses, counted)}"


def _models(right: Model, counted: Array, positives: Array) -> list[tuple[Model, str]]:
    """Return what may lie behind the counts: blocks left out or repeated, zeros in their place, one rank's texts."""
    diagonal = np.eye(right.batch)[None, :, None, :]
    labels = by_block(np.nan_to_num(positives)) * diagonal
    models = [(right.but(use=by_block(counted), labels=labels), "")]
    in_place = np.where((counted == 0)[:, :, None, None], 0.0, right.texts)
    once = by_block(np.maximum(counted, 1))
    models.append((right.but(use=once, labels=labels, texts=in_place), "zeros stand in their place"))
    if (only := _only_column(counted)) is not None:
        texts = np.broadcast_to(right.texts[:, only : only + 1], right.texts.shape)
        models.append((right.but(texts=texts), "every block holds the texts of one rank"))
    return models


def _only_column(counted: Array) -> int | None:
    """Return the one rank whose texts are counted, if there is but one."""
    columns = np.flatnonzero(counted.any(0))
    return int(columns[0]) if len(columns) == 1 and len(counted) > 1 else None


# ------------------------------------------------------------------ in words
def _said(evidence: Evidence, counted: Array, remark: str) -> tuple[str, str]:
    """Return the name and the sentence of what the counts show."""
    why = remark or _why(evidence, counted)
    cause = "blocks-unseen" if (counted == 0).any() else "blocks-repeated"
    return cause, in_words(counted) + (f": {why}" if why else "")


def in_words(counted: Array) -> str:
    """Say who never sees whose texts, and who counts whose more than once.

    Args:
        counted: [W, W] whole numbers, how often rank i counts rank j's texts; not all of them 1.
    """
    if (only := _only_column(counted)) is not None and (counted[:, only] == counted.max()).all():
        return f"every rank sees only rank {only}'s texts, {words.times(counted.max())}, and never the others'"
    missing, more = counted == 0, np.where(counted > 1, counted, 0)
    alike = [_missing_alike(missing), _more_alike(more)]
    if (alike[0] or not missing.any()) and (alike[1] or not more.any()):
        return "; ".join(clause for clause in alike if clause)
    clauses = [_of_one_rank(rank, row) for rank, row in enumerate(counted)]
    return words.each_rank(clauses, counted)


def _missing_alike(missing: Marks) -> str:
    """Say in one clause whose texts are never seen, if it is that simple."""
    if missing.any() and (missing == ~np.eye(len(missing), dtype=bool)).all():
        return "ranks never see each other's texts, every rank counts its own block alone"
    first, *others = _pairs(missing) or [()]
    nor = f", nor {words.listed([words.ranks(pair) for pair in others])}" if others else ""
    return f"{words.ranks(first)} never see each other's texts{nor}" if first else ""


def _more_alike(more: Array) -> str:
    """Say in one clause whose texts are counted too often, if it is that simple."""
    numbers = set(more[more > 0].tolist())
    if len(numbers) != 1:
        return ""
    often = words.times(numbers.pop())
    if (more > 0).sum() == len(more) and np.diag(more).all():
        return f"every rank counts its own texts {often}, once as they should be and then as negatives"
    first, *others = _pairs(more > 0) or [()]
    as_do = f", as do {words.listed([words.ranks(pair) for pair in others])}" if others else ""
    return f"{words.ranks(first)} count each other's texts {often}{as_do}" if first else ""


def _of_one_rank(rank: int, row: Array) -> str:
    """Say all of one rank."""
    said = [f"never sees the texts of {words.ranks(np.flatnonzero(row == 0))}"] if (row == 0).any() else []
    said += [f"counts those of rank {src} {words.times(row[src])}" for src in np.flatnonzero(row > 1)]
    return f"rank {rank} {words.listed(said)}" if said else ""


def _pairs(marked: Marks) -> list[tuple[int, int]]:
    """Return the pairs of ranks that are marked, if each rank belongs to one at most and both see it alike."""
    if (marked != marked.T).any() or np.diag(marked).any() or (marked.sum(1) > 1).any():
        return []
    return [(int(one), int(other)) for one, other in np.argwhere(marked) if one < other]


def _why(evidence: Evidence, counted: Array) -> str:
    """Name the fault in a ring that leaves exactly these counts; empty where there is none known."""
    assert evidence.plain is not None
    num_ranks, exchange = len(counted), evidence.plain.case.exchange
    if exchange not in ("bidir", "shift") or not words.is_around_the_ring(counted) or num_ranks < 2:
        return ""
    seen = counted[0]  # by distance to the right of rank 0
    others, is_even = seen[1:], num_ranks % 2 == 0
    opposite = num_ranks // 2
    but_opposite = np.delete(others, opposite - 1)
    if is_even and exchange == "bidir" and (but_opposite == 1).all() and seen[opposite] != 1:
        if seen[0] == 2:
            return "a block goes back to where it came from"
        if seen[0] == 1 and any(size % 2 for size in evidence.sizes("pass") if size > 1):
            return "the last single hop is missing" if seen[opposite] == 0 else "the last hop comes from both sides"
    if exchange == "shift" and seen[0] == 1 and seen[1] == 0 and (others[1:] == 1).all():
        return "the last hop is missing"
    if seen[0] == 2 and (others == 1).all() and evidence.verdicts.get(1) == "pass":
        return "one hop too many"
    if seen[0] == 1 and sorted(others)[:-1] == [0] * (num_ranks - 2) and max(others) == num_ranks - 1 > 1:
        return "what arrives is not passed on"
    return ""
