"""Signals that end a command, wherever they find it.

Oracle: KeyboardInterrupt, as Python raises it, in an interpreter of its own. Sees: a Ctrl-C that Python drops because
it came in a callback, one that breaks off what an earlier one has begun to end, a handler that stays.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from siglip_verify.cli import interrupts

# The module alone: the package around it imports torch, and with that much to collect nobody knows when a signal comes.
ALONE = f"""
import gc, importlib.util, os, signal, sys, time
spec = importlib.util.spec_from_file_location("interrupts", {str(Path(interrupts.__file__))!r})
interrupts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(interrupts)
interrupts.AGAIN_S = 0.2
"""


def run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", ALONE + script, *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_that_python_drops_comes_again(name: str) -> None:
    script = """
def interrupted_while_collecting(phase, _):
    gc.callbacks.remove(interrupted_while_collecting)
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))

gc.callbacks.append(interrupted_while_collecting)
with interrupts.delivered():
    try:
        gc.collect()
        print("dropped,")
        time.sleep(10)
    except KeyboardInterrupt:
        print("and came again")
"""
    assert run(script, name) == "dropped,\nand came again", "and nothing of it on stderr"


def test_whatever_else_python_drops_is_reported() -> None:
    script = """
class Failing:
    def __del__(self):
        raise ValueError("in a finaliser")

sys.unraisablehook = lambda dropped: print("reported:", dropped.exc_value)
with interrupts.delivered():
    Failing()
assert sys.unraisablehook.__name__ == "<lambda>"
"""
    assert run(script) == "reported: in a finaliser"


def test_what_an_interrupt_has_begun_to_end_is_not_disturbed() -> None:
    script = """
with interrupts.delivered():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)
        print("ended")
"""
    assert run(script) == "ended"


def test_an_interrupt_that_was_heeded_does_not_come_again() -> None:
    script = """
with interrupts.delivered():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        interrupts.heed()
    time.sleep(0.5)
print("went on")
"""
    assert run(script) == "went on"


def test_handlers_and_timer_are_put_back_but_a_handler_that_came_later_stays() -> None:
    script = """
numbers = (signal.SIGINT, signal.SIGALRM)
before = [signal.getsignal(number) for number in numbers]
signal.setitimer(signal.ITIMER_REAL, 100)
with interrupts.delivered():
    assert [signal.getsignal(number) for number in numbers] != before
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as a launcher's rank does once it has the verdict
assert [signal.getsignal(number) for number in numbers] == before
assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
assert 90 < signal.getitimer(signal.ITIMER_REAL)[0] <= 100
print("put back")
"""
    assert run(script) == "put back"
