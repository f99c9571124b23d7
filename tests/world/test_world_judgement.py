"""From outcomes to blame, and from a stack's text to a place: pure functions, no process.

Oracle: stacks as faulthandler writes them, and the rules of blame said once more by hand. Sees: blame on a victim, a
culprit let off, a wait taken for a loop, an error text without rank, world size or seconds.
"""

from __future__ import annotations

import pickle
import queue
import sys
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import siglip_verify.world
from siglip_verify.records import RankFailure
from siglip_verify.world import WorldError
from siglip_verify.world.blame import Ended, Hello, Outcome, Raised, Returned, Round, Silent, describe_status, judge
from siglip_verify.world.stacks import Frame, place, read_stack, waits_for_peer

TORCH = str(Path(torch.__file__).parent)
HARNESS = str(Path(siglip_verify.world.__file__).parent)
RECORDER = str(Path(siglip_verify.world.__file__).parent.parent / "observe")


@pytest.fixture
def loss(tmp_path: Path) -> str:
    """The file of a loss under test."""
    path = tmp_path / "loss.py"
    path.write_text(
        "def forward(work):\n    time.sleep(1000)\n    work.wait()\n    event.wait()\n    while True: pass\n"
    )
    return str(path)


def stack_text(*frames: tuple[str, int, str], thread: int = 0x7F01) -> str:
    """What faulthandler writes: another thread, then the wanted one, down to the world's own frames."""
    own = [*frames, (f"{HARNESS}/rank.py", 130, "_answer"), ("<string>", 1, "<module>")]
    lines = "".join(f'  File "{path}", line {line} in {function}\n' for path, line, function in own)
    other = 'Thread 0x00007f02 (most recent call first):\n  File "/other.py", line 1 in other\n\n'
    return f"{other}Current thread 0x{thread:08x} (most recent call first):\n{lines}"


def test_the_newest_dump_of_the_wanted_thread_is_read(loss: str) -> None:
    text = stack_text(("/older.py", 1, "older")) + stack_text((loss, 2, "forward"), ("/step.py", 9, "step"))
    assert read_stack(text, 0x7F01) == [Frame(loss, 2, "forward"), Frame("/step.py", 9, "step")]
    assert read_stack(text, 0x7F02) == [Frame("/other.py", 1, "other")]
    assert read_stack(text, 0x7F03) == []
    assert read_stack(text[: len(text) // 3], 0x7F01) == [Frame("/older.py", 1, "older")]


@pytest.mark.parametrize(
    ("inner", "line", "expected_place", "waits"),
    [
        ([], 2, "in forward (loss.py:2): time.sleep(1000)", False),
        ([], 3, "in forward (loss.py:3): work.wait()", True),
        ([], 5, "in forward (loss.py:5): while True: pass", False),
        ([(threading.__file__, 331, "wait")], 4, "in forward (loss.py:4): event.wait()", False),
        ([(queue.__file__, 171, "get"), (f"{TORCH}/utils/data/dataloader.py", 9, "get")], 2, "in forward", False),
        ([(f"{TORCH}/distributed/distributed_c10d.py", 1, "recv")], 2, "in forward (loss.py:2)", True),
        ([(f"{TORCH}/autograd/graph.py", 1, "_engine_run_backward")], 2, "in forward (loss.py:2)", True),
        ([(f"{RECORDER}/gone.py", 1, "wait")], 3, "in forward (loss.py:3)", True),
    ],
)
def test_a_place_is_the_users_and_a_wait_is_torchs(
    loss: str, inner: list[tuple[str, int, str]], line: int, expected_place: str, waits: bool
) -> None:
    frames = read_stack(stack_text(*inner, (loss, line, "forward"), ("/step.py", 9, "step")), 0x7F01)
    assert str(place(frames)).startswith(expected_place)
    assert waits_for_peer(frames) is waits


def test_without_a_frame_of_the_user_the_innermost_is_the_place() -> None:
    frames = read_stack(stack_text((f"{TORCH}/a.py", 1, "inner"), (f"{TORCH}/b.py", 2, "outer")), 0x7F01)
    assert str(place(frames)) == "in inner (a.py:1)"
    assert place([]) is None
    assert not waits_for_peer([])


WAITS = Silent("S", "", (Frame(f"{TORCH}/distributed/distributed_c10d.py", 10**6, "recv"),))
LOOPS = Silent("R", "", (Frame(f"{TORCH}/distributed/distributed_c10d.py", 10**6, "recv"),))
SLEEPS = Silent("S", "", (Frame("/loss.py", 1, "forward"),))
STOPPED = Silent("T", "", ())
LOST_PEER = Raised(
    "RuntimeError: lost", "RuntimeError: [gloo/transport/tcp/pair.cc:553] Connection closed by peer [..]"
)
WRAPPED = Raised("MyError: lost", f"{LOST_PEER.traceback}\n\nDuring handling of the above exception\n\nMyError: lost")
ODD = Raised("ValueError: odd", "Traceback\nValueError: odd")

ALWAYS_BLAMED = [ODD, Ended(-9), Ended(0), STOPPED]
NEVER_BLAMED = [WAITS, LOST_PEER, WRAPPED, Ended(None)]
BLAMED_AT_THE_DEADLINE = [LOOPS, SLEEPS]
ANSWERS: list[Outcome] = [Returned(None), Hello(1)]


@given(
    outcomes=st.lists(
        st.sampled_from([*ALWAYS_BLAMED, *NEVER_BLAMED, *BLAMED_AT_THE_DEADLINE, *ANSWERS]), min_size=1, max_size=8
    ),
    is_cut_short=st.booleans(),
)
def test_blame_follows_the_rules(outcomes: list[Outcome], is_cut_short: bool) -> None:
    first_failed = 0 if is_cut_short else None
    one_round = Round(dict(enumerate(outcomes)), 2.0, first_failed)
    failures = judge(one_round, {})
    assert [failure.rank for failure in failures] == [r for r, outcome in enumerate(outcomes) if outcome not in ANSWERS]
    assert one_round.succeeded == (not failures)
    blamed = ALWAYS_BLAMED if is_cut_short else [*ALWAYS_BLAMED, *BLAMED_AT_THE_DEADLINE]
    assert all(failure.blamed == (outcomes[failure.rank] in blamed) for failure in failures)
    assert all(failure.detail for failure in failures)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "its process exited with status 0"),
        (3, "its process exited with status 3"),
        (-11, "its process was killed by SIGSEGV"),
        (-250, "its process was killed by signal 250"),
        (None, "its process is gone and so is the template process, which would know its exit status"),
    ],
)
def test_an_exit_status_is_written_in_words(status: int | None, text: str) -> None:
    assert describe_status(status) == text


def example_error() -> WorldError:
    failures = judge(
        Round({0: WAITS, 1: ODD, 2: Returned(1), 3: WAITS}, 1.0, 1), {0: "", 1: "printed\nby rank 1", 3: ""}
    )
    return WorldError(failures, 4, 1.04, (b"log",) * 4)


def test_the_error_says_who_how_and_when_culprits_first() -> None:
    assert str(example_error()) == (
        "a world of 4 failed after 1.0 s, by the fault of rank 1\n"
        "  rank 1 raised: ValueError: odd\n"
        "  ranks 0, 3 hung: no answer within 1 s of rank 1's failure; in recv (distributed_c10d.py:1000000); "
        "waiting for another rank\n"
        "  rank 1, traceback:\n"
        "    Traceback\n"
        "    ValueError: odd\n"
        "  rank 1, last output:\n"
        "    printed\n"
        "    by rank 1"
    )


def test_long_evidence_is_cut_to_its_end() -> None:
    text = "\n".join(f"line {number}" for number in range(100))
    failure = RankFailure(rank=0, kind="died", blamed=True, detail="gone", stderr_tail=text)
    lines = str(WorldError((failure,), 1, 0.1)).splitlines()
    assert lines[2:4] == ["  rank 0, last output:", "    ..."]
    assert lines[4:] == [f"    line {number}" for number in range(88, 100)]


def test_an_error_survives_pickling() -> None:
    error = example_error()
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.failures, copy.logs, copy.elapsed_s) == (str(error), error.failures, error.logs, 1.04)


def test_exceptions_become_text_of_bounded_length() -> None:
    try:
        raise ValueError("x" * 100_000 + "\nsecond line") from KeyError("cause")
    except ValueError as error:
        raised = Raised.of(error, "prefix: ")
    assert raised.detail.startswith("prefix: ValueError: xxx")
    assert len(raised.detail) == 300
    assert len(raised.traceback) == 16_000
    assert raised.traceback.endswith("second line\n")
    assert sys.exc_info() == (None, None, None)
