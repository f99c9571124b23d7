"""However a program ends, nothing of it is left: no process, no folder; and however it is started, worlds work in it.

Oracle: /proc and the temporary folder after the end of real scripts. Sees: ranks that outlive their parent, folders
that stay, a main module that is run again, Ctrl-C that kills the wrong process, warnings at exit.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import pytest

import siglip_verify

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

StillAlive = Callable[[Iterable[int], float], set[int]]
PACKAGE_FOLDER = Path(siglip_verify.__file__).parent.parent

# One rank holds the interpreter for ever, one is stopped, one waits; first the parent says who they are.
BUSY = """
import json, os, signal, sys, time
from siglip_verify.world import Worlds

def busy():
    import torch.distributed as dist
    if dist.get_rank() == 0:
        while True:
            pass
    if dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    dist.barrier()

pool = Worlds(timeout_s=60, preload=())
pool.run(2, os.getpid)
pool.world(3)
print(json.dumps(pool.pids()), flush=True)
"""

# What a user writes: no main guard, functions in the script itself, no `with`.
PLAIN = """
import os
from siglip_verify.world import Worlds, context

print("main is run")

def square(number):
    return number * number + context().rank

pool = Worlds(timeout_s=20, preload=())
print(pool.run(2, square, 3))
assert pool.folder.is_dir()
"""


def start(arguments: list[str], folder: Path, stdin: str | None = None) -> subprocess.Popen[str]:
    """Start python on a script in a process group of its own, with its temporary folder where we can look."""
    (folder / "tmp").mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-u", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(folder / "tmp"), "PYTHONPATH": str(PACKAGE_FOLDER)},
        cwd=folder,
        text=True,
        process_group=0,
    )
    assert process.stdin is not None
    if stdin is not None:
        process.stdin.write(stdin)
        process.stdin.close()
        process.stdin = None
    return process


def start_busy(folder: Path, last_line: str) -> tuple[subprocess.Popen[str], list[int]]:
    process = start(["-c", BUSY + last_line], folder)
    assert process.stdout is not None
    pids = json.loads(process.stdout.readline())
    assert len(pids) == 6
    stopped = pids[4]
    while not is_stopped(stopped):
        time.sleep(0.01)
    assert len(list((folder / "tmp").iterdir())) == 1
    return process, pids


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def assert_nothing_is_left(folder: Path, pids: list[int], still_alive: StillAlive) -> None:
    assert still_alive(pids, 1.5) == set()
    give_up_s = time.monotonic() + 1.0
    while list((folder / "tmp").iterdir()) and time.monotonic() < give_up_s:
        time.sleep(0.01)
    assert list((folder / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("last_line", "number", "status"),
    [
        ("pool.run(3, busy)", signal.SIGKILL, -signal.SIGKILL),
        ("pool.run(3, busy)", signal.SIGINT, -signal.SIGINT),
        # Another child of the parent holds copies of its sockets, so that these never come to their end.
        pytest.param(
            "if os.fork() == 0: time.sleep(1000)\npool.run(3, busy)",
            signal.SIGKILL,
            -signal.SIGKILL,
            marks=pytest.mark.long,
        ),
    ],
    ids=["SIGKILL", "Ctrl-C", "SIGKILL-with-a-fork"],
)
def test_a_signal_to_the_parent_leaves_nothing(
    tmp_path: Path, still_alive: StillAlive, last_line: str, number: signal.Signals, status: int
) -> None:
    process, pids = start_busy(tmp_path, last_line)
    try:
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does: to everyone in the foreground group
        else:
            process.send_signal(number)
        assert process.wait(5) == status
        assert_nothing_is_left(tmp_path, pids, still_alive)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        _, errors = process.communicate()
    assert errors.endswith("KeyboardInterrupt\n") if number == signal.SIGINT else errors == ""


@pytest.mark.parametrize(
    ("last_line", "status", "error"),
    [
        ("raise ValueError('of the script')", 1, "ValueError: of the script"),
        pytest.param(
            "pool.run(3, busy, timeout_s=0.5)",
            1,
            "siglip_verify.world.errors.WorldError: a world of 3 failed after 0.5 s",
            marks=pytest.mark.long,
        ),
    ],
    ids=["exception", "failed-run"],
)
def test_a_script_that_ends_without_close_leaves_nothing(
    tmp_path: Path, still_alive: StillAlive, last_line: str, status: int, error: str
) -> None:
    process = start(["-c", BUSY + last_line], tmp_path)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == status
    assert error in errors
    assert bool(errors) == bool(error)
    assert_nothing_is_left(tmp_path, json.loads(output), still_alive)


def test_a_forked_child_leaves_its_parents_worlds_alone(tmp_path: Path) -> None:
    script = (
        BUSY
        + """
before = pool.run(2, os.getpid)
child = os.fork()
if child == 0:
    try:
        pool.run(2, os.getpid)
    except Exception as error:
        print(error)
    pool.discard(2)
    pool.close()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert pool.run(2, os.getpid) == before
assert pool.folder.is_dir()
pool.close()
"""
    )
    process = start(["-c", script], tmp_path)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert "belong to the process that forked this one" in output


@pytest.mark.parametrize("how", ["script.py", *(pytest.param(how, marks=pytest.mark.long) for how in ("-c", "-"))])
def test_worlds_work_from_a_script_without_a_main_guard(tmp_path: Path, still_alive: StillAlive, how: str) -> None:
    (tmp_path / "script.py").write_text(PLAIN)
    process = start([how, PLAIN] if how == "-c" else [how], tmp_path, stdin=PLAIN if how == "-" else None)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors, output) == (0, "", "main is run\n[9, 10]\n")
    assert_nothing_is_left(tmp_path, [], still_alive)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    full = "import resource, tempfile; tempfile.gettempdir(); resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
    process = start(["-c", full + PLAIN], tmp_path)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "the ranks need a private folder that can be written; got OSError: [Errno 27] File too large" in errors
    assert "set TMPDIR to another folder" in errors
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_template_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "cloudpickle.py").write_text("raise ImportError('no cloudpickle here')")
    script = "import sys, cloudpickle\nsys.path.insert(0, 'broken')\n" + PLAIN
    process = start(["-c", script], tmp_path)
    _, errors = process.communicate(timeout=30)
    assert "no world of world_size=2: the template process gave no answer: " in errors
    assert "closed (exit status 1, python " in errors
    assert "ImportError: no cloudpickle here" in errors
    assert list((tmp_path / "tmp").iterdir()) == []
