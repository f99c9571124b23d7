"""Exit codes, the same whatever the output.

0 pass, 1 mismatch, 2 usage, 3 unknown (a rank died or hung, nothing ran), 70 a fault of this program, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

from cyclopts import CycloptsError
from rich.console import Console

from siglip_verify.cli import interrupts
from siglip_verify.errors import NoAnswerError, ReportFolderError, UsageError

EXIT_CODES = {"pass": 0, "mismatch": 1, "unknown": 3}
USAGE, INTERRUPTED = 2, interrupts.EXIT_CODE
FAULT_OF_OURS = 70  # os.EX_SOFTWARE: not 1, which says that the loss is wrong
_REPORT_IT = (
    "this is a fault of siglip-verify, and says nothing of your loss. Please report it to the project, with the "
    "command, the lines above and the version that --version prints"
)


def code_of(command: Callable[[], int]) -> int:
    """Run a command and return its exit code; an error that a user can mend is printed in a sentence."""
    try:
        return command()
    except CycloptsError:
        return USAGE  # cyclopts has printed it
    except KeyboardInterrupt:
        interrupts.heed()
        _say("interrupted", style="yellow")
        return INTERRUPTED
    except (UsageError, ReportFolderError) as error:
        _say(f"siglip-verify: {error}")
        return USAGE
    except NoAnswerError as error:  # no rank gave a record, so there is no result to show
        _say(f"siglip-verify: {error}")
        return EXIT_CODES["unknown"]
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    except Exception:
        traceback.print_exc()
        _say(f"siglip-verify: {_REPORT_IT}")
        return FAULT_OF_OURS


def _say(sentence: str, style: str = "red") -> None:
    """Print a sentence as one line, which a terminal wraps: paths in it can be searched for and copied."""
    Console(stderr=True).print(sentence, style=style, markup=False, highlight=False, soft_wrap=True)
