"""The finished results of training: frozen records that survive JSON, from which console, files and charts are made.

Here: no computation but comparisons of what they hold.
"""

from __future__ import annotations

import msgspec

from siglip_verify.records import Verdict
from siglip_verify.train.data import TaskName
from siglip_verify.train.jobs import Form
from siglip_verify.train.loop import Training

SCHEMA_VERSION = 1
BOUND = 1e-10
"""How far parameters may lie from those of one process, relative to the largest of their tensor."""


class FormRun(msgspec.Struct, frozen=True, kw_only=True):
    """One form, trained on W ranks, beside one process on the whole batch.

    Attributes:
        form, world_size: What was trained.
        losses: The mean over ranks, after each step; measured.
        deviations: After each step, how far any parameter of any rank lies from that of one process, relative to the
            largest of its tensor; measured.
        right: How many test images each rank's towers gave the right candidate; counted.
        elapsed_s: Seconds, measured.
    """

    form: Form
    world_size: int
    losses: tuple[float, ...]
    deviations: tuple[float, ...]
    right: tuple[int, ...]
    elapsed_s: float

    @property
    def farthest(self) -> float:
        """The largest deviation; one that is not a number counts as the largest of all."""
        return max(self.deviations, key=lambda each: (each != each, each))


class EqualityReport(msgspec.Struct, frozen=True, kw_only=True):
    """Every form trained beside one process on the whole batch.

    Attributes:
        task, metric: What was learned, and what the share of right answers is called.
        training: How.
        bound: The largest deviation that is allowed.
        losses: Of one process on the whole batch.
        right, asked: Its right answers, and how many test images there were.
        runs: One for each form and W.
        environment: Versions and machine, in words.
    """

    schema_version: int = SCHEMA_VERSION
    task: TaskName
    metric: str
    training: Training
    bound: float
    losses: tuple[float, ...]
    right: int
    asked: int
    runs: tuple[FormRun, ...]
    environment: dict[str, str]

    def equals(self, run: FormRun) -> bool:
        """Tell whether a run stayed within the bound and answers as one process does, on every rank."""
        return all(each <= self.bound for each in run.deviations) and set(run.right) == {self.right}

    @property
    def verdict(self) -> Verdict:
        """Say pass if every run equals one process, unknown if there is none, else mismatch."""
        if not self.runs or not self.training.steps:
            return "unknown"
        return "pass" if all(self.equals(run) for run in self.runs) else "mismatch"


class BugScores(msgspec.Struct, frozen=True, kw_only=True):
    """What one loss learned of one task, seed by seed.

    Attributes:
        task: Which.
        right: Right answers of rank 0's towers for each seed; None where a rank failed.
        final_losses: The mean over ranks of what the loss said last, likewise.
        failure: What a rank said where one failed; a training that ends so is no silent one.
    """

    task: TaskName
    right: tuple[int | None, ...]
    final_losses: tuple[float | None, ...]
    failure: str = ""


class BugCost(msgspec.Struct, frozen=True, kw_only=True):
    """What a planted bug costs.

    Attributes:
        bug: Its id in the catalogue; empty for the right loss.
        sentence: What is wrong.
        exchange: In which it was planted.
        scores: One for each task.
    """

    bug: str
    sentence: str
    exchange: str
    scores: tuple[BugScores, ...]

    def on(self, task: TaskName) -> BugScores:
        """Return the scores of one task."""
        return next(scores for scores in self.scores if scores.task == task)


class CostReport(msgspec.Struct, frozen=True, kw_only=True):
    """Planted bugs beside the right loss, trained in the same way.

    Attributes:
        world_size: W.
        training: How, but for the seed.
        seeds: Each training was done once for each of these.
        tasks: What was learned, and what the share of right answers is called.
        asked: How many test images each task has.
        costs: The right loss first.
        elapsed_s: Seconds, measured.
        environment: Versions and machine, in words.
    """

    schema_version: int = SCHEMA_VERSION
    world_size: int
    training: Training
    seeds: tuple[int, ...]
    tasks: dict[TaskName, str]
    asked: dict[TaskName, int]
    costs: tuple[BugCost, ...]
    elapsed_s: float
    environment: dict[str, str]
