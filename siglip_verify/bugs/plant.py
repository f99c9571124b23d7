"""The correct loss in parts, each of which a plant may replace by a wrong one.

A loss is an exchange that brings every rank's texts, a block loss that is summed over them, and what is done to the
sum. `Plant` puts the three together as `loss.SigLipLoss` does; a bug hands it one part that differs. Where the
difference lies in how a block travels and how its gradient comes home, `ring`, `gather` and `reduce` take those two
and give back the exchange.

Here: plumbing and nothing wrong. Not here: the bugs (the family files).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from siglip_verify.bugs.entry import Loss
from siglip_verify.loss.block import block_loss, ground_truth
from siglip_verify.loss.exchanges import EXCHANGES
from siglip_verify.loss.exchanges.gather import reduce_scatter
from siglip_verify.loss.ranks import Ranks
from siglip_verify.loss.ring import Route, leftward, rightward
from siglip_verify.loss.validate import as_scalar

Brought = Iterator[tuple[int, Tensor]]
"""(src, texts of rank src), for every rank if nothing is planted."""

Exchange = Callable[[Tensor, Ranks], Brought]
Exchanges = Mapping[str, Exchange]


class Meeting(NamedTuple):
    """This rank's images meet the texts of one rank."""

    image: Tensor
    texts: Tensor
    scale: Tensor
    bias: Tensor
    src: int
    ranks: Ranks
    own_text: Tensor
    chunk_size: int

    @property
    def is_own(self) -> bool:
        """Whether the texts are this rank's own, matching the images row by row."""
        return self.src == self.ranks.rank


def block(m: Meeting) -> Tensor:
    """Return the loss of one block: positives on the diagonal of the own one, negatives everywhere else."""
    return block_loss(m.image, m.texts, m.scale, m.bias, ground_truth if m.is_own else None, m.chunk_size)


def block_at_once(m: Meeting, t: Tensor) -> Tensor:
    """Return the loss of one block without chunks, with t on the products: one number, or one for each pair [b, b]."""
    z = t * (m.image @ m.texts.T).to(m.scale.dtype) + m.bias
    y = ground_truth(len(z), len(z), 0 if m.is_own else len(z), z.device, z.dtype)
    return -functional.logsigmoid(y * z).sum() / len(m.image)


def unchanged(loss: Tensor, ranks: Ranks) -> Tensor:
    """Return the sum over blocks as it is."""
    return loss


@dataclass(frozen=True)
class Plant:
    """Builds a loss of the parts given; without any, the correct one.

    Args:
        exchanges: How texts are brought, by name of the exchange.
        block: The loss of one block.
        finish: What is done to the sum over blocks.
    """

    exchanges: Exchanges = field(default_factory=lambda: EXCHANGES)
    block: Callable[[Meeting], Tensor] = block
    finish: Callable[[Tensor, Ranks], Tensor] = unchanged

    def __call__(self, rank: int, world_size: int, exchange: str, chunk_size: int = 0) -> Loss:
        """Return the loss of one rank."""
        ranks = Ranks(rank, world_size, None)
        bring = self.exchanges[exchange]

        def loss(image: Tensor, text: Tensor, logit_scale: Tensor, logit_bias: Tensor) -> Tensor:
            scale = as_scalar("logit_scale", logit_scale, image)
            bias = as_scalar("logit_bias", logit_bias, image)
            total = scale.new_zeros(())
            brought: Iterable[tuple[int, Tensor]] = bring(text, ranks) if world_size > 1 else [(rank, text)]
            for src, texts in brought:
                total = total + self.block(Meeting(image, texts, scale, bias, src, ranks, text, chunk_size))
            return self.finish(total, ranks)

        return loss


# ------------------------------------------------------------------ ways there, and ways back for the gradient
Send = Callable[[Sequence[Tensor], Sequence[Route], Ranks], tuple[Tensor, ...]]


def differentiable(there: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return `there`, with `back` as what turns its output's gradient into its input's."""

    def there_and_back(tensor: Tensor) -> Tensor:
        return _ThereAndBack.apply(there, back, tensor)  # type: ignore[no-any-return]

    return there_and_back


class _ThereAndBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, there: Callable[..., Any], back: Callable[..., Any], *tensors: Tensor) -> Any:
        ctx.back = back
        return there(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        home = ctx.back(*grads)
        return None, None, *(home if isinstance(home, tuple) else (home,))


def post(outgoing: Sequence[Tensor], incoming: Sequence[Tensor], routes: Sequence[Route]) -> list[dist.Work]:
    """Post every send and every receive of a hop together; done when all of them were waited for."""
    sends = [dist.P2POp(dist.isend, block, route.dst) for block, route in zip(outgoing, routes, strict=True)]
    receives = [dist.P2POp(dist.irecv, block, route.src) for block, route in zip(incoming, routes, strict=True)]
    return dist.batch_isend_irecv(sends + receives)


def send_and_receive(blocks: Sequence[Tensor], routes: Sequence[Route], ranks: Ranks) -> tuple[Tensor, ...]:
    """Send each block along its route and return what arrives; no gradient."""
    outgoing = [block.contiguous() for block in blocks]
    incoming = tuple(torch.empty_like(block) for block in outgoing)
    for work in post(outgoing, incoming, routes):
        work.wait()
    return incoming


def way_back(grads: Sequence[Tensor], routes: Sequence[Route], ranks: Ranks) -> tuple[Tensor, ...]:
    """Send each gradient against the route of its block."""
    return send_and_receive(grads, [route.reverse for route in routes], ranks)


def ring(send: Send = send_and_receive, back: Send = way_back) -> Exchanges:
    """Return `shift` and `bidir` whose hops use `send`, and `back` in backward."""

    def hop(blocks: Sequence[Tensor], routes: Sequence[Route], ranks: Ranks) -> tuple[Tensor, ...]:
        def there(*outgoing: Tensor) -> tuple[Tensor, ...]:
            return send(outgoing, routes, ranks)

        def home(*grads: Tensor) -> tuple[Tensor, ...]:
            return back(grads, routes, ranks)

        return _ThereAndBack.apply(there, home, *blocks)  # type: ignore[no-any-return]

    def shift(text: Tensor, ranks: Ranks) -> Brought:
        yield ranks.rank, text
        for distance in range(1, ranks.world_size):
            (text,) = hop([text], [rightward(ranks)], ranks)
            yield (ranks.rank - distance) % ranks.world_size, text

    def bidir(text: Tensor, ranks: Ranks) -> Brought:
        yield ranks.rank, text
        double_hops, single_hops = divmod(ranks.world_size - 1, 2)
        to_right = to_left = text
        for distance in range(1, double_hops + 1):
            to_right, to_left = hop([to_right, to_left], [rightward(ranks), leftward(ranks)], ranks)
            yield (ranks.rank - distance) % ranks.world_size, to_right
            yield (ranks.rank + distance) % ranks.world_size, to_left
        if single_hops:
            (opposite,) = hop([to_right], [rightward(ranks)], ranks)
            yield (ranks.rank + ranks.world_size // 2) % ranks.world_size, opposite

    return {"shift": shift, "bidir": bidir}


def all_gather(text: Tensor, ranks: Ranks) -> Tensor:
    """Return every rank's texts, [W, b, d]; no gradient."""
    texts = [torch.empty_like(text, memory_format=torch.contiguous_format) for _ in range(ranks.world_size)]
    dist.all_gather(texts, text.contiguous(), group=ranks.group)
    return torch.stack(texts)


def gathered(text: Tensor, ranks: Ranks, back: Callable[[Tensor, Ranks], Tensor] = reduce_scatter) -> Tensor:
    """Return every rank's texts [W, b, d]; `back` makes the text gradient of theirs."""
    return differentiable(lambda own: all_gather(own, ranks), lambda grad: back(grad.contiguous(), ranks))(text)


def gather(back: Callable[[Tensor, Ranks], Tensor]) -> Exchanges:
    """Return `gather` with `back` as its backward."""
    return {"gather": lambda text, ranks: iter(enumerate(gathered(text, ranks, back)))}


def all_reduce(tensor: Tensor, ranks: Ranks) -> Tensor:
    """Return the sum over ranks, a new tensor; no gradient."""
    total = tensor.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=ranks.group)
    return total


TextsOf = Callable[[Tensor, int, Ranks], Tensor]


def texts_of(text: Tensor, src: int, ranks: Ranks) -> Tensor:
    """Return rank src's texts: the sum over ranks of their own ones, masked."""
    return all_reduce(text * float(src == ranks.rank), ranks)


def reduce(there: TextsOf = texts_of) -> Exchanges:
    """Return `reduce` with `there` to bring the texts of one rank; backward sums their gradients on that rank."""

    def exchange(text: Tensor, ranks: Ranks) -> Brought:
        for src in range(ranks.world_size):

            def bring(own: Tensor, src: int = src) -> Tensor:
                return there(own, src, ranks)

            def home(grad: Tensor, src: int = src) -> Tensor:
                return all_reduce(grad, ranks) * float(src == ranks.rank)

            yield src, differentiable(bring, home)(text)

    return {"reduce": exchange}


@functools.cache
def pair_group(rank: int, world_size: int) -> dist.ProcessGroup:
    """Return this rank's group of two (0 and 1, 2 and 3 ...); every rank makes all of them, once in a process."""
    groups = [dist.new_group([first, first + 1]) for first in range(0, world_size - 1, 2)]
    own = groups[rank // 2]
    assert isinstance(own, dist.ProcessGroup)
    return own
