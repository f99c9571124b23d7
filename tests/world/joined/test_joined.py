"""The check under torchrun: the ranks that are there are joined, and all of them end with the verdict's code.

Oracle: the exit status of every rank as the kernel tells it, and rank 0's report. Sees: a rank that ends by the
launcher's signal or with another code, a world of the wrong ranks, a result that is lost on its way, a dead rank that
is not named or holds up the run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from launching import BROKEN, LIMIT_S, plainly, torchrun

from siglip_verify.errors import UsageError
from siglip_verify.records import CaseResult, RankFailure
from siglip_verify.result import Report
from siglip_verify.world.joined import Place

# `make test-launched` runs them; that all of `check` passes on four ranks of torchrun is `make verify-launched`.
pytestmark = [pytest.mark.xdist_group("joined"), pytest.mark.long]
THREADS = {"OMP_NUM_THREADS": "1"}
OURS = ("--loss", "siglip_verify.loss:SigLipLoss")


def check(*arguments: str, loss: str | None = None, timeout_s: int = 60) -> list[str]:
    target = OURS if loss is None else ("--loss", f"{BROKEN}:{loss}")
    return ["check", *target, "--seed", "1", "--timeout", str(timeout_s), *arguments]


def blamed(result: CaseResult) -> list[RankFailure]:
    return [failure for failure in result.failures if failure.blamed]


def assert_whole(report: Report, world_sizes: range) -> None:
    """Every cell was run and passes, and what was sent is what was planned, byte for byte also on the wire."""
    (loss,) = report.losses
    assert report.verdict == "pass"
    assert {(cell.exchange, cell.world_size) for cell in loss.cells} == {
        (exchange, size) for exchange in ("bidir", "shift", "reduce", "gather") for size in world_sizes
    }
    for row in loss.messages:
        assert row.counted_messages == row.planned_messages
        assert row.counted_payload_bytes == row.planned_payload_bytes
        if row.exchange in ("bidir", "shift") and row.wire_bytes is not None:
            assert row.counted_payload_bytes is not None
            assert row.counted_messages is not None
            assert row.wire_bytes == row.counted_payload_bytes + (96 + 48) * row.counted_messages


def test_two_agents_on_one_machine_are_one_world_and_pass(tmp_path: Path) -> None:
    ended = torchrun(tmp_path, check("--examples", "8"), agents=2)
    assert ended.launchers == [0, 0], ended.output
    assert ended.codes == dict.fromkeys(range(4), 0)
    assert_whole(ended.report, range(1, 5))
    assert ended.report.environment["back end"].startswith("gloo, 4 ranks of a launcher on 1 host")


def test_a_planted_bug_is_found_and_every_rank_ends_with_1(tmp_path: Path) -> None:
    ended = torchrun(tmp_path, check("--examples", "12", "--exchanges", "bidir", loss="ForwardingSwapped"))
    assert ended.codes == dict.fromkeys(range(4), 1), ended.output
    assert ended.launchers == [1], "the launcher has a code of its own"
    (found,) = ended.report.counterexamples
    case = found.result.case
    assert (case.world_size, case.batch, case.dim) == (4, 1, 1)
    assert found.diagnosis is not None
    assert found.diagnosis.passes_at == (1, 2, 3)


def test_a_rank_that_is_killed_ends_the_run_at_once_and_is_named(tmp_path: Path) -> None:
    ended = torchrun(tmp_path, check("--examples", "8", loss="Killed"), ranks=3)
    assert ended.codes == {0: 3, 1: -9, 2: 3}, ended.output
    assert ended.report.verdict == "unknown"
    (unknown,) = ended.report.unknowns
    (failure,) = blamed(unknown)
    assert (failure.rank, failure.kind) == (1, "died")
    assert "its process ended" in failure.detail
    cells = {(cell.exchange, cell.world_size): cell for cell in ended.report.losses[0].cells}
    assert cells["bidir", 1].verdict == "pass", "what was found before stays"
    assert "rank 1" in cells["shift", 1].note
    assert ended.report.elapsed_s < 30, "torchrun kills 30 s after its SIGTERM"


def test_a_case_that_does_not_fit_in_memory_is_unknown_and_the_run_goes_on(tmp_path: Path) -> None:
    """Under a launcher that only sets the variables: rank 0 serves the store."""
    ended = plainly(tmp_path, check("--examples", "16", "--exchanges", "bidir,shift", loss="OutOfMemory"), ranks=2)
    assert ended.codes == {0: 3, 1: 3}, ended.output
    for unknown in ended.report.unknowns:
        (failure,) = blamed(unknown)
        assert (failure.rank, failure.kind) == (1, "raised")
        assert "OutOfMemoryError" in failure.detail
        assert unknown.case.batch > 2
    cells = {(cell.exchange, cell.world_size): cell for cell in ended.report.losses[0].cells}
    assert cells["bidir", 2].cases > 0, "smaller cases were judged"
    assert cells["shift", 2].cases > 0, "a group is made anew, and asked"


@pytest.mark.parametrize(
    ("loss", "kind", "words"),
    [
        ("Sleeping", "hung", "time.sleep"),
        # torchrun waits 30 s for a rank that is stopped: beside the others
        pytest.param("Stopped", "stopped", "SIGSTOP", marks=pytest.mark.xdist_group("stopped")),
    ],
)
def test_a_rank_that_never_answers_is_named_and_the_others_still_end_with_the_verdict(
    tmp_path: Path, loss: str, kind: str, words: str
) -> None:
    ended = torchrun(tmp_path, check("--examples", "6", "--exchanges", "bidir", loss=loss, timeout_s=5), ranks=3)
    assert {rank: code for rank, code in ended.codes.items() if loss != "Stopped" or rank != 1} == dict.fromkeys(
        [0, 2] if loss == "Stopped" else [0, 1, 2], 3
    ), ended.output
    (failure,) = blamed(ended.report.unknowns[0])
    assert (failure.rank, failure.kind) == (1, kind)
    assert words in failure.detail + failure.traceback


def test_more_ranks_than_the_launcher_started_are_refused_with_the_code_of_usage(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):  # no report is written
        plainly(tmp_path, check("--world-sizes", "1-3"), ranks=2)
    assert "world sizes must be in 1..2; got [1, 3]" in (tmp_path / "output").read_text()
    assert [(tmp_path / f"rank-{rank}").read_text() for rank in range(2)] == ["2", "2"]


# ------------------------------------------------------------------ what a launcher says
TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "MASTER_ADDR": "host", "MASTER_PORT": "29500"}


def test_no_launcher_is_no_place() -> None:
    assert Place.of_launcher({}) is None
    assert Place.of_launcher({"WORLD_SIZE": "4"}) is None


def test_the_place_is_what_the_launcher_says() -> None:
    place = Place.of_launcher(TORCHRUN | {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"})
    assert place is not None
    assert (place.rank, place.world_size, place.local_rank, place.local_world_size) == (5, 8, 1, 4)
    assert (place.address, place.port, place.serves_store) == ("host", 29500, False)


@pytest.mark.parametrize(("agent", "serves"), [("True", False), ("False", True), (None, True)])
def test_rank_0_serves_the_store_unless_an_agent_does(agent: str | None, serves: bool) -> None:
    variables = TORCHRUN | {"RANK": "0"} | ({"TORCHELASTIC_USE_AGENT_STORE": agent} if agent else {})
    place = Place.of_launcher(variables)
    assert place is not None
    assert place.serves_store == serves


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"MASTER_PORT": None}, r"got RANK=5 without MASTER_PORT: start with torchrun, export them, or unset RANK"),
        ({"RANK": "8"}, r"ranks are 0 .. WORLD_SIZE - 1; got RANK=8 with WORLD_SIZE=8"),
        ({"WORLD_SIZE": "many"}, r"WORLD_SIZE is a number that the launcher sets; got WORLD_SIZE='many'"),
        ({"RANK": "-1"}, r"got RANK='-1'"),
    ],
)
def test_a_launcher_that_says_too_little_is_an_error_that_names_it(change: dict[str, str | None], message: str) -> None:
    variables = {name: value for name, value in (TORCHRUN | change).items() if value is not None}
    with pytest.raises(UsageError, match=message):
        Place.of_launcher(variables)


def test_the_messages_of_one_step_are_counted_on_a_launchers_ranks() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3"]
    step = ["-m", "siglip_verify", "messages", "--world-size", "3", "--batch", "2", "--dim", "4"]
    done = subprocess.run([*command, *step], capture_output=True, text=True, timeout=LIMIT_S, env=os.environ | THREADS)
    assert done.returncode == 0, done.stderr
    assert "gloo, 3 ranks of a launcher on 1 host" in " ".join(done.stdout.split())
    assert "PASS" in done.stdout
