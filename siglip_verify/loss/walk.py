"""One walk around the ranks: every text is shown to this rank's images, and what they make of it is added up.

Here: the conversation between an exchange and the sums. Not here: when it is held (`constant`, `recompute`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .closed_form import Needs, Sums, Totals
from .ranks import Ranks

Conversation = Generator[tuple[int, Tensor], Any, Tensor | None]


class Walk(NamedTuple):
    """How this rank comes to see all texts, and what becomes of what it adds up.

    Attributes:
        show: Given this rank's texts, shows it every rank's (one of `exchanges`).
        show_and_tell: The same, and is told this rank's share of each text's gradient; returns the sum of all ranks'
            shares for this rank's texts (one of `exchanges.constant`).
        ranks: This rank and its group.
        chunk_size: Rows of logits held at once; 0 leaves it to `closed_form`.
        normalizer: What this rank's sums are divided by, b.
    """

    show: Callable[[Tensor], Conversation]
    show_and_tell: Callable[[Tensor], Conversation]
    ranks: Ranks
    chunk_size: int
    normalizer: float

    def sums(
        self, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, needs: Needs, weight: Tensor | None = None
    ) -> tuple[Totals, Tensor | None]:
        """Return this rank's sums over all texts, and all ranks' sum for its own texts.

        Args:
            image: This rank's images [b, d].
            text: This rank's texts [b, d].
            scale: t, 0-dim, of the dtype in which all is added up.
            bias: c, likewise.
            needs: The gradients wanted; where the texts need none, no share is computed or sent.
            weight: What this rank's shares are multiplied by before they leave; None for 1.
        """
        sums = Sums(image, scale, bias, needs, self.chunk_size)
        exchange = (self.show_and_tell if needs.text else self.show)(text)
        share: Tensor | None = None
        while True:
            try:
                src, texts = exchange.send(share)
            except StopIteration as end:
                return sums.totals(), end.value
            share = sums.add_block(texts, positives=src == self.ranks.rank)
            if share is not None and weight is not None:
                share *= weight
            del texts  # the block is about to go


def times(total: Tensor | None, factor: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Multiply a sum, if there is one, in place; return it in the dtype asked for."""
    return None if total is None else total.mul_(factor).to(dtype=dtype)
