"""What a silent bug costs: the same training with known bugs planted, over several seeds, whatever comes out.

Two tasks, for they feel different things. Ten names can be told apart with few negatives; left and right half of the
same image have to be told from all others'.

Here: which bugs, and the trainings. Not here: the bugs (`bugs`), and how the result looks (`report.train`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import get_args

import msgspec
import numpy as np

from siglip_verify.bugs import CATALOGUE
from siglip_verify.case import Exchange
from siglip_verify.errors import UsageError
from siglip_verify.run.environment import environment
from siglip_verify.train import data, jobs
from siglip_verify.train.data import Task, TaskName
from siglip_verify.train.equality import TIMEOUT_S, check
from siglip_verify.train.jobs import Form
from siglip_verify.train.loop import Trained, Training
from siglip_verify.train.result import BugCost, BugScores, CostReport
from siglip_verify.world import WorldError, Worlds

SEEDS = (0, 1, 2, 3, 4)
WORLD_SIZE = 4
TASKS: tuple[TaskName, ...] = get_args(TaskName)
BUGS = (
    "gather-no-grad",
    "gather-local-grad",
    "gather-grad-wrong-slice",
    "ddp-scale",
    "lossy-wire",
    "self-negative",
    "bidir-ping-pong",
    "local-only",
    "label-offset",
    "remote-positives",
)
"""One of each kind: those that a training does not stop at, and the first, at which DistributedDataParallel does."""

_QUICKEST: tuple[Exchange, ...] = ("gather", "bidir", "shift", "reduce")
_FAILURE_CHARS = 200

Progress = Callable[[BugCost], object]


def bug_costs(
    worlds: Worlds,
    training: Training,
    *,
    only: Iterable[str] = BUGS,
    seeds: Sequence[int] = SEEDS,
    world_size: int = WORLD_SIZE,
    progress: Progress = lambda cost: None,
) -> CostReport:
    """Train the right loss and each planted bug with each seed, on both tasks.

    Args:
        worlds: Where the ranks are.
        training: How; its seed is replaced by each of `seeds`.
        only: Ids of the catalogue.
        seeds: Each training is done once for each.
        world_size: W, a divisor of the global batch.
        progress: Called with each loss, when it is done.

    Raises:
        UsageError: There is no such bug, no seed, or the world size does not divide the global batch.
        WorldError: A rank failed though nothing was planted.
    """
    started = time.perf_counter()
    check(training, [world_size])
    if not seeds:
        raise UsageError("a training is done with at least one seed; got none")
    forms = [Form(_QUICKEST[0]), *(form_with(bug) for bug in only)]
    tasks: dict[TaskName, Task] = {name: data.load(name) for name in TASKS}
    costs: list[BugCost] = []
    for form in forms:
        scores = tuple(_scores(worlds, task, training, form, seeds, world_size) for task in tasks.values())
        sentence = CATALOGUE[form.bug].sentence if form.bug else "Nothing is wrong."
        costs.append(BugCost(bug=form.bug, sentence=sentence, exchange=form.exchange, scores=scores))
        progress(costs[-1])
    return CostReport(
        world_size=world_size,
        training=training,
        seeds=tuple(seeds),
        tasks={name: task.metric for name, task in tasks.items()},
        asked={name: len(task.answers) for name, task in tasks.items()},
        costs=tuple(costs),
        elapsed_s=time.perf_counter() - started,
        environment=environment(),
    )


def form_with(bug: str) -> Form:
    """Return the quickest exchange in which a bug can be planted, with the bug in it.

    Raises:
        UsageError: There is no such bug.
    """
    if bug not in CATALOGUE:
        raise UsageError(f"--only takes ids of the catalogue: {', '.join(sorted(CATALOGUE))}; got {bug!r}")
    return Form(next(exchange for exchange in _QUICKEST if exchange in CATALOGUE[bug].exchanges), bug=bug)


def _scores(
    worlds: Worlds, task: Task, training: Training, form: Form, seeds: Sequence[int], world_size: int
) -> BugScores:
    ranks_by_seed: list[list[Trained] | None] = []
    failure = ""
    for seed in seeds:
        try:
            ranks_by_seed.append(_train(worlds, task, training, form, seed, world_size))
        except WorldError as error:
            if not form.bug or not error.failures:
                raise
            blamed = next((each for each in error.failures if each.blamed), error.failures[0])
            failure = " ".join(f"a rank {blamed.kind}: {blamed.detail}".split())[:_FAILURE_CHARS]
            ranks_by_seed.append(None)
    return BugScores(
        task=task.name,
        right=tuple(None if ranks is None else ranks[0].right for ranks in ranks_by_seed),
        final_losses=tuple(
            None if ranks is None else float(np.mean([rank.losses[-1] for rank in ranks])) for ranks in ranks_by_seed
        ),
        failure=failure,
    )


def _train(worlds: Worlds, task: Task, training: Training, form: Form, seed: int, world_size: int) -> list[Trained]:
    seeded = msgspec.structs.replace(training, seed=seed)
    try:
        return worlds.run(world_size, jobs.one_rank, task, seeded, form, False, timeout_s=TIMEOUT_S)
    finally:
        if form.bug:
            worlds.discard(world_size)  # a wrong loss may leave messages that nobody took
