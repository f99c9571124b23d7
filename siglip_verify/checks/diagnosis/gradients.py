"""Hypothesis: the loss is right, and some block's gradient does not reach its leaf, or reaches another rank's."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from siglip_verify.checks.coverage import matrix
from siglip_verify.checks.diagnosis import fit, words
from siglip_verify.checks.diagnosis.evidence import LOSS, Evidence, Observation
from siglip_verify.checks.diagnosis.model import Array, Model
from siglip_verify.checks.diagnosis.statement import Statement
from siglip_verify.records import Clue, Matrix

_NUM_LEAVES = 4


class _Leaf(NamedTuple):
    """What the completed model says of one leaf.

    Attributes:
        name: What to call it.
        own, remote: How often the gradients of own and of remote blocks reach it; None where that differs by block.
        weight: [i, k] how often the gradient of block (i, k) reaches it, if none reaches another rank.
        astray: [j, i, k] how often the gradient of block (i, k) reaches rank j, where that is another rank's.
    """

    name: str
    own: float | None
    remote: float | None
    weight: Array | None = None
    astray: Array | None = None


def gradients_on_wrong_ways(evidence: Evidence) -> Statement | None:
    """Gradients are missing, multiplied, or reach a rank that they do not belong to."""
    seen = evidence.plain
    if seen is None or seen.unexplained(seen.right) & LOSS:
        return None
    model = fit.complete(seen, seen.right)
    if model is None:
        return None
    leaves = [leaf for leaf in _leaves(model) if (leaf.own, leaf.remote) != (1.0, 1.0)]
    parts = [
        part
        for about in (_nothing, _remote_lost, _multiplied, _astray, _lost_on_the_way, _uneven)
        if (part := about(seen, leaves))
    ]
    if not parts:  # the numbers are right
        return None
    clues = (Clue(title="messages", text=f"rank 0 sends: {seen.operations}"),) if seen.operations else ()
    return Statement(
        parts[0].cause,
        "; ".join(part.sentence for part in parts),
        clues,
        tuple(matrix for part in parts for matrix in part.matrices),
    )


# ------------------------------------------------------------------ the leaves, as a whole
def _leaves(model: Model) -> list[_Leaf]:
    own = np.eye(model.num_ranks)
    return [
        _of_home("image features", model.image_home, own[:, :, None]),
        _of_home("text features", model.text_home, own[:, None, :]),
        _leaf("logit_scale", model.scale_weight, own),
        _leaf("logit_bias", model.bias_weight, own),
    ]


def _of_home(name: str, home: Array, belongs: Array) -> _Leaf:
    """Reduce a home to one number each for own and remote blocks, if gradients reach no rank but their own."""
    there = np.broadcast_to(belongs, home.shape) == 1
    if home[~there].any():
        return _Leaf(name, None, None, astray=home)
    weight = np.where(there, home, 0).sum(0)
    return _leaf(name, weight, np.eye(len(home)))


def _leaf(name: str, weight: Array, own: Array) -> _Leaf:
    at_home, away = set(weight[own == 1].tolist()), set(weight[own == 0].tolist())
    remote = away or at_home
    reach = (values.pop() if len(values) == 1 else None for values in (at_home, set(remote)))
    return _Leaf(name, *reach, weight=weight)


def _nothing(seen: Observation, leaves: list[_Leaf]) -> Statement | None:
    """No block's gradient reaches a leaf."""
    empty = [leaf.name for leaf in leaves if leaf.own == leaf.remote == 0]
    if not empty:
        return None
    grads = {
        "image features": [record.image_grad for record in seen.records],
        "text features": [record.text_grad for record in seen.records],
        "logit_scale": [record.scale_grad for record in seen.records],
        "logit_bias": [record.bias_grad for record in seen.records],
    }
    is_none = all(grad is None for name in empty for grad in grads[name])
    said = "get no gradient on any rank" if is_none else "get a gradient of zeros: what backward computes is lost"
    return Statement("leaf-without-gradient", f"{words.listed(empty)} {_verb(empty, said)}")


def _remote_lost(seen: Observation, leaves: list[_Leaf]) -> Statement | None:
    """The own block's gradient reaches a leaf, and no remote block's does."""
    lost = [leaf.name for leaf in leaves if (leaf.own, leaf.remote) == (1.0, 0.0)]
    if not lost:
        return None
    if lost == ["text features"]:
        sentence = "no gradient comes home to the text features from other ranks"
        by_backward = not seen.spec.same_upstream  # else gradients may travel in forward
        is_silent = bool(seen.operations) and "backward" not in seen.operations and by_backward
        return Statement("text-gradient-not-exchanged", f"{sentence}{': backward sends nothing' if is_silent else ''}")
    said = f"{words.listed(lost)} {_verb(lost, 'get no gradient from remote blocks')}"
    as_numbers = ": they enter the loss as plain numbers" if len(lost) == _NUM_LEAVES else ""
    return Statement("remote-gradient-lost", said + as_numbers)


def _multiplied(seen: Observation, leaves: list[_Leaf]) -> Statement | None:
    """Whole gradients are multiplied by a factor."""
    names: dict[float, list[str]] = {}
    for leaf in leaves:
        if leaf.own and leaf.own == leaf.remote:
            names.setdefault(leaf.own, []).append(leaf.name)
    said = [
        f"the gradients of {words.listed(those)} are the oracle's times "
        + words.factor(value, seen.case.world_size, seen.case.batch, seen.tolerance)
        for value, those in names.items()
    ]
    return Statement("gradient-factor", "; ".join(said)) if said else None


def _lost_on_the_way(seen: Observation, leaves: list[_Leaf]) -> Statement | None:
    """Text gradients of some remote blocks come home, and of others do not."""
    lost = [leaf.weight for leaf in leaves if leaf.name == "text features" and _is_partly_lost(leaf)]
    if not lost or lost[0] is None:
        return None
    by_owner = lost[0].T
    clauses = [
        f"what {words.ranks(missing.tolist())} computed for rank {owner}'s texts"
        for owner, heard in enumerate(by_owner)
        if len(missing := np.flatnonzero(heard == 0))
    ]
    said = f"text gradients are lost on the way home: {words.each_rank(clauses, by_owner)}"
    return Statement("gradient-lost-on-the-way", said)


def _is_partly_lost(leaf: _Leaf) -> bool:
    return leaf.remote is None and leaf.weight is not None and set(np.unique(leaf.weight)) == {0.0, 1.0}


def _uneven(seen: Observation, leaves: list[_Leaf]) -> Statement | None:
    """Own and remote blocks weigh differently, or differently by block."""
    said = [
        f"{leaf.name} {_verb([leaf.name], 'get')} the own block's gradient {_how_often(leaf.own)} and the remote "
        f"blocks' {_how_often(leaf.remote)}"
        for leaf in leaves
        if leaf.astray is None
        and not (leaf.name == "text features" and _is_partly_lost(leaf))
        and (leaf.own, leaf.remote) != (1.0, 0.0)
        and (leaf.own is None or leaf.own != leaf.remote)
    ]
    return Statement("gradient-weights", "; ".join(said)) if said else None


def _how_often(weight: float | None) -> str:
    return "unevenly" if weight is None else "not at all" if weight == 0 else words.times(weight)


def _verb(names: list[str], said: str) -> str:
    return said if len(names) > 1 or names[0].endswith("features") else said.replace("get", "gets", 1)


# ------------------------------------------------------------------ gradients that reach another rank
def _astray(seen: Observation, leaves: list[_Leaf]) -> Statement | None:
    """Gradients of features reach ranks that they do not belong to, or some of their ranks alone."""
    ways = [(leaf.name.split()[0], leaf.astray) for leaf in leaves if leaf.astray is not None]
    if not ways:
        return None
    said = [_way(name, home) for name, home in ways]
    pictures = tuple(_picture(name, home) for name, home in ways)
    return Statement(said[0][0], "; ".join(sentence for _, sentence in said), matrices=pictures)


def _way(name: str, home: Array) -> tuple[str, str]:
    """Say where gradients go. home: [j, i, k], how often the gradient of block (i, k) reaches rank j."""
    num_ranks = len(home)
    i, k = np.indices((num_ranks, num_ranks))
    if (home == np.eye(num_ranks)[:, :, None]).all() and name == "text":
        return (
            "gradient-stays",
            "the gradient of other ranks' texts stays on the rank that computed it: backward sends nothing home",
        )
    if (home == np.eye(num_ranks)[None]).all():
        sentence = f"every rank's {name} gradient is the sum of what all ranks have for their own {name}s"
        return "gradient-to-another-rank", f"{sentence}: that reaches other ranks, and what they have for it is lost"
    whole = (home.sum(0) == 1).all() and set(np.unique(home)) <= {0.0, 1.0}
    target = home.argmax(0)
    right = k if name == "text" else i
    if whole:
        one, other = (int(index) for index in np.argwhere(target != right)[0])
        example = f"{_of_block(one, other, name)} reaches rank {target[one, other]}"
        beside = (k - i) % num_ranks
        neighbours = (beside == 1) | (beside == num_ranks - 1)
        is_turned = _is_turned(target, right, i != k)
        if name == "text" and not is_turned and (target == (2 * i - k) % num_ranks)[neighbours].all():
            return (
                "gradient-direction",
                f"{name} gradients go the wrong direction around the ring, to another rank: {example}",
            )
        return "gradient-to-another-rank", f"{name} gradients come home to another rank: {example}" + (
            words.ROUND if is_turned else ""
        )
    said = [_holds(rank, name, home[rank]) for rank in range(num_ranks)]
    return "gradient-to-another-rank", f"{name} gradients reach another rank or none: {said[0]}"


def _is_turned(target: NDArray[np.intp], right: NDArray[np.intp], remote: NDArray[np.bool_]) -> bool:
    """Tell whether the gradients of all remote blocks are as many places around the ring from home."""
    return len(np.unique(((target - right) % len(target))[remote])) == 1


def _of_block(rank: int, of_rank: int, name: str) -> str:
    """Name the gradient of one block."""
    whose = "its own" if rank == of_rank else f"rank {of_rank}'s"
    return f"what rank {rank} has for {whose} {name}s"


def _holds(rank: int, name: str, home: Array) -> str:
    """Say which blocks' gradients a rank's leaf holds."""
    held = [
        _of_block(i, k, name) + (f" {words.times(float(home[i, k]))}" if home[i, k] != 1 else "")
        for i, k in np.argwhere(home != 0)
    ]
    few = held if len(held) <= 3 else [*held[:3], f"{len(held) - 3} more"]
    return f"rank {rank}'s gradient holds {words.listed(few)}" if held else f"rank {rank}'s gradient is empty"


def _picture(name: str, home: Array) -> Matrix:
    """Draw which rank the gradient of each block reaches, where it is one rank."""
    num_ranks = len(home)
    i, k = np.indices((num_ranks, num_ranks))
    reached = np.where((home != 0).sum(0) == 1, home.argmax(0), np.nan)
    expected = (k if name == "text" else i).astype(np.float64)
    return matrix(f"rank that the {name} gradient reaches", reached, expected)
