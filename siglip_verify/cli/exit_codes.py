"""Exit codes, the same whatever the output.

0 pass, 1 mismatch, 2 usage, 3 unknown (a rank died or hung, nothing ran), 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from cyclopts import CycloptsError
from rich.console import Console

from siglip_verify.cli import interrupts
from siglip_verify.cli.output import EXIT_CODES
from siglip_verify.errors import UsageError
from siglip_verify.report import ReportFolderError
from siglip_verify.world import WorldError

USAGE, INTERRUPTED = 2, 130


def code_of(command: Callable[[], int]) -> int:
    """Run a command and return its exit code; an error that a user can mend is printed."""
    errors = Console(stderr=True)
    try:
        return command()
    except CycloptsError:
        return USAGE  # cyclopts has printed it
    except KeyboardInterrupt:
        interrupts.heed()
        errors.print("interrupted", style="yellow")
        return INTERRUPTED
    except (UsageError, ReportFolderError) as error:
        errors.print(f"siglip-verify: {error}", style="red", markup=False)
        return USAGE
    except WorldError as error:  # no rank gave a record, so there is no result to show
        errors.print(f"siglip-verify: {error}", style="red", markup=False)
        return EXIT_CODES["unknown"]
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
