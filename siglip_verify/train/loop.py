"""The training loop, the same for one process on the whole batch and for a rank on its part of it.

Here: batches, steps, and what is kept of each. Not here: who runs it on what (`jobs`), and what is made of it
(`equality`, `costs`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from siglip_verify.train.data import Task
from siglip_verify.train.towers import BIAS, Towers

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(image_features, text_features, logit_scale, logit_bias) in, a 0-dim loss out."""


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """What is trained, whoever trains it.

    Attributes:
        steps: How many.
        global_batch: Rows of a batch on all ranks together, N.
        seed: Of the first parameters and of the order of the rows.
        learning_rate: Of Adam.
    """

    steps: int = 200
    global_batch: int = 128
    seed: int = 0
    learning_rate: float = 0.005


@dataclass(frozen=True, eq=False)
class Trained:
    """What one process saw of a training.

    Attributes:
        losses: [steps], what its loss returned.
        parameters: By name, [steps, *shape]: each parameter after each step. Empty where they were not asked for.
        right: How many test images were given the right candidate after the last step.
        asked: How many test images there were.
    """

    losses: NDArray[np.float64]
    parameters: dict[str, NDArray[np.float64]]
    right: int
    asked: int


def new_towers(task: Task, training: Training, *, normalized: bool = True, bias: float | None = BIAS) -> Towers:
    """Return towers for a task; the same seed gives the same ones in every process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        return Towers(task.images.shape[1], task.texts.shape[1], normalized=normalized, bias=bias)


def train(
    task: Task,
    training: Training,
    towers: Towers,
    loss: Loss,
    *,
    model: nn.Module | None = None,
    rank: int = 0,
    world_size: int = 1,
    keep_parameters: bool = True,
) -> Trained:
    """Train towers on this rank's part of every batch.

    Args:
        task: On what.
        training: How.
        towers: What.
        loss: What is minimised.
        model: What is called instead of the towers: these, wrapped.
        rank: This process's rank.
        world_size: W; a divisor of the global batch.
        keep_parameters: Whether to return them as they are after each step.
    """
    images, texts = torch.from_numpy(task.images), torch.from_numpy(task.texts)
    optimizer = torch.optim.Adam(towers.parameters(), lr=training.learning_rate)
    losses = np.empty(training.steps)
    kept = {name: np.empty((training.steps, *each.shape)) for name, each in towers.named_parameters()}
    kept = kept if keep_parameters else {}
    local_batch = training.global_batch // world_size
    for step, rows in enumerate(batches(training, len(images))):
        mine = rows[rank * local_batch : (rank + 1) * local_batch]
        optimizer.zero_grad()
        value = loss(*(model or towers)(images[mine], texts[mine]))
        torch.autograd.backward(value)
        optimizer.step()
        losses[step] = value.item()
        for name in kept:
            kept[name][step] = towers.get_parameter(name).detach().numpy()
    answers = towers.choose(torch.from_numpy(task.test_images), torch.from_numpy(task.candidates)).numpy()
    return Trained(losses, kept, right=int((answers == task.answers).sum()), asked=len(answers))


def batches(training: Training, num_rows: int) -> Iterator[Tensor]:
    """Give the rows of each step's global batch: all rows in a new order, again and again; short rests are left out."""
    generator = torch.Generator().manual_seed(training.seed)
    given = 0
    while True:
        for rows in torch.randperm(num_rows, generator=generator).split(training.global_batch):
            if given == training.steps:
                return
            if len(rows) == training.global_batch:
                given += 1
                yield rows
