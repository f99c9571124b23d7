"""What is said of training: that the bias is needed, and that features should be normalised.

Short real trainings of two small towers on one process (distributed ones are equal, `siglip-verify train`), with and
without; and what the first step looks like.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, get_args

from siglip_verify.claims.result import Figure, Finding
from siglip_verify.claims.statement import DOCS, PAPER, Lab, Statement
from siglip_verify.train import data, jobs
from siglip_verify.train.data import Task, TaskName
from siglip_verify.train.loop import Trained, Training

SEEDS = (0, 1, 2)
STEPS = 200
_TASKS: tuple[TaskName, ...] = get_args(TaskName)
_TIMEOUT_S = 600.0


class Pair(NamedTuple):
    """One training as it should be and one without something, of the same seed.

    Attributes:
        task: What was learned.
        seed: Which seed.
        with_it, without: Share of right answers after the last step.
        first_with, first_without: The loss of the first step.
    """

    task: TaskName
    seed: int
    with_it: float
    without: float
    first_with: float
    first_without: float


def measure_bias(lab: Lab) -> list[Pair]:
    """Train with a bias that starts at -10, and with none."""
    return _pairs(lab, jobs.Variant(bias=None))


def measure_normalised(lab: Lab) -> list[Pair]:
    """Train with features of unit length, and with features as the towers give them."""
    return _pairs(lab, jobs.Variant(normalized=False))


def _pairs(lab: Lab, without: jobs.Variant) -> list[Pair]:
    pairs: list[Pair] = []
    for name in _TASKS:
        task = data.load(name)
        for seed in SEEDS:
            usual = lab.once((name, seed), lambda task=task, seed=seed: _train(lab, task, seed, jobs.USUAL))
            other = _train(lab, task, seed, without)
            pairs.append(
                Pair(
                    name,
                    seed,
                    usual.right / usual.asked,
                    other.right / other.asked,
                    float(usual.losses[0]),
                    float(other.losses[0]),
                )
            )
    return pairs


def _train(lab: Lab, task: Task, seed: int, variant: jobs.Variant) -> Trained:
    training = Training(steps=STEPS, seed=seed)
    (trained,) = lab.worlds.run(1, jobs.one_process, task, training, variant, timeout_s=_TIMEOUT_S)
    return trained


def judge(pairs: Sequence[Pair], what: str) -> Finding:
    """Answer from shares of right answers: lower without, on every task and for every seed."""
    figures = tuple(
        Figure(f"{each.task}, seed {each.seed}: {said}", value, unit, "measured")
        for each in pairs
        for said, value, unit in (
            (f"right answers with {what}", each.with_it, "share"),
            (f"right answers without {what}", each.without, "share"),
            (f"first loss with {what}", each.first_with, ""),
            (f"first loss without {what}", each.first_without, ""),
        )
    )
    tasks: list[TaskName] = list(dict.fromkeys(each.task for each in pairs))
    worse = {task: [each.without < each.with_it for each in pairs if each.task == task] for task in tasks}
    said = "; ".join(_task_in_words(task, [each for each in pairs if each.task == task], what) for task in tasks)
    if all(all(each) for each in worse.values()):
        return Finding(answer="holds", because=said, figures=figures)
    if any(all(each) for each in worse.values()):
        needed = ", ".join(task for task, each in worse.items() if all(each))
        return Finding(answer="holds with a condition", because=f"on {needed} alone: {said}", figures=figures)
    return Finding(answer="does not hold", because=said, figures=figures)


def judge_bias(pairs: Sequence[Pair]) -> Finding:
    """Answer for the bias."""
    return judge(pairs, "a bias")


def judge_normalised(pairs: Sequence[Pair]) -> Finding:
    """Answer for normalised features."""
    return judge(pairs, "unit length")


def _task_in_words(task: TaskName, pairs: Sequence[Pair], what: str) -> str:
    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)

    return (
        f"{task} of digits: {mean([each.without for each in pairs]):.3f} right without {what}, "
        f"{mean([each.with_it for each in pairs]):.3f} with (worse for {sum(e.without < e.with_it for e in pairs)} of "
        f"{len(pairs)} seeds); first loss {mean([e.first_without for e in pairs]):.1f} against "
        f"{mean([e.first_with for e in pairs]):.1f}"
    )


_HOW = (
    f"Two small towers on digits, names and halves, {STEPS} steps of Adam, float64, seeds "
    f"{', '.join(map(str, SEEDS))}, one process. Holds if fewer answers are right without it, on both tasks, for "
    "every seed."
)

STATEMENTS = (
    Statement(
        id="bias-needed",
        says="The bias is needed.",
        source=f"{DOCS}; {PAPER}, section 3.2",
        how=f"With a bias that starts at -10 and is learned, and with none. {_HOW}",
        measure=measure_bias,
        judge=judge_bias,
    ),
    Statement(
        id="features-normalised",
        says="Features should be normalised.",
        source=f"{DOCS}; {PAPER}, section 3",
        how=f"With features of unit length, and as the towers give them. {_HOW}",
        measure=measure_normalised,
        judge=judge_normalised,
    ),
)
