"""What the ranks tell each other before a step, where they are asked to: one small all-gather.

Without it a rank can check only itself (`validate`). With it every rank sees the same table, so that all raise together
where one would otherwise wait for the others.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from .ranks import Ranks

_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_MUST_AGREE = {
    "batch size": "drop the last, smaller batch, or pass ragged=True",
    "feature dimension": "give all ranks the same model",
    "dtype": "give all ranks the same dtype, or the same autocast",
    "requires_grad of the texts": "freeze the text tower on every rank or on none",
}


def agree(text: Tensor, needs_grad: bool, ranks: Ranks, ragged: bool) -> list[int]:
    """Return every rank's batch size, once it is sure that the ranks can exchange their texts.

    Args:
        text: This rank's texts [b, d].
        needs_grad: Whether their gradient is wanted.
        ranks: This rank and its group.
        ragged: Whether batch sizes may differ.

    Raises:
        ValueError: The ranks differ where they must agree, one refused its input, or none has a row. Raised on all
            ranks, with all values.

    Communication, a rank:
        One all-gather of four int64; none with one rank.
    """
    dtype = _DTYPES.index(text.dtype) if text.dtype in _DTYPES else len(_DTYPES)
    rows = _table([*text.shape, dtype, int(needs_grad)], text.device, ranks)
    if _REFUSED in rows:
        raise ValueError(f"rank {rows.index(_REFUSED)} refused what its loss was given: see the error on that rank")
    columns = list(zip(*rows, strict=True))
    for (what, mend), column in zip(_MUST_AGREE.items(), columns, strict=True):
        if len(set(column)) > 1 and not (ragged and what == "batch size"):
            raise ValueError(f"all ranks must have the same {what}; got {_readable(what, column)} by rank: {mend}")
    sizes = list(columns[0])
    if not any(sizes):
        raise ValueError(f"at least one rank must have a row; got batch sizes {sizes} by rank: skip this step on all")
    return sizes


def refuse(device: torch.device, ranks: Ranks) -> None:
    """Tell the other ranks, where they agree, that this one cannot go on."""
    _table(_REFUSED, device, ranks)


_REFUSED = [-1, -1, -1, -1]


def _table(row: list[int], device: torch.device, ranks: Ranks) -> list[list[int]]:
    """Return the rows of all ranks."""
    if ranks.world_size == 1:
        return [row]
    ours = torch.tensor(row, device=device)
    rows = [torch.empty_like(ours) for _ in range(ranks.world_size)]
    dist.all_gather(rows, ours, group=ranks.group)
    return [theirs.tolist() for theirs in rows]


def _readable(what: str, column: tuple[int, ...]) -> str:
    words = {"dtype": [*map(str, _DTYPES), "another dtype"], "requires_grad of the texts": ["False", "True"]}
    return ", ".join(words[what][value] if what in words else str(value) for value in column)
