"""What was checked, how it was set up, and on which machine."""

from __future__ import annotations

from siglip_verify.report import words
from siglip_verify.report.blocks import Fact
from siglip_verify.result import LossResult, Report


def about(loss: LossResult) -> list[Fact]:
    """Say where a loss is and by what convention it counts."""
    said = [("target", words.one_line(loss.target)), ("declared", words.one_line(loss.declared))]
    return [(name, value) for name, value in said if value and not words.one_line(loss.name).startswith(value)]


def left_out(loss: LossResult) -> list[Fact]:
    """Say what was not checked on a loss, and why."""
    return [(words.one_line(item.what), words.one_line(item.why)) for item in loss.left_out]


def settings(report: Report) -> list[Fact]:
    """Say the effective settings."""
    return [(words.one_line(name), words.one_line(value)) for name, value in report.settings.items()]


def environment(report: Report) -> list[Fact]:
    """Say versions and machine, and when the run began."""
    said = [(words.one_line(name), words.one_line(value)) for name, value in report.environment.items()]
    return [*said, ("started", words.one_line(report.started_at))]


def summary(report: Report) -> str:
    """Say how long it took, and how fast it was."""
    rate = words.rate(report.cases, report.elapsed_s)
    return f"{words.plural(report.cases, 'case')} in {words.seconds(report.elapsed_s)}, {rate}"
