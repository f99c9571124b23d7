"""Gradients that do not come home: wrong ways back for what was gathered, all-reduced or sent.

The loss is right in all of them: only gradients tell.
Here: backward of collectives, and of the loss as a whole. Not here: backward around the ring (`ring`), dtypes (`wire`).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from siglip_verify.bugs.entry import FORK, Bug, Where, neighbour_of, seen_in, thread
from siglip_verify.bugs.plant import (
    Brought,
    Meeting,
    Plant,
    all_gather,
    all_reduce,
    block,
    differentiable,
    gather,
    texts_of,
)
from siglip_verify.loss.exchanges import EXCHANGES
from siglip_verify.loss.exchanges.gather import reduce_scatter
from siglip_verify.loss.ranks import Ranks


# ------------------------------------------------------------------ gather
def _gather_detached(text: Tensor, ranks: Ranks) -> Brought:
    yield from enumerate(all_gather(text.detach(), ranks))  # bug: a plain all-gather, outside of the graph


def _own_slice(grads: Tensor, ranks: Ranks) -> Tensor:
    return grads[ranks.rank]  # bug: what other ranks hold for this rank's texts is never asked for


def _times_w(grads: Tensor, ranks: Ranks) -> Tensor:
    return reduce_scatter(grads, ranks) * ranks.world_size  # bug: the sum over ranks is complete without the factor


def _mean_over_ranks(grads: Tensor, ranks: Ranks) -> Tensor:
    return reduce_scatter(grads, ranks) / ranks.world_size  # bug: ReduceOp.AVG where SUM is the transpose of a gather


def _slice_of_the_next(grads: Tensor, ranks: Ranks) -> Tensor:
    return reduce_scatter(grads.roll(-1, 0), ranks)  # bug: block r + 1 comes home to rank r


def _slice_before_reduce(grads: Tensor, ranks: Ranks) -> Tensor:
    return all_reduce(grads[ranks.rank], ranks)  # bug: each rank's slice is of other texts, and they are added up


class _OneGradientForTwoInputs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, text: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return all_gather(text, ranks)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return reduce_scatter(grads[0].contiguous(), ctx.ranks)  # bug: a gradient for text and none for ranks


def _backward_arity(text: Tensor, ranks: Ranks) -> Brought:
    yield from enumerate(_OneGradientForTwoInputs.apply(text, ranks))


def _spliced(features: Tensor, ranks: Ranks) -> Tensor:
    slices = list(all_gather(features.detach(), ranks))
    slices[ranks.rank] = features  # bug: the other ranks' losses hold these features too, and send nothing back
    return torch.cat(slices)


def _whole_texts(text: Tensor, ranks: Ranks) -> Brought:
    yield ranks.rank, _spliced(text, ranks)


def _whole_matrix(m: Meeting) -> Tensor:
    return block(m._replace(image=_spliced(m.image, m.ranks)))


# ------------------------------------------------------------------ reduce
def _reduce_conditional(text: Tensor, ranks: Ranks) -> Brought:
    for src in range(ranks.world_size):
        texts = differentiable(
            lambda own, src=src: texts_of(own, src, ranks),
            lambda grad, src=src: all_reduce(grad, ranks) * float(src == ranks.rank),
        )(text)
        # bug: the owner leaves out what was reduced; its backward skips that all-reduce and pairs with another one
        yield src, text if src == ranks.rank else texts


def _reduce_local_grad(text: Tensor, ranks: Ranks) -> Brought:
    for src in range(ranks.world_size):
        texts = text * float(src == ranks.rank)
        dist.all_reduce(texts)  # bug: in the graph, but autograd takes it for the identity
        yield src, texts


# ------------------------------------------------------------------ point to point
def _p2p_no_grad(exchange: str) -> Any:
    def bring(text: Tensor, ranks: Ranks) -> Brought:
        for src, texts in EXCHANGES[exchange](text.detach(), ranks):  # bug: what travels is detached
            yield src, text if src == ranks.rank else texts

    return bring


# ------------------------------------------------------------------ the loss as a whole
def _upstream_ignored(loss: Tensor, ranks: Ranks) -> Tensor:
    as_it_is = differentiable(torch.clone, torch.ones_like)  # bug: backward ignores the gradient that reaches it
    return as_it_is(loss)


def _stale_block(m: Meeting) -> Tensor:
    if m.is_own:
        return block(m)
    first = m.own_text.detach()  # bug: backward computes with the block that was saved before the first hop
    saved = block(m._replace(texts=m.texts + (first - m.texts).detach()))
    return saved + (block(m) - saved).detach()


BUGS = (
    Bug(
        id="gather-no-grad",
        sentence="The all-gather has no gradient, so the texts get none at all.",
        source=thread("huggingface/accelerate", 76),
        make=Plant(exchanges={"gather": _gather_detached}),
        quantities=seen_in("T"),
        diagnosis=r"text.*no gradient|no gradient.*text",
    ),
    Bug(
        id="gather-local-grad",
        sentence="The all-gather's backward returns the local slice, so texts never hear of the other ranks' losses.",
        source=thread("lightly-ai/lightly", 1528),
        make=Plant(exchanges=gather(_own_slice)),
        quantities=seen_in("T"),
        diagnosis=r"gradient.*(other|remote)|(other|remote).*gradient",
    ),
    Bug(
        id="gather-grad-times-w",
        sentence="The all-gather's backward multiplies the sum over ranks by W.",
        source=thread("Tencent/TFace", 34),
        make=Plant(exchanges=gather(_times_w)),
        quantities=seen_in("T"),
        diagnosis=r"text.*(times W|factor.*W|W times)",
    ),
    Bug(
        id="gather-grad-over-w",
        sentence="The all-gather's backward averages over ranks where it must sum.",
        source=thread("vllm-project/vllm", 33088),
        make=Plant(exchanges=gather(_mean_over_ranks)),
        quantities=seen_in("T"),
        diagnosis=r"text.*1/W",
    ),
    Bug(
        id="gather-grad-wrong-slice",
        sentence="The all-gather's backward returns another rank's slice.",
        source=neighbour_of("gather-local-grad"),
        make=Plant(exchanges=gather(_slice_of_the_next)),
        quantities=seen_in("T"),
        diagnosis=r"gradient.*(another|wrong|next) rank",
    ),
    Bug(
        id="gather-slice-before-reduce",
        sentence="The all-gather's backward takes its slice first and all-reduces it with other ranks' other slices.",
        source=thread("cellarium-ai/cellarium-ml", 184),
        make=Plant(exchanges=gather(_slice_before_reduce)),
        quantities=seen_in("T"),
        diagnosis=r"gradient.*(another|wrong|other) rank",
    ),
    Bug(
        id="gather-both-spliced",
        sentence="Every rank computes the whole N x N from all-gathers in which only its own slices have a gradient.",
        source=thread("mlfoundations/open_clip", 616),
        make=Plant(exchanges={"gather": _whole_texts}, block=_whole_matrix),
        quantities=seen_in("IT"),
        diagnosis=r"1/W",
        row_wise=False,
    ),
    Bug(
        id="backward-arity",
        sentence="The all-gather's backward returns one gradient for a forward of two inputs, and raises.",
        source=thread("Lightning-AI/pytorch-lightning", 6624),
        make=Plant(exchanges={"gather": _backward_arity}),
        outcomes=("raised",),
        diagnosis=r"incorrect number of gradients",
    ),
    Bug(
        id="p2p-no-grad",
        sentence="Texts travel detached, so the gradient of every remote block is lost.",
        source=thread("mlfoundations/open_clip", 618),
        make=Plant(exchanges={name: _p2p_no_grad(name) for name in ("bidir", "shift")}),
        quantities=seen_in("T"),
        diagnosis=r"gradient.*(other|remote)|(other|remote).*gradient",
    ),
    Bug(
        id="reduce-conditional",
        sentence="The owner does not use its own reduced texts, so all-reduces of different blocks pair in backward.",
        source=FORK,
        make=Plant(exchanges={"reduce": _reduce_conditional}),
        quantities=seen_in("T"),
        diagnosis=r"gradient.*(another|wrong|other) rank",
    ),
    Bug(
        id="reduce-local-grad",
        sentence="A plain all-reduce stands in the graph, where autograd takes it for the identity.",
        source=thread("lightly-ai/lightly", 1920),
        make=Plant(exchanges={"reduce": _reduce_local_grad}),
        quantities=seen_in("T"),
        diagnosis=r"gradient.*(other|remote)|(other|remote).*gradient",
    ),
    Bug(
        id="upstream-ignored",
        sentence="A hand-written backward ignores the gradient that reaches the loss, such as a loss scaler's factor.",
        source=thread("ashawkey/stable-dreamfusion", 158),
        make=Plant(finish=_upstream_ignored),
        where=Where(min_world_size=1, upstream=("scaled", "by-rank")),
        quantities=seen_in("ITsb"),
        diagnosis=r"upstream",
    ),
    Bug(
        id="stale-block",
        sentence="Backward meets every remote block with the own texts, saved before the first hop.",
        source=thread("huggingface/diffusers", 14265),
        make=Plant(block=_stale_block),
        quantities=seen_in("ITsb"),
        diagnosis=r"gradient.*remote|remote.*gradient",
    ),
)
