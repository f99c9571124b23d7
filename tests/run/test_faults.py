"""Faults in real ranks: one of each kind, and a harness that sees what it is there to see.

Oracle: `fault.EXPECTED` and /proc. Sees: a fault that is taken for another, blamed on another rank or placed in another
hop, a verdict that comes late, a process, folder or descriptor that stays; and a harness that could not have seen it.
The whole matrix is `make faults`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from siglip_verify.case import EXCHANGES, Case
from siglip_verify.fault import EXPECTED, KINDS, Burst, Fault, FaultReport, Kind
from siglip_verify.observe import log_bytes
from siglip_verify.observe.trap import Trap
from siglip_verify.records import CaseResult, Finding, RankFailure
from siglip_verify.run.fault_plans import Place, in_a_row, matrix, soak
from siglip_verify.run.faults import Act, misjudged, run_faults
from siglip_verify.run.leaks import Growth, left_behind
from siglip_verify.world import Worlds
from siglip_verify.world.census import surroundings

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.xdist_group("faults"),
]
TIMEOUT_S = 1.5


def sample() -> Iterator[Act]:
    """One fault of each kind, the exchanges in turn, at two ranks; cases without a fault before and after."""
    calm = Burst(exchange="shift", world_size=1, examples=2, seed=1)
    yield calm
    for index, kind in enumerate(KINDS):
        exchange = EXCHANGES[index % len(EXCHANGES)]
        yield from matrix(seed=index, timeout_s=TIMEOUT_S, kinds=[kind], exchanges=[exchange], world_sizes=[2])
    yield calm


@pytest.fixture(scope="module")
def report() -> FaultReport:
    return run_faults(sample(), timeout_s=TIMEOUT_S, seed=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_is_named_with_rank_and_hop_in_time_and_the_next_case_passes(report: FaultReport, kind: Kind) -> None:
    (outcome,) = [outcome for outcome in report.outcomes if outcome.fault.kind == kind]
    assert outcome.wrong == ()
    assert outcome.left == ()
    named = True if EXPECTED[kind].verdicts in (("unknown",), ("mismatch",)) else None
    assert (outcome.names_rank, outcome.names_hop) == (named, named)
    assert outcome.verdict in (EXPECTED[kind].verdicts or (None,))


def test_faults_leave_nothing_behind(report: FaultReport) -> None:
    assert [leak for leak in report.leaks if leak.is_leak] == []
    assert report.wrong_cases == ()
    assert report.passes


def test_a_fault_that_is_never_set_off_is_no_fault_survived() -> None:
    trap = Trap(bytearray(log_bytes(4)), Fault(kind="late", rank=1, phase="forward", hop=7))
    with pytest.raises(RuntimeError, match="a step with a fault comes by its place; got none in forward hop 7"):
        trap.check_sprung()


# ------------------------------------------------------------------ what the harness sees
CASE = Case(exchange="shift", world_size=2, batch=2, dim=2)
KILLED = Fault(kind="killed", rank=1, phase="backward", hop=0)
DIED = RankFailure(
    rank=1,
    kind="died",
    blamed=True,
    detail="its process was killed by SIGKILL",
    reached="in backward hop 0 (send)",
)
JUDGED = CaseResult(case=CASE, verdict="unknown", failures=(DIED,))


def failing(**changes: object) -> CaseResult:
    return msgspec.structs.replace(JUDGED, failures=(msgspec.structs.replace(DIED, **changes),))


@pytest.mark.parametrize(
    ("result", "complaint"),
    [
        (msgspec.structs.replace(JUDGED, verdict="pass"), "pass in place of unknown"),
        (failing(rank=0), r"blames ranks \[0\] in place of 1"),
        (failing(blamed=False), r"blames ranks \[\] in place of 1"),
        (failing(reached="in forward hop 0 (send)"), "does not name backward hop 0"),
        (failing(reached="in backward hop 01 (send)"), "does not name backward hop 0"),
        (failing(detail="its process was killed by SIGABRT"), "does not say SIGKILL"),
    ],
)
def test_a_verdict_that_is_not_as_it_must_be_is_said(result: CaseResult, complaint: str) -> None:
    assert list(misjudged(KILLED, JUDGED)) == []
    assert re.search(complaint, "; ".join(misjudged(KILLED, result)))


def test_a_truncated_message_must_be_found_on_its_rank_in_its_hop() -> None:
    fault = msgspec.structs.replace(KILLED, kind="truncated")
    here = Finding(name="size-differs", rank=1, detail="rank 1: backward hop 0 send of 8 bytes")
    assert list(misjudged(fault, CaseResult(case=CASE, verdict="mismatch", findings=(here,)))) == []
    for elsewhere in (msgspec.structs.replace(here, rank=0), msgspec.structs.replace(here, detail="rank 1: hop 0")):
        result = CaseResult(case=CASE, verdict="mismatch", findings=(elsewhere,))
        assert "does not name rank 1 in backward hop 0" in next(iter(misjudged(fault, result)))


def test_a_process_that_lost_its_parent_and_a_file_are_seen() -> None:
    with surroundings() as place:
        assert [leak.is_leak for leak in left_behind(place)] == [False, False]
        shell = subprocess.run(["sh", "-c", "sleep 100 >/dev/null & echo $!"], stdout=subprocess.PIPE, check=True)
        orphan = int(shell.stdout)
        (place.folder / "left").touch()
        assert place.processes() == {orphan}
        assert [leak.is_leak for leak in left_behind(place)] == [True, True]
        os.kill(orphan, 9)
    assert not place.folder.exists()


def test_a_zombie_is_seen() -> None:
    with surroundings() as place, subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert place.processes() == {process.pid}


def test_descriptors_and_memory_that_grow_are_seen() -> None:
    growth, held = Growth(), []
    with Worlds() as worlds:
        for _ in range(6):
            growth.look(worlds)
        assert [leak for leak in growth.rows() if leak.is_leak] == []
        held.append(bytearray(os.urandom(1 << 20)) * 100)
        with Path(os.devnull).open():
            growth.look(worlds)
    assert [leak.what for leak in growth.rows() if leak.is_leak] == [
        "descriptors of this process",
        "memory of this process",
    ]


# ------------------------------------------------------------------ which faults are drawn
def places(acts: list[Act]) -> list[tuple[str, str, int]]:
    return [(act[0].kind, act[1].exchange, act[1].world_size) for act in acts if not isinstance(act, Burst)]


def test_the_matrix_holds_every_kind_at_every_exchange_and_world_size_once() -> None:
    drawn = places(matrix(seed=3, timeout_s=1))
    assert len(drawn) == len(set(drawn)) == len(KINDS) * len(EXCHANGES) * 3


def test_what_is_named_of_a_place_is_not_drawn() -> None:
    for act in matrix(seed=3, timeout_s=1, world_sizes=[3, 4], at=Place(rank=2, phase="backward")):
        assert not isinstance(act, Burst)
        assert (act[0].rank, act[0].phase) == (2, "backward")
    hops = {act[0].hop for act in matrix(seed=3, timeout_s=1, exchanges=["shift"], world_sizes=[4], at=Place(hop=2))}
    assert hops == {2}


def test_the_same_seed_draws_the_same_faults() -> None:
    first, again, other = (list(in_a_row(40, seed=seed, timeout_s=1)) for seed in (1, 1, 2))
    assert len(places(first)) == 40
    assert first == again != other


def test_a_soak_ends_when_its_time_is_over() -> None:
    assert list(soak(0.0, seed=1, timeout_s=1)) == []
    kinds = [type(act) for act, _ in zip(soak(1.0, seed=1, timeout_s=1), range(3), strict=False)]
    assert kinds == [Burst, Burst, tuple]


def test_every_kind_says_what_must_come_of_it() -> None:
    assert tuple(EXPECTED) == KINDS
