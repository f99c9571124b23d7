"""Collectives used wrongly: aliased outputs, the wrong root or operation, ranks that do not all take part.

Here: forward of all-gathers, all-reduces and broadcasts, and who is taken for whom. Not here: their gradients
(`gradient`).
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from siglip_verify.bugs.entry import ALL, Bug, Where, neighbour_of, thread
from siglip_verify.bugs.plant import Brought, Plant, all_reduce, differentiable, gathered, pair_group, reduce, ring
from siglip_verify.loss.exchanges.gather import reduce_scatter
from siglip_verify.loss.ranks import Ranks
from siglip_verify.loss.ring import Route, hop, rightward

RANKS_ON_A_HOST = 2


def _aliased(text: Tensor, ranks: Ranks) -> Brought:
    def there(own: Tensor) -> Tensor:
        texts = [torch.empty_like(own)] * ranks.world_size  # bug: one buffer, W times
        dist.all_gather(texts, own.contiguous())
        return torch.stack(texts)

    yield from enumerate(differentiable(there, lambda grad: reduce_scatter(grad.contiguous(), ranks))(text))


def _no_mask(text: Tensor, src: int, ranks: Ranks) -> Tensor:
    return all_reduce(text, ranks)  # bug: every rank adds its texts, not rank src alone


def _rooted(text: Tensor, src: int, ranks: Ranks) -> Tensor:
    total = text * float(src == ranks.rank)
    dist.reduce(total, dst=0)  # bug: the sum is rank 0's alone; elsewhere the content is undefined
    return total


def _not_awaited(text: Tensor, src: int, ranks: Ranks) -> Tensor:
    total = text * float(src == ranks.rank)
    work = dist.all_reduce(total, async_op=True)
    seen = total.clone()  # bug: read before the wait
    assert work is not None
    work.wait()
    return seen


def _one_rank_apart(text: Tensor, ranks: Ranks) -> Brought:
    if ranks.rank == 0:  # bug: a collective behind a condition that not every rank meets
        yield from enumerate(gathered(text, ranks))
    else:
        yield ranks.rank, text


def _own_order(text: Tensor, ranks: Ranks) -> Brought:
    for step in range(ranks.world_size):
        src = (ranks.rank + step) % ranks.world_size  # bug: each rank begins with itself

        def there(own: Tensor, src: int = src) -> Tensor:
            texts = own.clone(memory_format=torch.contiguous_format)
            dist.broadcast(texts, src)
            return texts

        def back(grad: Tensor, src: int = src) -> Tensor:
            return all_reduce(grad, ranks) * float(src == ranks.rank)

        yield src, differentiable(there, back)(text)


def _one_host_shift(text: Tensor, ranks: Ranks) -> Brought:
    host = min(RANKS_ON_A_HOST, ranks.world_size)  # torch.cuda.device_count()
    yield ranks.rank, text
    for distance in range(1, host):  # bug: the ranks of one host are not all ranks
        (text,) = hop([text], [rightward(ranks)], ranks)
        yield (ranks.rank - distance) % ranks.world_size, text


class _GroupRankAsPeer(Ranks):
    def global_rank(self, rank: int) -> int:
        return rank  # bug: point-to-point operations want global ranks, in a subgroup too


def _by_host(text: Tensor, ranks: Ranks) -> Brought:
    """Swap texts within each pair of ranks, then pass the pair around the ring of pairs."""
    if ranks.world_size % 2:
        yield from ring()["shift"](text, ranks)
        return
    on_host = _GroupRankAsPeer(ranks.rank % 2, 2, pair_group(ranks.rank, ranks.world_size))
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


BUGS = (
    Bug(
        id="gather-aliased",
        sentence="The all-gather writes every rank's texts into one buffer, and the last one stays.",
        source=thread("Lightning-AI/pytorch-lightning", 3253),
        make=Plant(exchanges={"gather": _aliased}),
        quantities=ALL,
        diagnosis=r"never (see|meet)|missing|only rank",
    ),
    Bug(
        id="reduce-no-mask",
        sentence="Every rank adds its texts to every all-reduce, so all blocks are the sum of all texts.",
        source=neighbour_of("reduce-conditional"),
        make=Plant(exchanges=reduce(_no_mask)),
        quantities=ALL,
        diagnosis=r"sum|mask|counted|every rank",
    ),
    Bug(
        id="rooted-reduce",
        sentence="A rooted reduce stands for an all-reduce, and ranks that are not its root use what is left there.",
        source=thread("pytorch/pytorch", 21480),
        make=Plant(exchanges=reduce(_rooted)),
        quantities=ALL,
        diagnosis=r"never (see|meet)|missing|only rank",
    ),
    Bug(
        id="unwaited-reduce",
        sentence="The result of an asynchronous all-reduce is read before the wait.",
        source=thread("OpenNMT/OpenNMT-py", 2295),
        make=Plant(exchanges=reduce(_not_awaited)),
        quantities=ALL,
        diagnosis=r"wait|never (see|meet)|missing",
        is_race=True,
    ),
    Bug(
        id="skipped-collective",
        sentence="The all-gather stands behind a condition that only rank 0 meets, which waits for the others forever.",
        source=thread("Lightning-AI/pytorch-lightning", 16541),
        make=Plant(exchanges={"gather": _one_rank_apart}),
        outcomes=("hung", "raised"),
        diagnosis=r"order|wait|hang|hung|all_gather",
    ),
    Bug(
        id="order",
        sentence="Each rank issues the broadcasts in an order of its own.",
        source=thread("meta-pytorch/torchcomms", 2885),
        make=Plant(exchanges={"reduce": _own_order}),
        outcomes=("hung", "raised", "mismatch"),
        diagnosis=r"order",
    ),
    Bug(
        id="local-world-size",
        sentence="The number of ranks on a host is used as W, so ranks of other hosts are left out.",
        source=thread("karpathy/nanoGPT", 284),
        make=Plant(exchanges={"shift": _one_host_shift}),
        where=Where(min_world_size=RANKS_ON_A_HOST + 1),
        quantities=ALL,
        diagnosis=r"never (see|meet)|missing",
    ),
    Bug(
        id="group-rank",
        sentence="The rank within a subgroup is given as the peer of a message, where the global rank belongs.",
        source=thread("pytorch/pytorch", 141054),
        make=Plant(exchanges={"shift": _by_host}),
        where=Where(min_world_size=4, parity="even"),
        outcomes=("raised", "died"),
        diagnosis=r"group|global rank",
    ),
)
