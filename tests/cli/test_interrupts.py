"""Signals that end a command, wherever they find it.

Oracle: KeyboardInterrupt, as Python raises it. Sees: a Ctrl-C that Python drops because it came in a callback, one
that breaks off what an earlier one has begun to end, a handler that stays.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time

import pytest

from siglip_verify.cli import interrupts
from siglip_verify.cli.exit_codes import code_of


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_python_drops_comes_again(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dropped: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda about: dropped.append(about.exc_type))
    monkeypatch.setattr(interrupts, "AGAIN_S", 0.05)

    def interrupted_while_collecting(phase: str, _: object) -> None:
        gc.callbacks.remove(interrupted_while_collecting)
        os.kill(os.getpid(), number)

    def work() -> None:
        gc.collect()
        time.sleep(10)

    gc.callbacks.append(interrupted_while_collecting)
    with interrupts.delivered(), pytest.raises(KeyboardInterrupt):
        work()
    assert dropped == [KeyboardInterrupt], "or this test shows nothing"


def test_what_an_interrupt_has_begun_to_end_is_not_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "AGAIN_S", 0.01)
    ended = False
    with interrupts.delivered():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            ended = True
    assert ended


def test_an_interrupt_that_was_heeded_does_not_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "AGAIN_S", 0.2)

    def interrupted() -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return 0

    with interrupts.delivered():
        assert code_of(interrupted) == 130
        time.sleep(0.4)


def test_a_handler_that_came_later_stays() -> None:
    usual = signal.getsignal(signal.SIGTERM)
    with interrupts.delivered():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as a launcher's rank does once it has the verdict
    assert signal.signal(signal.SIGTERM, usual) is signal.SIG_IGN


def test_handlers_and_timer_are_put_back() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    signal.setitimer(signal.ITIMER_REAL, 100)
    with interrupts.delivered():
        assert [signal.getsignal(number) for number in numbers] != before
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert [signal.getsignal(number) for number in numbers] == before
    assert 90 < signal.getitimer(signal.ITIMER_REAL)[0] <= 100
