"""Reports: each renders one finished result and computes nothing; the console and every file show the same."""

from siglip_verify.errors import ReportFolderError
from siglip_verify.report.console import ConsoleListener, render, render_messages
from siglip_verify.report.files import FORMATS, append_summary, make_folder, write, write_files, write_step
from siglip_verify.report.json import dump, load
from siglip_verify.report.named_file import check_file, write_file

__all__ = [
    "FORMATS",
    "ConsoleListener",
    "ReportFolderError",
    "append_summary",
    "check_file",
    "dump",
    "load",
    "make_folder",
    "render",
    "render_messages",
    "write",
    "write_file",
    "write_files",
    "write_step",
]
