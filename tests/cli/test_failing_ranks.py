"""`siglip-verify check` on losses whose ranks fail, and the command itself killed while they do.

Oracle: /proc, the temporary folder, and the clock. Sees: a process or a folder that outlives a command that was killed,
however deaf its ranks are; a rank that fails without its number or without what became of it; a command that waits.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from siglip_verify import cli
from siglip_verify.world import kernel
from siglip_verify.world.census import surroundings

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.xdist_group("cli"),
]
BROKEN = Path(__file__).parents[1] / "run" / "broken.py"
WITHIN_S = 20.0

what_rank_1_does = pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Killed", "rank 1 died: its process was killed by SIGKILL"),
        ("Sleeping", "rank 1 hung: no answer after {timeout} s; in happen"),
        ("Raising", "rank 1 raised: RuntimeError: the deliberate error"),
    ],
)


@what_rank_1_does
@pytest.mark.usefixtures("warm")
def test_a_rank_that_fails_is_named_with_what_became_of_it(
    name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.exit_code(["check", "--loss", f"{BROKEN}:{name}", "--timeout", "1", "--world-sizes", "2"]) == 3
    assert said.format(timeout=1) in " ".join(capsys.readouterr().out.split())


@pytest.mark.long
@pytest.mark.alone
@what_rank_1_does
def test_the_command_says_so_within_twenty_seconds(name: str, said: str) -> None:
    command = [sys.executable, "-m", "siglip_verify", "check", "--loss", f"{BROKEN}:{name}", "--timeout", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == 3, done.stderr
    assert said.format(timeout=5) in " ".join(done.stdout.split())


def wait_until(holds: Callable[[], bool], up_to_s: float) -> bool:
    give_up_s = time.monotonic() + up_to_s
    while not holds() and time.monotonic() < give_up_s:
        time.sleep(0.05)
    return holds()


def processor_s(pid: int) -> float:
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def test_a_command_killed_over_a_rank_that_loops_and_one_that_is_stopped_leaves_nothing() -> None:
    command = [sys.executable, "-m", "siglip_verify", "check", "--loss", f"{BROKEN}:Looping", "--timeout", "60"]
    with surroundings() as place:

        def stopped() -> list[int]:
            return [pid for pid in place.processes() if kernel.process_state(pid) == "T"]

        output = subprocess.DEVNULL
        with subprocess.Popen([*command, "--world-sizes", "2"], stdout=output, stderr=output) as process:
            try:
                assert wait_until(lambda: len(stopped()) == 1, 90), "rank 1 stops itself"
                others = place.processes() - {process.pid, *stopped()}
                before = {pid: processor_s(pid) for pid in others}
                assert wait_until(lambda: any(processor_s(p) > s + 0.2 for p, s in before.items()), 60), "rank 0 loops"
                assert place.files()
            finally:
                process.kill()
        assert wait_until(lambda: not place.processes(), 5), f"{len(place.processes())} processes are left"
        assert wait_until(lambda: not place.files(), 5), f"left: {sorted(place.files())}"
