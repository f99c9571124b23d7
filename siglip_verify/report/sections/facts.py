"""What was checked, how it was set up, and on which machine."""

from __future__ import annotations

from siglip_verify.report import words
from siglip_verify.report.blocks import Fact
from siglip_verify.result import LossResult, Report


def about(loss: LossResult) -> list[Fact]:
    """Say where a loss is and by what convention it counts."""
    said = [Fact("target", words.one_line(loss.target)), Fact("declared", words.one_line(loss.declared))]
    return [fact for fact in said if fact.value and not words.one_line(loss.name).startswith(fact.value)]


def not_checked(loss: LossResult) -> list[Fact]:
    """Say what was not checked on a loss, and why."""
    return [Fact(words.one_line(item.what), words.one_line(item.why)) for item in loss.left_out]


def settings(report: Report) -> list[Fact]:
    """Say the effective settings."""
    return [Fact(words.one_line(name), words.one_line(value)) for name, value in report.settings.items()]


def environment(report: Report) -> list[Fact]:
    """Say versions and machine, and when the run began."""
    said = [Fact(words.one_line(name), words.one_line(value)) for name, value in report.environment.items()]
    return [*said, Fact("started", words.one_line(report.started_at))]


def summary(report: Report) -> str:
    """Say how many cases there were, how long they took, and how fast that was."""
    rate = words.rate(report.cases, report.elapsed_s)
    return f"{words.plural(report.cases, 'case')} counted, {words.seconds(report.elapsed_s)} and {rate} measured"
