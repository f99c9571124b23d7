"""Right terms, wrongly weighed: divisors, factors of W, chunks that are averaged or dropped.

Here: what sums are divided by and what becomes of the value. Not here: which terms there are (`labels`, `ring`).
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from siglip_verify.bugs.entry import ALL, FORK, Bug, Where, thread
from siglip_verify.bugs.plant import Meeting, Plant, block
from siglip_verify.loss.block import block_loss, ground_truth
from siglip_verify.loss.ranks import Ranks


def _over_b_b(m: Meeting) -> Tensor:
    return block(m) / len(m.image)  # bug: .mean() over the b x b logits


def _over_n(m: Meeting) -> Tensor:
    return block(m) / m.ranks.world_size  # bug: the mean over ranks divides by W once more


def _over_nothing(m: Meeting) -> Tensor:
    return block(m) * len(m.image)  # bug: a sum


def _times_w(loss: Tensor, ranks: Ranks) -> Tensor:
    return loss * ranks.world_size  # bug: as if ranks' gradients were summed with 1/N in each


def _over_w(loss: Tensor, ranks: Ranks) -> Tensor:
    return loss / ranks.world_size  # bug: as if ranks' gradients were summed, where they are averaged


def _mean_of_means(m: Meeting) -> Tensor:
    means: list[Tensor] = []
    for rows in m.image.split(m.chunk_size or len(m.image)):
        first = sum(len(done) for done in m.image.split(m.chunk_size or len(m.image))[: len(means)])

        def labels(
            rows: int, columns: int, _: int, device: torch.device, dtype: torch.dtype, at: int = first
        ) -> Tensor:
            return ground_truth(rows, columns, at, device, dtype)

        means.append(block_loss(rows, m.texts, m.scale, m.bias, labels if m.is_own else None))
    return torch.stack(means).mean()  # bug: a short last chunk weighs as much as a whole one


def _last_chunk_dropped(m: Meeting) -> Tensor:
    whole = len(m.image) - (len(m.image) % m.chunk_size if 0 < m.chunk_size < len(m.image) else 0)
    kept = m.image[:whole]  # bug: b // chunk_size chunks
    return block(m._replace(image=kept)) * len(kept) / len(m.image)


def _reduced_for_the_log(loss: Tensor, ranks: Ranks) -> Tensor:
    logged = loss.detach()  # bug: shares the loss's memory
    dist.all_reduce(logged)
    logged /= ranks.world_size
    return loss


BUGS = (
    Bug(
        id="wrong-normaliser",
        sentence="Each block is averaged over its b x b logits, not over its b images.",
        source=FORK,
        make=Plant(block=_over_b_b),
        where=Where(min_world_size=1, min_batch=2),
        quantities=ALL,
        diagnosis=r"b ?\* ?b|1/b|normali[sz]er",
    ),
    Bug(
        id="wrong-normaliser-global",
        sentence="Each rank divides by N = W b where the mean over ranks already divides by W.",
        source=FORK,
        make=Plant(block=_over_n),
        quantities=ALL,
        diagnosis=r"1/W|normali[sz]er",
    ),
    Bug(
        id="wrong-normaliser-none",
        sentence="Nothing is divided: the loss is a sum over pairs.",
        source=FORK,
        make=Plant(block=_over_nothing),
        where=Where(min_world_size=1, min_batch=2),
        quantities=ALL,
        diagnosis=r"times b|factor.*b|normali[sz]er",
    ),
    Bug(
        id="ddp-scale",
        sentence="The loss is multiplied by W, against an average of gradients that is not there.",
        source=thread("KevinMusgrave/pytorch-metric-learning", 363),
        make=Plant(finish=_times_w),
        quantities=ALL,
        diagnosis=r"times W|W times|factor.*W",
    ),
    Bug(
        id="ddp-scale-down",
        sentence="The loss is divided by W, so averaged gradients are W times too small.",
        source=thread("JohnGiorgi/DeCLUTR", 212),
        make=Plant(finish=_over_w),
        quantities=ALL,
        diagnosis=r"1/W",
    ),
    Bug(
        id="chunk-mean-of-means",
        sentence="Chunks are averaged first and then their means, though the last chunk is shorter.",
        source=thread("huggingface/transformers", 35203),
        make=Plant(block=_mean_of_means),
        where=Where(min_world_size=1, chunk="ragged"),
        quantities=ALL,
        diagnosis=r"chunk",
    ),
    Bug(
        id="chunk-dropped",
        sentence="A last chunk that is not full is dropped.",
        source=thread("ml-explore/mlx-lm", 1413),
        make=Plant(block=_last_chunk_dropped),
        where=Where(min_world_size=1, chunk="ragged"),
        quantities=ALL,
        diagnosis=r"chunk",
    ),
    Bug(
        id="loss-reduced-for-log",
        sentence="An all-reduce for the log writes the mean over ranks into the loss that is returned.",
        source=thread("NVIDIA/apex", 664),
        make=Plant(finish=_reduced_for_the_log),
        quantities=("local_loss",),
        diagnosis=r"mean over ranks|same on every rank|all ranks",
    ),
    Bug(
        id="wrong-normaliser-doubled",
        sentence="The batch is counted as both views of it, so the loss is divided by 2 b.",
        source=thread("Project-MONAI/tutorials", 865),
        make=Plant(finish=lambda loss, ranks: loss / 2),  # bug: b is one view's rows
        where=Where(min_world_size=1),
        quantities=ALL,
        diagnosis=r"1/2|0\.5|half|factor",
    ),
)
