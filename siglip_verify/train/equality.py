"""Training proved: each exchange and memory mode under DistributedDataParallel, beside one process on the whole batch.

A gradient that is off by a factor, or a block that one rank never sees, moves every parameter of every later step. So
parameters are held against each other after every step, all of them, on every rank.

Here: which runs are made, and how far they lie from each other. Not here: a training itself (`loop`, `jobs`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from siglip_verify.errors import UsageError
from siglip_verify.run.environment import environment
from siglip_verify.train import data, jobs
from siglip_verify.train.data import TaskName
from siglip_verify.train.jobs import FORMS, Form
from siglip_verify.train.loop import Trained, Training
from siglip_verify.train.result import BOUND, EqualityReport, FormRun
from siglip_verify.world import Worlds

TIMEOUT_S = 1800.0  # of one training; a rank that hangs is rare here, and a slow machine is not


def prove_training(
    worlds: Worlds,
    training: Training,
    world_sizes: Iterable[int],
    *,
    forms: Sequence[Form] = FORMS,
    task: TaskName = "names",
    progress: Callable[[FormRun], object] = lambda run: None,
) -> EqualityReport:
    """Train every form at every world size, and one process on the whole batch.

    Args:
        worlds: Where the ranks are.
        training: How.
        world_sizes: Which W; each divides the global batch.
        forms: Which exchanges and memory modes.
        task: What is learned.
        progress: Called with each run.

    Raises:
        UsageError: A world size does not divide the global batch, or there is nothing to train.
        WorldError: A rank failed.
    """
    sizes = check(training, world_sizes)
    loaded = data.load(task)
    (alone,) = worlds.run(1, jobs.one_process, loaded, training, timeout_s=TIMEOUT_S)
    runs: list[FormRun] = []
    for world_size in sizes:
        for form in forms:
            started = time.perf_counter()
            ranks = worlds.run(world_size, jobs.one_rank, loaded, training, form, True, timeout_s=TIMEOUT_S)
            runs.append(compare(form, alone, ranks, time.perf_counter() - started))
            progress(runs[-1])
    return EqualityReport(
        task=task,
        metric=loaded.metric,
        training=training,
        bound=BOUND,
        losses=tuple(alone.losses.tolist()),
        right=alone.right,
        asked=alone.asked,
        runs=tuple(runs),
        environment=environment(),
    )


def check(training: Training, world_sizes: Iterable[int]) -> list[int]:
    """Check that a training can be done, and return its world sizes.

    Raises:
        UsageError: It cannot; the message names the value and what is allowed.
    """
    sizes = list(world_sizes)
    if training.steps < 1:
        raise UsageError(f"a training has at least one step; got steps={training.steps}")
    for world_size in sizes:
        if training.global_batch % world_size:
            raise UsageError(
                f"a global batch of {training.global_batch} rows is shared by ranks alike; got W = {world_size}: "
                f"take a divisor of {training.global_batch}"
            )
    return sizes


def compare(form: Form, alone: Trained, ranks: Sequence[Trained], elapsed_s: float) -> FormRun:
    """Say how far ranks' trainings lie from that of one process."""
    return FormRun(
        form=form,
        world_size=len(ranks),
        losses=tuple(np.mean([rank.losses for rank in ranks], axis=0).tolist()),
        deviations=tuple(np.max([deviations(alone, rank) for rank in ranks], axis=0).tolist()),
        right=tuple(rank.right for rank in ranks),
        elapsed_s=elapsed_s,
    )


def deviations(alone: Trained, rank: Trained) -> NDArray[np.float64]:
    """Return for each step how far any parameter lies from that of one process, relative to the largest of its tensor.

    Raises:
        ValueError: The two did not train the same parameters.
    """
    expected, observed = sorted(alone.parameters), sorted(rank.parameters)
    if not expected or expected != observed:
        raise ValueError(f"trainings are compared by the same parameters; got {expected} and {observed}")
    return np.max([_relative(alone.parameters[name], rank.parameters[name]) for name in alone.parameters], axis=0)


def _relative(expected: NDArray[np.float64], observed: NDArray[np.float64]) -> NDArray[np.float64]:
    steps = len(expected)
    apart = np.abs(observed - expected).reshape(steps, -1).max(axis=1)
    return apart / np.abs(expected).reshape(steps, -1).max(axis=1)
