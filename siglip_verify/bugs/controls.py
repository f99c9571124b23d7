"""Controls: losses that are written differently from ours and are right, each under the convention it declares.

A verifier that rejects one of these raises false alarms. They have the shapes that losses have in the wild: factories,
functions, modules with own parameters, exchanges of any kind or none.

Here: right code alone. Not here: anything planted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from siglip_verify.adapt.spec import LossSpec
from siglip_verify.bugs.companions import Companions
from siglip_verify.bugs.entry import Control, Loss
from siglip_verify.bugs.plant import Brought, Meeting, Plant, all_reduce, differentiable, gathered, pair_group
from siglip_verify.loss.block import block_loss, ground_truth, logits
from siglip_verify.loss.exchanges import EXCHANGES
from siglip_verify.loss.ranks import Ranks
from siglip_verify.loss.ring import Route, hop, rightward
from siglip_verify.loss.validate import as_scalar


def _here() -> Ranks:
    return Ranks(dist.get_rank(), dist.get_world_size(), None)


def _everywhere(features: Tensor, ranks: Ranks) -> Tensor:
    """Return all ranks' rows [N, d], with gradient."""
    return gathered(features, ranks).flatten(0, 1)


def _pairs_sum(image: Tensor, text: Tensor, first_row: int, scale: Tensor, bias: Tensor) -> Tensor:
    """Return -sum log sigmoid(y z), image i and text first_row + i being positive."""
    z = logits(image, text, as_scalar("scale", scale, image), as_scalar("bias", bias, image))
    y = ground_truth(len(image), len(text), first_row, z.device, z.dtype)
    return -functional.logsigmoid(y * z).sum()


# ------------------------------------------------------------------ the whole matrix
def label_rows(rank: int, world_size: int) -> Loss:
    """Own images against all texts at once, with this rank's rows of the N x N labels."""
    ranks = Ranks(rank, world_size, None)

    def loss(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        b = len(image)
        return _pairs_sum(image, _everywhere(text, ranks), rank * b, scale, bias) / b

    return loss


def whole_matrix(rank: int, world_size: int) -> Loss:
    """All images against all texts on every rank: each has the global loss."""
    ranks = Ranks(rank, world_size, None)

    def loss(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        images, texts = _everywhere(image, ranks), _everywhere(text, ranks)
        return _pairs_sum(images, texts, 0, scale, bias) / len(images)

    return loss


def both_directions(rank: int, world_size: int) -> Loss:
    """The average of own images against all texts and own texts against all images."""
    ranks = Ranks(rank, world_size, None)

    def loss(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        b = len(image)
        rows = _pairs_sum(image, _everywhere(text, ranks), rank * b, scale, bias)
        columns = _pairs_sum(text, _everywhere(image, ranks), rank * b, scale, bias)
        return (rows + columns) / (2 * b)

    return loss


# ------------------------------------------------------------------ another block loss
def _softplus_less_diagonal(m: Meeting) -> Tensor:
    z = logits(m.image, m.texts, m.scale, m.bias)
    total = torch.logaddexp(z, torch.zeros_like(z)).sum()  # functional.softplus drops digits above z = 20
    return (total - z.diagonal().sum() if m.is_own else total) / len(m.image)


def _cross_entropy(m: Meeting) -> Tensor:
    z = logits(m.image, m.texts, m.scale, m.bias)
    targets = torch.eye(len(z)).to(z) if m.is_own else torch.zeros_like(z)
    return functional.binary_cross_entropy_with_logits(z, targets, reduction="sum") / len(m.image)


def _chunk_of_one(m: Meeting) -> Tensor:
    return block_loss(m.image, m.texts, m.scale, m.bias, ground_truth if m.is_own else None, 1)


def softplus(rank: int, world_size: int, exchange: str) -> Loss:
    """All b x b logits of a block at once, so it takes no chunk size."""
    return Plant(block=_softplus_less_diagonal)(rank, world_size, exchange)


def cross_entropy(rank: int, world_size: int, exchange: str) -> Loss:
    """All b x b logits of a block at once, so it takes no chunk size."""
    return Plant(block=_cross_entropy)(rank, world_size, exchange)


chunk_of_one = Plant(block=_chunk_of_one)
constant_memory = Companions()


# ------------------------------------------------------------------ another exchange
def _all_to_all(text: Tensor, ranks: Ranks) -> Brought:
    def swap(blocks: Tensor) -> Tensor:
        swapped = torch.empty_like(blocks)
        dist.all_to_all_single(swapped, blocks.contiguous())
        return swapped

    copies = text.expand(ranks.world_size, *text.shape).contiguous()
    yield from enumerate(differentiable(swap, swap)(copies))


def _broadcast(text: Tensor, ranks: Ranks) -> Brought:
    for src in range(ranks.world_size):

        def there(own: Tensor, src: int = src) -> Tensor:
            texts = own.clone(memory_format=torch.contiguous_format)
            dist.broadcast(texts, src)
            return texts

        def back(grad: Tensor, src: int = src) -> Tensor:
            return all_reduce(grad, ranks) * float(src == ranks.rank)

        yield src, differentiable(there, back)(text)


def _by_host(text: Tensor, ranks: Ranks) -> Brought:
    if ranks.world_size % 2:
        yield from EXCHANGES["shift"](text, ranks)
        return
    on_host = Ranks(ranks.rank % 2, 2, pair_group(ranks.rank, ranks.world_size))
    (other,) = hop([text], [rightward(on_host)], on_host)
    pair = (text, other)
    yield ranks.rank, text
    yield ranks.rank ^ 1, other
    for distance in range(2, ranks.world_size, 2):
        route = Route(dst=(ranks.rank + 2) % ranks.world_size, src=(ranks.rank - 2) % ranks.world_size)
        pair = hop(pair, [route, route], ranks)
        src = (ranks.rank - distance) % ranks.world_size
        yield src, pair[0]
        yield src ^ 1, pair[1]


def _factory(bring: Callable[[Tensor, Ranks], Brought]) -> Callable[[int, int], Loss]:
    def make(rank: int, world_size: int) -> Loss:
        return Plant(exchanges={"own": bring})(rank, world_size, "own")

    return make


all_to_all = _factory(_all_to_all)
broadcast = _factory(_broadcast)
by_host = _factory(_by_host)


def images_travel(rank: int, world_size: int, exchange: str) -> Loss:
    """Images go around and texts stay: each rank has its columns of the matrix, not its rows."""
    row_wise = Plant()(rank, world_size, exchange)
    return lambda image, text, scale, bias: row_wise(text, image, scale, bias)


def scaled_texts_travel(rank: int, world_size: int, exchange: str) -> Loss:
    """Texts are multiplied by t before they are sent, so part of t's gradient comes home from other ranks."""
    plain = Plant()(rank, world_size, exchange)
    return lambda image, text, scale, bias: plain(image, text * scale.to(text.dtype), torch.ones_like(scale), bias)


# ------------------------------------------------------------------ another shape
def sum_of_pairs(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """A plain function that returns the sum over its pairs."""
    ranks = _here()
    return _pairs_sum(image, _everywhere(text, ranks), ranks.rank * len(image), scale, bias)


def share_of_the_mean(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> tuple[Tensor, int]:
    """The rank's share of the global mean, for gradients that are summed over ranks; beside it the number of pairs."""
    num_pairs = len(image) * dist.get_world_size()
    return sum_of_pairs(image, text, scale, bias) / num_pairs, num_pairs


class OwnScalars(nn.Module):
    """A module that holds log t and c as its parameters and returns a dict."""

    def __init__(self, rank: int, world_size: int) -> None:
        super().__init__()
        self.t_prime = nn.Parameter(torch.tensor(math.log(10.0)))
        self.b = nn.Parameter(torch.tensor(-10.0))
        self._loss = label_rows(rank, world_size)

    def forward(self, image: Tensor, text: Tensor) -> dict[str, Any]:
        """Return the loss beside something that is none."""
        return {"sigmoid_loss": self._loss(image, text, self.t_prime.exp(), self.b), "batch": len(image)}


def _spec(attribute: str, **convention: Any) -> LossSpec:
    return LossSpec(target=f"siglip_verify.bugs.controls:{attribute}", **convention)


CONTROLS: dict[str, Control] = {
    control.id: control
    for control in (
        Control(
            id="parts",
            sentence="The correct loss put together from the parts that the bugs replace.",
            spec=LossSpec(target="siglip_verify.bugs:make"),
        ),
        Control(
            id="constant-memory",
            sentence="Blocks travel with their gradients, computed in forward, in the parts that the bugs replace.",
            spec=_spec("constant_memory", same_upstream=True),
            exchanges=("bidir", "shift"),
        ),
        Control(id="label-rows", sentence=str(label_rows.__doc__), spec=_spec("label_rows")),
        Control(id="whole-matrix", sentence=str(whole_matrix.__doc__), spec=_spec("whole_matrix", row_wise=False)),
        Control(
            id="both-directions", sentence=str(both_directions.__doc__), spec=_spec("both_directions", row_wise=False)
        ),
        Control(
            id="softplus",
            sentence="Softplus of every logit less the logits on the diagonal.",
            spec=_spec("softplus"),
        ),
        Control(
            id="cross-entropy",
            sentence="Binary cross entropy of logits with targets 0 and 1.",
            spec=_spec("cross_entropy"),
        ),
        Control(id="chunk-of-one", sentence="One row of logits at a time.", spec=_spec("chunk_of_one")),
        Control(
            id="all-to-all",
            sentence="An all-to-all of W copies, whose backward is an all-to-all.",
            spec=_spec("all_to_all"),
        ),
        Control(id="broadcast", sentence="A broadcast from every rank in turn.", spec=_spec("broadcast")),
        Control(
            id="by-host",
            sentence="Pairs of ranks swap texts in subgroups, then pairs go around.",
            spec=_spec("by_host"),
        ),
        Control(id="images-travel", sentence=str(images_travel.__doc__), spec=_spec("images_travel", row_wise=False)),
        Control(
            id="scaled-texts-travel",
            sentence=str(scaled_texts_travel.__doc__),
            spec=_spec("scaled_texts_travel", row_wise=False),
        ),
        Control(id="sum", sentence=str(sum_of_pairs.__doc__), spec=_spec("sum_of_pairs", normalizer="1")),
        Control(
            id="share",
            sentence=str(share_of_the_mean.__doc__),
            spec=_spec("share_of_the_mean", normalizer="N", reduction="sum"),
        ),
        Control(
            id="own-scalars",
            sentence=str(OwnScalars.__doc__),
            spec=_spec("OwnScalars", scale_parameter="t_prime", bias_parameter="b", log_scale=True),
        ),
    )
}
