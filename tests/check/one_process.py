"""All ranks of a loss in one process, by autograd: what they would record, with faults put in by hand.

Written for the tests of coverage and diagnosis, and without their code: every block of every rank is a small graph of
its own, so that a test says by itself which block counts, how often, and where its text gradient goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from siglip_verify import features
from siglip_verify.case import Case
from siglip_verify.records import RankRecord

Array = NDArray[np.float64]
Block = Callable[[Tensor, Tensor, Tensor, Tensor, bool], Tensor]


def block(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, positive: bool) -> Tensor:
    """Sum over one block, its diagonal labelled positive or not."""
    z = scale * image @ text.T + bias
    labels = 2 * torch.eye(len(z), dtype=z.dtype) - 1 if positive else -torch.ones_like(z)
    return -functional.logsigmoid(labels * z).sum()


def records(
    case: Case,
    *,
    counted: Array | None = None,
    positives: Array | None = None,
    home: Array | None = None,
    of_block: Callable[[int, int], Block] = lambda i, k: block,
    factor: float = 1.0,
    normalizer: float | None = None,
) -> list[RankRecord]:
    """Compute what each rank records.

    Args:
        case: The input, float64.
        counted: [W, W] whole numbers, how often rank i counts rank k's texts; ones if left out.
        positives: [W, W] of 0 and 1, whether that block's diagonal is labelled positive; the identity if left out.
        home: [W, W, W], how often rank j's text gradient gets that of block (i, k); once where j = k if left out.
        of_block: The sum over block (i, k).
        factor: In front of every rank's loss.
        normalizer: What each sum is divided by; b if left out.
    """
    num_ranks = case.world_size
    inputs = features.draw(case)
    counted = np.ones((num_ranks, num_ranks)) if counted is None else counted
    positives = np.eye(num_ranks) if positives is None else positives
    if home is None:
        home = np.eye(num_ranks)[:, None, :] * np.ones((1, num_ranks, 1))
    divisor = normalizer or case.batch
    text_grads = np.zeros((num_ranks, case.batch, case.dim))
    seen: list[RankRecord] = []
    for i in range(num_ranks):
        image, scale, bias = (leaf(tensor) for tensor in (inputs.images[i], inputs.scale, inputs.bias))
        texts = [leaf(text) for text in inputs.texts]
        total = torch.zeros((), dtype=torch.float64)
        for k in range(num_ranks):
            for time in range(int(counted[i, k])):
                positive = bool(positives[i, k]) and time == 0
                total = total + of_block(i, k)(image, texts[k], scale, bias, positive)
        loss = factor * total / divisor
        if loss.requires_grad:
            (loss * inputs.upstream[i]).backward()  # type: ignore[no-untyped-call]
        for k, text in enumerate(texts):
            if text.grad is not None:
                text_grads += home[:, i, k][:, None, None] * text.grad.numpy()
        seen.append(record(i, loss, image, scale, bias))
    return [with_text(each, text_grads[each.rank]) for each in seen]


def both_directions(case: Case, *, gradient_comes_home: bool = True) -> list[RankRecord]:
    """Compute what the ranks of a right loss record that averages both directions over gathered features.

    Args:
        case: The input, float64.
        gradient_comes_home: False for a gather whose backward keeps the own slice alone.
    """
    inputs, num_ranks = features.draw(case), case.world_size
    image_grads, text_grads = (np.zeros((num_ranks, case.batch, case.dim)) for _ in range(2))
    seen: list[RankRecord] = []
    for r in range(num_ranks):
        images, texts = ([leaf(rows) for rows in of] for of in (inputs.images, inputs.texts))
        scale, bias = leaf(inputs.scale), leaf(inputs.bias)
        rows = sum(block(images[r], texts[k], scale, bias, k == r) for k in range(num_ranks))
        columns = sum(block(images[k], texts[r], scale, bias, k == r) for k in range(num_ranks))
        loss = (rows + columns) / (2 * case.batch)
        assert isinstance(loss, Tensor)
        loss.backward()  # type: ignore[no-untyped-call]
        for k in range(num_ranks) if gradient_comes_home else [r]:
            for grads, leaves in ((image_grads, images), (text_grads, texts)):
                grads[k] += gradient(leaves[k])
        seen.append(record(r, loss, images[r], scale, bias))
    return [
        RankRecord(
            rank=each.rank,
            loss=each.loss,
            image_grad=image_grads[each.rank],
            text_grad=text_grads[each.rank],
            scale_grad=each.scale_grad,
            bias_grad=each.bias_grad,
        )
        for each in seen
    ]


def changed(seen: Sequence[RankRecord], **changes: object) -> list[RankRecord]:
    """Return the same records with some fields replaced on every rank; a function is given the old value."""
    return [
        RankRecord(
            **{
                name: (changes[name](getattr(each, name)) if callable(changes[name]) else changes[name])
                if name in changes
                else getattr(each, name)
                for name in RankRecord.__struct_fields__
            }
        )
        for each in seen
    ]


def leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().double().clone().requires_grad_()


def gradient(tensor: Tensor) -> Array:
    return np.zeros(tuple(tensor.shape)) if tensor.grad is None else tensor.grad.numpy()


def record(rank: int, loss: Tensor, image: Tensor, scale: Tensor, bias: Tensor) -> RankRecord:
    return RankRecord(
        rank=rank,
        loss=loss.item(),
        image_grad=gradient(image),
        text_grad=None,
        scale_grad=float(gradient(scale)),
        bias_grad=float(gradient(bias)),
    )


def with_text(seen: RankRecord, text_grad: Array) -> RankRecord:
    return changed([seen], text_grad=text_grad)[0]
