"""Folders that vanish, disks that are full and descriptors that run out: said in words, and over when they are over.

Oracle: what was taken away. Sees: a traceback in place of a reason, a pool that never recovers, a shortage of one world
that ends the others.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import world_jobs as jobs

from siglip_verify.adapt import LossSpec
from siglip_verify.case import Case
from siglip_verify.checks.failures import failure_sentence
from siglip_verify.run.judge import CaseJudge
from siglip_verify.run.limits import load_traits
from siglip_verify.world import WorldError, Worlds

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.xdist_group("shortages"),
]


@pytest.fixture(scope="module")
def worlds() -> Iterator[Worlds]:
    """Worlds whose private folder these tests may remove."""
    with Worlds(timeout_s=10, preload=()) as pool:
        yield pool


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Leave this process no descriptor to open."""
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = {int(entry.name) for entry in Path("/proc/self/fd").iterdir()}
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(max(in_use) + 1 - len(in_use))]  # every gap
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(in_use), usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)
        for descriptor in held:
            os.close(descriptor)


def test_a_removed_folder_ends_no_world_and_the_next_one_has_a_new_folder(worlds: Worlds) -> None:
    pids = worlds.run(2, jobs.pid)
    lost = worlds.folder
    assert lost is not None
    shutil.rmtree(lost)
    assert worlds.run(2, jobs.pid) == pids
    with pytest.raises(WorldError, match="odd number of ranks"):
        worlds.run(2, jobs.raise_value_error)
    assert not set(pids) & set(worlds.run(2, jobs.pid))
    assert worlds.folder != lost
    assert not lost.exists()


def test_a_parent_without_descriptors_gets_a_reason_and_later_a_world(worlds: Worlds) -> None:
    worlds.run(1, jobs.pid)
    with no_descriptors(), pytest.raises(WorldError) as caught:
        worlds.world(3)
    assert "a world needs files and descriptors of its own; got OSError: [Errno 24] Too many open files" in str(
        caught.value
    )
    assert len(worlds.run(3, jobs.pid)) == 3


def test_a_case_that_gets_no_ranks_is_unknown_and_says_why(worlds: Worlds) -> None:
    spec = LossSpec()
    judge = CaseJudge(worlds, spec, load_traits(worlds, spec))
    worlds.discard(2)
    with no_descriptors():
        result = judge(Case(world_size=2))
    assert (result.verdict, result.failures) == ("unknown", ())
    assert "Too many open files" in failure_sentence(result.failures, 2, result.reason)
    assert judge(Case(world_size=2)).verdict == "pass"


def test_a_rank_that_never_began_a_step_is_not_placed_in_the_one_before(worlds: Worlds) -> None:
    spec = LossSpec()
    judge = CaseJudge(worlds, spec, load_traits(worlds, spec))
    assert judge(Case(world_size=2)).verdict == "pass"
    os.kill(worlds.world(2).pids[1], signal.SIGSTOP)
    result = judge.watch(Case(world_size=2), timeout_s=1.5).result
    assert [(f.rank, f.kind, f.blamed, f.reached) for f in result.failures] == [
        (0, "hung", False, "in forward hop 0 (send, recv)"),
        (1, "stopped", True, "before its first message"),
    ]
