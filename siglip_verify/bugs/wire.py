"""Messages that arrive otherwise than they were meant: narrowed, reinterpreted, unread, misfit, or never.

Here: dtype, memory layout, size and waiting of what is sent. Not here: where it is sent (`ring`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from siglip_verify.bugs.entry import ALL, Bug, Where, seen_in, thread
from siglip_verify.bugs.plant import (
    Brought,
    Exchange,
    Plant,
    all_gather,
    differentiable,
    gather,
    post,
    ring,
    send_and_receive,
    way_back,
)
from siglip_verify.loss.exchanges import EXCHANGES
from siglip_verify.loss.exchanges.gather import reduce_scatter
from siglip_verify.loss.ranks import Ranks
from siglip_verify.loss.ring import Route

Blocks = tuple[Tensor, ...]


def _narrow(exchange: str) -> Exchange:
    def bring(text: Tensor, ranks: Ranks) -> Brought:
        for src, texts in EXCHANGES[exchange](text.bfloat16(), ranks):  # bug: 8 bits of mantissa on the wire
            yield src, texts.to(text.dtype)

    return bring


def _narrow_back(grads: Sequence[Tensor], routes: Sequence[Route], ranks: Ranks) -> Blocks:
    home = way_back([grad.bfloat16() for grad in grads], routes, ranks)  # bug
    return tuple(grad.to(grads[0].dtype) for grad in home)


def _narrow_scatter(grads: Tensor, ranks: Ranks) -> Tensor:
    return reduce_scatter(grads.bfloat16(), ranks).to(grads.dtype)  # bug: sent and added up in bfloat16


def _not_contiguous(blocks: Sequence[Tensor], routes: Sequence[Route], ranks: Ranks) -> Blocks:
    incoming = tuple(torch.empty_like(block) for block in blocks)
    for work in post(blocks, incoming, routes):  # bug: blocks as they lie in memory, without .contiguous()
        work.wait()
    return incoming


def _into_a_copy(text: Tensor, ranks: Ranks) -> Brought:
    def back(grad: Tensor) -> Tensor:
        total = text.new_zeros(text.shape[::-1]).T  # lies in memory column by column
        total.contiguous().copy_(reduce_scatter(grad.contiguous(), ranks))  # bug: contiguous() may return a copy
        return total

    yield from enumerate(differentiable(lambda own: all_gather(own, ranks), back)(text))


def _not_awaited(blocks: Sequence[Tensor], routes: Sequence[Route], ranks: Ranks) -> Blocks:
    outgoing = [block.contiguous() for block in blocks]
    incoming = [torch.empty_like(block) for block in outgoing]
    works = post(outgoing, incoming, routes)
    seen = tuple(block.clone() for block in incoming)  # bug: read before the wait
    for work in works:
        work.wait()
    return seen


def _other_dtype(blocks: Sequence[Tensor], routes: Sequence[Route], ranks: Ranks) -> Blocks:
    integers = {8: torch.int64, 4: torch.int32, 2: torch.int16}[blocks[0].itemsize]
    outgoing = [block.contiguous() for block in blocks]
    incoming = [torch.empty_like(block, dtype=integers) for block in outgoing]  # bug: bits, read as another dtype
    for work in post(outgoing, incoming, routes):
        work.wait()
    return tuple(block.to(blocks[0].dtype) for block in incoming)


def _uneven(blocks: Sequence[Tensor], routes: Sequence[Route], ranks: Ranks) -> Blocks:
    if ranks.rank == 0:
        blocks = [torch.cat([block, block[-1:]]) for block in blocks]  # bug: one row more than its peers expect
    return tuple(block[: len(blocks[0])] for block in send_and_receive(blocks, routes, ranks))


def _unbatched(blocks: Sequence[Tensor], routes: Sequence[Route], ranks: Ranks) -> Blocks:
    outgoing = [block.contiguous() for block in blocks]
    incoming = tuple(torch.empty_like(block) for block in outgoing)
    for block, received, route in zip(outgoing, incoming, routes, strict=True):
        dist.send(block, route.dst)  # bug: every rank waits here for a peer that waits as well
        dist.recv(received, route.src)
    return incoming


WIDE = Where(dtypes=("float64", "float32", "float16"))
STRIDED = Where(min_batch=2, layouts=("transposed", "strided"))

BUGS = (
    Bug(
        id="lossy-wire",
        sentence="Texts travel in bfloat16 whatever dtype they have.",
        source=thread("pytorch/pytorch", 110408),
        make=Plant(exchanges={name: _narrow(name) for name in EXCHANGES}),
        where=WIDE,
        quantities=ALL,
        diagnosis=r"narrow|bfloat16|precision",
    ),
    Bug(
        id="lossy-wire-grad",
        sentence="Text gradients are sent and summed in bfloat16.",
        source=thread("pytorch/pytorch", 106395),
        make=Plant(exchanges={**ring(back=_narrow_back), **gather(_narrow_scatter)}),
        where=WIDE,
        quantities=seen_in("T"),
        diagnosis=r"narrow|bfloat16|precision",
    ),
    Bug(
        id="non-contiguous",
        sentence="Texts are sent as they lie in memory, and strided ones cannot be.",
        source=thread("pytorch/pytorch", 73515),
        make=Plant(exchanges=ring(send=_not_contiguous)),
        where=STRIDED,
        outcomes=("raised",),
        diagnosis=r"contiguous",
    ),
    Bug(
        id="non-contiguous-grad",
        sentence="The gradient is written into a contiguous copy of a strided buffer, and the copy is thrown away.",
        source=thread("pytorch/pytorch", 120386),
        make=Plant(exchanges={"gather": _into_a_copy}),
        where=Where(min_batch=2),
        quantities=seen_in("T"),
        diagnosis=r"text.*gradient|gradient.*text",
    ),
    Bug(
        id="unwaited-receive",
        sentence="The receive buffer is read before the message has come.",
        source=thread("mlfoundations/open_clip", 742),
        make=Plant(exchanges=ring(send=_not_awaited)),
        quantities=ALL,
        diagnosis=r"wait|before",
        is_race=True,
    ),
    Bug(
        id="receive-dtype",
        sentence="The receive buffer has another dtype than what is sent, and its bits are read as that.",
        source=thread("pytorch/pytorch", 102355),
        make=Plant(exchanges=ring(send=_other_dtype)),
        quantities=ALL,
        diagnosis=r"dtype",
    ),
    Bug(
        id="uneven-batch",
        sentence="One rank holds a row more than its peers made room for.",
        source=thread("pytorch/pytorch", 113376),
        make=Plant(exchanges=ring(send=_uneven)),
        outcomes=("died", "raised"),
        diagnosis=r"size|batch|row",
    ),
    Bug(
        id="unbatched-p2p",
        sentence="Every rank sends and waits before it receives.",
        source=thread("lucidrains/ring-attention-pytorch", 9),
        make=Plant(exchanges=ring(send=_unbatched)),
        outcomes=("hung",),
        diagnosis=r"deadlock|wait",
    ),
)
