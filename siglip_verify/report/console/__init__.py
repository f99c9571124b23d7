"""The report on a terminal or in a log: progress while the run goes on, then everything it found."""

from siglip_verify.report.console.final import render
from siglip_verify.report.console.messages import render_messages
from siglip_verify.report.console.progress import ConsoleListener

__all__ = ["ConsoleListener", "render", "render_messages"]
