"""Ctrl-C, and SIGTERM, which CI systems send to cancel a job: a KeyboardInterrupt that arrives.

Python drops what is raised while it collects garbage or finalises an object (Hypothesis has a callback there), and a
Ctrl-C with it. So an interrupt is raised once more each second, until one is under way or has been heeded; and that
one was dropped is not reported.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Generator
from typing import Any

AGAIN_S = 1.0
EXIT_CODE = 130


@contextlib.contextmanager
def delivered() -> Generator[None]:
    """Turn the two signals into a KeyboardInterrupt that is not lost; leave other handlers that come meanwhile."""
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    for number in usual:
        signal.signal(number, _interrupt)
    timer = signal.getitimer(signal.ITIMER_REAL)
    report, sys.unraisablehook = sys.unraisablehook, _unless_it_comes_again(sys.unraisablehook)
    try:
        yield
    finally:
        sys.unraisablehook = report
        signal.setitimer(signal.ITIMER_REAL, *timer)
        for number, handler in usual.items():
            if signal.getsignal(number) is _interrupt:
                signal.signal(number, handler)


def heed() -> None:
    """Take that an interrupt has arrived: it is not raised again."""
    if signal.getsignal(signal.SIGALRM) is _interrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _unless_it_comes_again(report: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Report what Python drops, interrupts left out."""

    def hook(dropped: Any) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            report(dropped)

    return hook


def _interrupt(number: int, frame: object) -> None:
    if isinstance(sys.exception(), KeyboardInterrupt):
        return  # it is under way, and what it ends is not disturbed
    signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
    raise KeyboardInterrupt
