"""Bugs that no number of one step shows: what is kept or overwritten, and code that is only reached with two ranks.

Here: plants whose loss and gradients, where there are any, are right in the first step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from siglip_verify.bugs.entry import ALL, Bug, Loss, Where, thread
from siglip_verify.bugs.plant import Brought, Exchange, Meeting, Plant, block
from siglip_verify.loss.exchanges import EXCHANGES
from siglip_verify.loss.ranks import Ranks

_history: list[Tensor] = []


def _logits_kept(m: Meeting) -> Tensor:
    return block(m._replace(chunk_size=0))  # bug: the b x b logits of every block are kept for backward, as without


def _kept_for_the_log(loss: Tensor, ranks: Ranks) -> Tensor:
    _history.append(loss)  # bug: with its graph, and with that every block of every step
    return loss


class _FirstBatchKept(Plant):
    def __call__(self, rank: int, world_size: int, exchange: str, chunk_size: int = 0) -> Loss:
        kept: dict[int, Tensor] = {}

        def of_first_batch(m: Meeting) -> Tensor:
            if m.is_own:
                return block(m)
            first = kept.setdefault(m.src, m.texts.detach().clone())  # bug: and never anew
            return block(m._replace(texts=m.texts + (first - m.texts).detach()))

        return Plant(block=of_first_batch)(rank, world_size, exchange, chunk_size)


def _into_the_callers_own(exchange: str) -> Exchange:
    def bring(text: Tensor, ranks: Ranks) -> Brought:
        texts = text
        for src, texts in EXCHANGES[exchange](text.clone(), ranks):
            yield src, texts
        with torch.no_grad():
            text.copy_(texts)  # bug: the caller's tensor serves as the buffer of what arrives last

    return bring


def _name_error(exchange: str) -> Exchange:
    def bring(text: Tensor, ranks: Ranks) -> Brought:
        num_ranks = ranks._world_size  # type: ignore[attr-defined]  # pyright: ignore  # bug: it has no underscore
        yield from EXCHANGES[exchange](text, ranks._replace(world_size=num_ranks))

    return bring


BUGS = (
    Bug(
        id="first-batch-kept",
        sentence="Other ranks' texts of the first step are kept and used in every later one.",
        source=thread("huggingface/sentence-transformers", 3862),
        make=_FirstBatchKept(),
        where=Where(calls=("second",)),
        quantities=ALL,
        diagnosis=r"kept from the step before",
    ),
    Bug(
        id="features-overwritten",
        sentence="What arrives last is written into the caller's own text features.",
        source=thread("huggingface/sentence-transformers", 2617),
        make=Plant(exchanges={name: _into_the_callers_own(name) for name in ("shift", "bidir")}),
        outcomes=("input",),
        diagnosis=r"overwrite|overwritten",
    ),
    Bug(
        id="memory-grows",
        sentence="A chunk size is taken and bounds nothing: all logits of all blocks are kept for backward.",
        source=thread("mlfoundations/open_clip", 942),
        make=Plant(block=_logits_kept),
        where=Where(min_world_size=1, chunk="chunked"),
        outcomes=("memory",),
        diagnosis=r"memory",
    ),
    Bug(
        id="memory-leak",
        sentence="Losses are collected with their graphs, so every step's blocks stay.",
        source=thread("ray-project/ray", 40940),
        make=Plant(finish=_kept_for_the_log),
        where=Where(min_world_size=1),
        outcomes=("memory",),
        diagnosis=r"memory",
    ),
    Bug(
        id="crash-only-distributed",
        sentence="A misspelt attribute in the branch that one rank alone never reaches.",
        source=thread("jina-ai/openclip", 30),
        make=Plant(exchanges={name: _name_error(name) for name in EXCHANGES}),
        outcomes=("raised",),
        diagnosis=r"attribute",
    ),
)
