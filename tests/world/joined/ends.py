"""Run `python -m siglip_verify` in a child, pass SIGTERM on to it, and write down how it ended.

A launcher tells only of the rank that failed first; this tells of each.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

folder, *arguments = sys.argv[1:]
child = os.fork()
if child == 0:
    os.execv(sys.executable, [sys.executable, "-m", "siglip_verify", *arguments])


def pass_on(number: int, _: object) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended, and its code is about to be written
        os.kill(child, number)


signal.signal(signal.SIGTERM, pass_on)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
Path(folder, f"rank-{os.environ['RANK']}").write_text(str(code))
sys.exit(code if code >= 0 else 128 - code)
