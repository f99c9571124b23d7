"""What the template process does when asked, in a thread of the test.

Oracle: the kernel's table of processes. Sees: a rank that dies late and stays a zombie for as long as its pool lives.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from siglip_verify.world import template
from siglip_verify.world.template import Template


def test_a_rank_that_dies_late_is_reaped_before_the_next_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template, "_REAP_S", 0.0)
    ours, theirs = socket.socketpair()
    serving = threading.Thread(target=Template(theirs, os.getpid(), tmp_path).serve)
    serving.start()

    def ask(op: str, pid: int) -> int | None:
        ours.sendall(json.dumps({"op": op, "pid": pid}).encode())
        return json.loads(ours.recv(1024))["status"]

    late, other = (_sleeping() for _ in range(2))
    try:
        assert ask("bury", late.pid) is None, "it lives on"
        os.kill(late.pid, signal.SIGKILL)
        os.waitid(os.P_PID, late.pid, os.WEXITED | os.WNOWAIT)
        assert Path(f"/proc/{late.pid}").exists(), "a zombie"
        assert ask("reap", other.pid) is None
        assert not Path(f"/proc/{late.pid}").exists()
    finally:
        other.kill()
        ours.close()
        serving.join()
        theirs.close()
        for process in (late, other):
            process.wait()


def _sleeping() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
