"""Reports: each renders one finished result and computes nothing; the console and every file show the same."""

from siglip_verify.report.console import ConsoleListener, render, render_messages
from siglip_verify.report.files import FORMATS, ReportFolderError, append_summary, write, write_files, write_step
from siglip_verify.report.json import dump, load

__all__ = [
    "FORMATS",
    "ConsoleListener",
    "ReportFolderError",
    "append_summary",
    "dump",
    "load",
    "render",
    "render_messages",
    "write",
    "write_files",
    "write_step",
]
