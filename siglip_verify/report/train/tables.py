"""Trainings as blocks of text: how near each form came to one process, and what each bug cost.

Here: which figures are shown, and their words. Not here: pictures (`curves`, `dots`), and any training.
"""

from __future__ import annotations

import statistics

import msgspec
from rich.console import Console

from siglip_verify.report import words
from siglip_verify.report.blocks import Column, Table, Value
from siglip_verify.report.console.final import STYLES, say, table
from siglip_verify.report.train.curves import curves
from siglip_verify.report.train.dots import dots
from siglip_verify.train.data import TaskName
from siglip_verify.train.result import BugCost, BugScores, CostReport, EqualityReport, FormRun


def dump(report: EqualityReport | CostReport) -> bytes:
    """Write a result as JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def files(report: EqualityReport | CostReport) -> list[tuple[str, bytes]]:
    """Return a result as files: JSON and a picture."""
    if isinstance(report, EqualityReport):
        return [("train.json", dump(report)), ("train.svg", curves(report))]
    return [("costs.json", dump(report)), ("costs.svg", dots(report))]


# ------------------------------------------------------------------ equality
def headline(report: EqualityReport) -> str:
    """Say in one line whether every form trained as one process does."""
    wrong = [run for run in report.runs if not report.equals(run)]
    sizes = words.ranges({run.world_size for run in report.runs})
    steps = words.plural(report.training.steps, "step")
    if wrong:
        named = ", ".join(f"{run.form} at W = {run.world_size}" for run in wrong[:3])
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        return f"MISMATCH: {named}{more} of {words.plural(len(report.runs), 'training')} differ from one process"
    if report.verdict == "unknown":
        return "UNKNOWN: nothing was trained"
    farthest = max(run.farthest for run in report.runs)
    return (
        f"PASS: {words.plural(len({run.form for run in report.runs}), 'form')} at W = {sizes} train as one process on "
        f"the whole batch does: after each of {steps} parameters lie within {farthest:.1e} (bound {report.bound:g})"
    )


def run_line(run: FormRun) -> str:
    """Say one training in one line, as it comes in."""
    return f"W = {run.world_size}, {run.form}: {run.farthest:.1e} from one process, {words.seconds(run.elapsed_s)}"


def render_equality(report: EqualityReport, console: Console) -> None:
    """Print the verdict in one line, then every training."""
    say(console, headline(report), style=STYLES[report.verdict], wrap=console.is_terminal)
    table(_runs(report), console)
    say(console)
    said = ", ".join(f"{name} {value}" for name, value in report.environment.items())
    say(console, words.one_line(said), style="dim", wrap=console.is_terminal)


def _runs(report: EqualityReport) -> Table:
    training = report.training
    alone = f"{report.losses[-1]:.6f}" if report.losses else words.NOTHING
    nothing = Value(words.NOTHING, "muted")
    answers = Value(_share(report.right, report.asked))
    first = (Value("1"), Value("one process, whole batch"), nothing, Value(alone), answers, nothing)
    rows = [
        (
            Value(str(run.world_size)),
            Value(str(run.form)),
            Value(f"{run.farthest:.1e}", "" if report.equals(run) else "mismatch"),
            Value(f"{run.losses[-1]:.6f}"),
            Value(_share(run.right[0], report.asked), "" if set(run.right) == {report.right} else "mismatch"),
            Value(words.seconds(run.elapsed_s)),
        )
        for run in report.runs
    ]
    return Table(
        caption=(
            f"Two towers on {report.task} of digits, float64, Adam, {words.plural(training.steps, 'step')} of "
            f"{training.global_batch} pairs, seed {training.seed}. Farthest: of any parameter of any rank after any "
            "step from that of one process on the whole batch, relative to the largest of its tensor."
        ),
        columns=(
            Column("W"),
            Column("form", is_number=False),
            Column("farthest", "", "measured"),
            Column("last loss", "", "measured"),
            Column(report.metric, "", "counted"),
            Column("took", "", "measured", is_extra=True),
        ),
        rows=(first, *rows),
    )


# ------------------------------------------------------------------ what bugs cost
def cost_line(cost: BugCost) -> str:
    """Say what came of one loss in one line, as it comes in."""
    said = "; ".join(
        f"{scores.task} {', '.join(words.NOTHING if each is None else str(each) for each in scores.right)}"
        for scores in cost.scores
    )
    return f"{cost.bug or 'the right loss'}: right answers by seed: {said}"


def render_costs(report: CostReport, console: Console) -> None:
    """Print what each bug costs on each task, and what a reader of the loss curve would have seen."""
    planted = words.plural(sum(bool(cost.bug) for cost in report.costs), "planted bug")
    say(
        console,
        f"{planted} beside the right loss, W = {report.world_size}, {words.plural(len(report.seeds), 'seed')}, "
        f"{words.seconds(report.elapsed_s)}",
        style="bold",
        wrap=console.is_terminal,
    )
    for name in report.tasks:
        table(_costs(report, name), console)
    for cost in report.costs:
        if failure := next((scores.failure for scores in cost.scores if scores.failure), ""):
            say(console)
            say(console, words.one_line(f"{cost.bug}: {failure}"), indent=2, wrap=console.is_terminal)


def _costs(report: CostReport, task: TaskName) -> Table:
    right = report.costs[0].on(task)
    return Table(
        caption=(
            f"Two towers on {task} of digits: {report.tasks[task]} on {report.asked[task]} test images after "
            f"{report.training.steps} steps, mean (least .. most) over seeds {', '.join(map(str, report.seeds))}."
        ),
        columns=(
            Column("planted", is_number=False),
            Column("in", is_number=False),
            Column(report.tasks[task], "", "measured"),
            Column("against right", "points", "measured"),
            Column("last loss", "mean", "measured"),
        ),
        rows=tuple(
            (
                Value(cost.bug or "nothing: the right loss"),
                Value(cost.exchange),
                Value(_spread(cost.on(task), report.asked[task])),
                Value(_against(cost.on(task), right, report.asked[task]) if cost.bug else words.NOTHING),
                Value(_mean_loss(cost.on(task))),
            )
            for cost in report.costs
        ),
    )


def _spread(scores: BugScores, asked: int) -> str:
    done = [each / asked for each in scores.right if each is not None]
    return f"{statistics.fmean(done):.3f} ({min(done):.3f} .. {max(done):.3f})" if done else "stopped"


def _against(scores: BugScores, right: BugScores, asked: int) -> str:
    """Say by how many points the mean lies above or below the right loss's, of the same seeds."""
    pairs = [
        (each - other) / asked * 100
        for each, other in zip(scores.right, right.right, strict=True)
        if each is not None and other is not None
    ]
    return f"{statistics.fmean(pairs):+.1f}" if pairs else words.NOTHING


def _mean_loss(scores: BugScores) -> str:
    done = [each for each in scores.final_losses if each is not None]
    return f"{statistics.fmean(done):.3f}" if done else words.NOTHING


def _share(right: int, asked: int) -> str:
    return f"{right / asked:.4f}"
