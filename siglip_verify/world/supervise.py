"""Waiting for every rank's answer, and finding out about those that give none.

Here: deadlines, the end of processes, stacks of silent ranks. Not here: who is to blame (`blame`).
"""

from __future__ import annotations

import pickle
import selectors
import time
from collections.abc import Sequence
from typing import cast

from siglip_verify.world.blame import Answer, Ended, Outcome, Round, Silent
from siglip_verify.world.messages import Hello, Raised
from siglip_verify.world.process import RankProcess
from siglip_verify.world.stacks import read_stack

GRACE_S = 1.0
"""How long the others have once a rank has failed: enough for gloo to tell them (10 to 30 ms) and for a traceback."""

_TICK_S = 0.25
_STACK_S = 1.0
_STACK_END = ("in <module>\n", "  ...\n")  # faulthandler's last line: the bottom of the main thread, or the 100th frame


def collect(ranks: Sequence[RankProcess], timeout_s: float) -> Round:
    """Send what is in the ranks' outboxes and wait for one answer of each, until the deadline.

    A first failure moves the deadline to GRACE_S from then.
    """
    outcomes: dict[int, Outcome] = {}
    first_failed: int | None = None
    allowed_s = timeout_s
    deadline_s = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as selector:
        for rank in ranks:
            _watch(selector, rank)
        while len(outcomes) < len(ranks):
            left_s = deadline_s - time.monotonic()
            events = selector.select(min(max(left_s, 0), _TICK_S))
            if not events and left_s <= 0:
                break  # and not before: answers that are there count, also when this process itself was suspended
            for rank in {id(key.data): cast("RankProcess", key.data) for key, _ in events}.values():
                outcome = _progress(selector, rank)
                if outcome is None:
                    continue
                outcomes[rank.rank] = outcome
                if first_failed is None and isinstance(outcome, (Raised, Ended)):
                    first_failed = rank.rank
                    allowed_s = min(GRACE_S, max(deadline_s - time.monotonic(), 0))
                    deadline_s = time.monotonic() + allowed_s
            if not events:
                for rank in ranks:
                    rank.trim_output()
    outcomes |= _silent([rank for rank in ranks if rank.rank not in outcomes])
    return Round(outcomes, allowed_s, first_failed)


def _watch(selector: selectors.BaseSelector, rank: RankProcess) -> None:
    selector.register(rank.channel, selectors.EVENT_READ | selectors.EVENT_WRITE, rank)
    if rank.watch is not None:
        selector.register(rank.watch, selectors.EVENT_READ, rank)


def _progress(selector: selectors.BaseSelector, rank: RankProcess) -> Outcome | None:
    """Send and receive what can be had without waiting; return the rank's outcome once there is one."""
    has_ended = rank.has_ended  # asked before reading: what a rank sent before its end is then there
    outcome: Outcome | None = None
    try:
        if rank.channel.flush():
            selector.modify(rank.channel, selectors.EVENT_READ, rank)
        message = rank.channel.receive()
        if message is not None:
            outcome = _open(message)
        elif has_ended:
            outcome = Ended(rank.reap(), rank.stack())
    except (EOFError, ConnectionError):
        outcome = Ended(rank.reap(), rank.stack())
    if isinstance(outcome, Hello):
        rank.main_thread = outcome.main_thread
    if outcome is not None:
        selector.unregister(rank.channel)
        if rank.watch is not None:
            selector.unregister(rank.watch)
    return outcome


def _open(message: bytearray) -> Answer:
    try:
        return pickle.loads(message)
    except Exception as error:
        return Raised.of(error, "returned a value that cannot be unpickled in the parent: ")


def _silent(ranks: Sequence[RankProcess]) -> dict[int, Outcome]:
    """Look at the ranks that did not answer: their state first, since giving the stack wakes a sleeping one."""
    states = {rank.rank: rank.state for rank in ranks}
    for rank in ranks:
        rank.ask_for_stack()
    give_up_s = time.monotonic() + _STACK_S
    outcomes: dict[int, Outcome] = {}
    for rank in ranks:
        state = states[rank.rank]
        stopped = Silent(state, "", ())
        while not stopped.is_stopped and not rank.stack().endswith(_STACK_END) and time.monotonic() < give_up_s:
            time.sleep(0.005)
        stack = rank.stack()
        outcomes[rank.rank] = Silent(state, stack, tuple(read_stack(stack, rank.main_thread)))
    return outcomes
