"""Runs that fail: every death, hang and exception is named, blamed on the right rank, and gone at the next run.

Oracle: what the job is known to do. Sees: a failure taken for another, blame on a rank that only suffered, a world that
survives its failure, processes, descriptors or memory that leak, and a parent that waits beyond its deadline.
"""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import world_jobs as jobs

from siglip_verify.records import RankFailure
from siglip_verify.world import LOG_BYTES, WorldError, Worlds
from siglip_verify.world.process import RankProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

StillAlive = Callable[[Iterable[int], float], set[int]]
TIMEOUT_S = 1.5


def fail(worlds: Worlds, world_size: int, job: Callable[..., object], *args: object) -> WorldError:
    """Run what must fail in time; the next run must pass on new processes."""
    pids = worlds.world(world_size).pids
    started_s = time.monotonic()
    with pytest.raises(WorldError) as caught:
        worlds.run(world_size, job, *args, timeout_s=TIMEOUT_S)
    assert time.monotonic() - started_s < TIMEOUT_S + 2.5
    assert caught.value.world_size == world_size
    assert not set(pids) & set(worlds.run(world_size, jobs.pid))
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)  # reaped, not only dead
    return caught.value


def by_rank(error: WorldError) -> dict[int, RankFailure]:
    assert [failure.rank for failure in error.failures] == sorted({failure.rank for failure in error.failures})
    return {failure.rank: failure for failure in error.failures}


MISDEEDS = [
    ("kill_itself", "died", r"its process was killed by SIGKILL \(by another process, or by the kernel when memory"),
    ("abort", "died", r"its process was killed by SIGABRT \(C\+\+ abort"),
    ("segfault", "died", r"its process was killed by SIGSEGV$"),
    ("exit_at_once", "died", r"its process exited with status 3$"),
    ("raise_value_error", "raised", r"ValueError: odd number of ranks$"),
    ("leave", "raised", r"SystemExit: no reason$"),
    ("interrupt", "raised", r"KeyboardInterrupt$"),
    ("raise_a_class_of_its_own", "raised", r"raise_a_class_of_its_own.<locals>.OnlyHereError: 1 and 2$"),
    ("raise_without_text", "raised", r"UnprintableError: <its text cannot be had: __str__ raised>$"),
    ("sleep_for_ever", "hung", r"no answer after 1.5 s; in sleep_for_ever \(world_jobs.py:\d+\): time.sleep\(1000\)$"),
    ("loop_for_ever", "hung", r"no answer after 1.5 s; in loop_for_ever \(world_jobs.py:\d+\): (while True:|pass)$"),
    ("stop_itself", "stopped", r"no answer after 1.5 s; its process is stopped \(SIGSTOP\)$"),
]


@pytest.mark.parametrize(("misdeed", "kind", "detail"), MISDEEDS, ids=[misdeed[0] for misdeed in MISDEEDS])
def test_the_culprit_is_named_and_the_ranks_that_wait_for_it_are_not_blamed(
    worlds: Worlds, misdeed: str, kind: str, detail: str
) -> None:
    failures = by_rank(fail(worlds, 3, jobs.one_rank_does, 1, misdeed))
    assert {rank: failure.blamed for rank, failure in failures.items()} == {0: False, 1: True, 2: False}
    assert failures[1].kind == kind
    assert re.search(detail, failures[1].detail)
    for victim in (failures[0], failures[2]):  # after a death, one may wait for the other, which has raised and lives
        assert victim.kind in (("raised", "hung") if kind == "died" else ("hung",))
        expected = r"gloo.* by peer" if victim.kind == "raised" else r"; waiting for another rank$"
        assert re.search(expected, victim.detail)


@pytest.mark.parametrize("misdeed", ["abort", "segfault", "raise_value_error", "sleep_for_ever", "loop_for_ever"])
def test_the_culprits_stack_says_which_function(worlds: Worlds, misdeed: str) -> None:
    culprit = by_rank(fail(worlds, 2, jobs.one_rank_does, 0, misdeed))[0]
    assert f"in {misdeed}" in culprit.traceback
    assert "in one_rank_does" in culprit.traceback


def test_a_failure_cuts_the_waiting_short(worlds: Worlds) -> None:
    worlds.world(2)
    started_s = time.monotonic()
    with pytest.raises(WorldError) as caught:
        worlds.run(2, jobs.one_rank_does, 0, "raise_value_error", timeout_s=60)
    assert time.monotonic() - started_s < 3
    assert re.match(
        r"no answer within 1 s of rank 0's failure; in meet .*; waiting for another rank$",
        by_rank(caught.value)[1].detail,
    )


@pytest.mark.parametrize("job", [jobs.receive_from_next, jobs.wait_for_work_of_next])
def test_ranks_that_all_wait_for_each_other_are_not_blamed(worlds: Worlds, job: Callable[[], None]) -> None:
    error = fail(worlds, 3, job)
    assert [(failure.kind, failure.blamed) for failure in error.failures] == [("hung", False)] * 3
    assert all(job.__name__ in f.detail and f.detail.endswith("as every rank does") for f in error.failures)
    assert "by no rank's fault" in str(error)


def test_a_rank_that_returned_too_early_is_named(worlds: Worlds) -> None:
    error = fail(worlds, 3, jobs.first_rank_returns_early)
    assert [failure.rank for failure in error.failures] == [1, 2]
    assert all(f.detail.endswith("waiting for another rank, when rank 0 had already returned") for f in error.failures)


def test_glooss_abort_over_a_message_too_large_is_a_death_with_its_last_words(worlds: Worlds) -> None:
    receiver = by_rank(fail(worlds, 2, jobs.send_more_than_is_received))[1]
    assert (receiver.kind, receiver.blamed) == ("died", True)
    assert "killed by SIGABRT (C++ abort; gloo aborts so" in receiver.detail
    assert "op.preamble.length <= op.nbytes. 32 vs 16" in receiver.stderr_tail


@pytest.mark.parametrize(
    ("job", "detail"),
    [
        (
            jobs.return_what_cannot_be_pickled,
            "returned a generator that cannot be pickled: TypeError: cannot pickle 'generator' object",
        ),
        (
            jobs.return_what_cannot_be_loaded,
            "returned a value that cannot be unpickled in the parent: ValueError: invalid literal for int()",
        ),
    ],
)
def test_a_value_that_cannot_travel_is_a_failure_and_no_hang(
    worlds: Worlds, job: Callable[[], object], detail: str
) -> None:
    failures = fail(worlds, 2, job).failures
    assert [failure.kind for failure in failures] == ["raised"] * 2
    assert all(failure.blamed and failure.detail.startswith(detail) for failure in failures)


def test_a_function_that_the_rank_cannot_import_is_a_failure_and_no_hang(worlds: Worlds) -> None:
    class Elsewhere:
        def __reduce__(self) -> tuple[object, ...]:
            return eval, ("__import__('no_such_module')",)

    for failure in fail(worlds, 2, jobs.echo, Elsewhere()).failures:
        assert failure.detail == "ModuleNotFoundError: No module named 'no_such_module'"


def test_the_last_lines_of_much_output_are_kept(worlds: Worlds) -> None:
    failure = fail(worlds, 1, jobs.print_and_fail).failures[0]
    assert failure.stderr_tail.endswith("last words on stdout\nlast words on stderr")
    assert len(failure.stderr_tail) <= 8192


def test_output_of_an_earlier_run_is_not_shown(worlds: Worlds) -> None:
    worlds.run(1, print, "from the run before")
    assert fail(worlds, 1, jobs.raise_value_error).failures[0].stderr_tail == ""


def test_a_rank_that_prints_for_ever_does_not_fill_the_disk(worlds: Worlds) -> None:
    file = worlds.world(1).folder / "rank-0.out"
    sizes: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            sizes.append(file.stat().st_size if file.exists() else 0)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        error = fail(worlds, 1, jobs.print_for_ever)
    finally:
        over.set()
        watcher.join()
    printed = int.from_bytes(error.logs[0][:8], "big")
    assert printed > 50_000_000
    assert max(sizes) < printed * 0.8


def test_logs_are_readable_after_death(worlds: Worlds) -> None:
    world = worlds.world(2)
    error = fail(worlds, 2, jobs.write_log_and_die, b"rank ")
    for rank in range(2):
        for log in (error.logs[rank], world.log(rank)):
            assert len(log) == LOG_BYTES
            assert bytes(log[:6]) == b"rank " + bytes([rank])
            assert bytes(log[-1:]) == b"!"
    assert bytes(worlds.world(2).log(0)[:6]) == bytes(6)


@pytest.mark.parametrize(("then", "kind"), [("sleep_for_ever", "hung"), ("exit_at_once", "died")])
def test_what_a_rank_started_dies_with_it(worlds: Worlds, still_alive: StillAlive, then: str, kind: str) -> None:
    assert fail(worlds, 1, jobs.start_a_child, then).failures[0].kind == kind
    assert worlds.folder is not None
    assert still_alive([int((worlds.folder / "child").read_text())], 1.0) == set()


def test_a_rank_that_dies_between_runs_is_replaced(worlds: Worlds) -> None:
    pids = worlds.run(2, jobs.pid)
    rebuilt = worlds.rebuilt
    os.kill(pids[1], signal.SIGKILL)
    time.sleep(0.1)
    assert not set(pids) & set(worlds.run(2, jobs.pid))
    assert worlds.rebuilt == rebuilt + 1


def test_logs_of_a_run_are_there_also_where_a_rank_died_after_it(worlds: Worlds) -> None:
    worlds.run(2, jobs.write_log, b"rank ")
    pids = worlds.world(2).pids
    os.kill(pids[1], signal.SIGKILL)
    time.sleep(0.1)
    assert [bytes(log[:6]) for log in worlds.logs(2)] == [b"rank \0", b"rank \1"]
    assert worlds.world(2).pids != pids


def test_a_rank_that_reads_nothing_does_not_hold_up_its_parent(worlds: Worlds) -> None:
    world = worlds.world(3)
    os.kill(world.pids[1], signal.SIGSTOP)
    failures = fail(worlds, 3, len, bytes(30_000_000)).failures
    assert [(failure.rank, failure.kind, failure.blamed) for failure in failures] == [(1, "stopped", True)]


def test_twenty_rebuilds_leak_nothing(worlds: Worlds) -> None:
    def descriptors() -> tuple[int, int, int]:
        gc.collect()  # errors of earlier tests hold their worlds' logs
        template = worlds.pids()[0]
        children = Path(f"/proc/{template}/task/{template}/children").read_text().split()
        counts = [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in ("self", template)]
        assert worlds.folder is not None
        folders = len(list(worlds.folder.glob("world-*")))
        assert len(children) == len(worlds.pids()) - 1
        return counts[0], counts[1], folders

    fail(worlds, 2, jobs.raise_value_error)
    before = descriptors()
    for _ in range(20):
        with pytest.raises(WorldError):
            worlds.run(2, jobs.raise_value_error)
        worlds.run(2, jobs.pid)
    assert descriptors() == before


def test_a_killed_template_takes_its_ranks_along_and_is_replaced(
    still_alive: StillAlive, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Worlds(timeout_s=10, preload=()) as pool:
        pool.run(2, jobs.pid)
        pids, folder = pool.pids(), pool.folder
        os.kill(pids[0], signal.SIGKILL)
        assert still_alive(pids, 1.0) == set()
        with monkeypatch.context() as early:  # the kernel may tell of a rank's end some time after it
            early.setattr(RankProcess, "has_ended", False)
            assert not set(pool.run(2, jobs.pid)) & set(pids)
        assert folder is not None
        assert not folder.exists()

        killer = threading.Timer(0.3, os.kill, (pool.pids()[0], signal.SIGKILL))  # now during a run
        killer.start()
        with pytest.raises(WorldError) as caught:
            pool.run(2, jobs.sleep_for_ever)
        assert [(failure.kind, failure.blamed) for failure in caught.value.failures] == [("died", False)] * 2
        assert "by no rank's fault" in str(caught.value)
