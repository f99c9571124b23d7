"""`siglip-verify messages` on real processes, from arguments to exit code, output and files.

Oracle: counts by hand for the steps asked for; the faults planted in `tests/run/broken_messages.py`. Sees: an argument
that does not reach the step, a fault that does not reach the exit code, a file that is missing or of another step.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from siglip_verify import cli
from siglip_verify.adapt import open_clip_installed

pytestmark = [pytest.mark.xdist_group("cli"), pytest.mark.usefixtures("warm")]
BROKEN = Path(__file__).parents[1] / "run" / "broken_messages.py"


def messages(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run the command, and return its exit code and what it printed, in one line."""
    code = cli.exit_code(["messages", *arguments])
    printed = capsys.readouterr()
    return code, " ".join((printed.out + printed.err).split())


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "messages.jsonl").read_text().splitlines()]


def test_a_step_is_shown_with_its_hops_totals_matrix_and_the_other_exchanges(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, text = messages(capsys, "--world-size", "3", "--batch", "2", "--dim", "4", "--report-dir", str(tmp_path))
    assert code == 0
    assert text.startswith("PASS: 24 operations in one step of bidir at W = 3, 12 messages matched, nothing found")
    for part in ("Forward, hop by hop: 1 hop.", "Each rank, forward + backward.", "from rank (row) to rank (column)"):
        assert part in text
    assert "bidir 3 4 sends 4 sends 128 128 704 128" in text  # 4 (32 + 96 + 48) on the wire
    assert "gather backward all_to_all 1 96 2 64" in text
    assert "reduce_scatter 1 96 64" in text
    events = lines(tmp_path)
    assert Counter(event["kind"] for event in events) == {"send": 12, "recv": 12}
    assert {event["step"].split(" scale")[0] for event in events} == {"bidir W=3 b=2 d=4 dtype=float32"}
    trace = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert Counter(event["ph"] for event in trace)["s"] == 12


def test_every_argument_reaches_the_step(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["--exchange", "gather", "--world-size", "2", "--batch", "3", "--dim", "5", "--dtype", "bfloat16"]
    code, _ = messages(capsys, *arguments, "--frozen", "text", "--report-dir", str(tmp_path))
    assert code == 0
    assert {(e["kind"], e["phase"], e["dtype"], e["payload_bytes"]) for e in lines(tmp_path)} == {
        ("all_gather", "forward", "bfloat16", 30)
    }


def test_with_one_rank_nothing_is_sent(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = messages(capsys, "--world-size", "1")
    assert code == 0
    assert text.startswith("PASS: 0 operations in one step of bidir at W = 1, 0 messages matched, nothing found")
    assert "bidir 1 none none 0 0 0 0" in text


@pytest.mark.skipif(not open_clip_installed(), reason="open_clip is not installed")
def test_open_clips_gather_is_explained_beside_ours(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = messages(capsys, "--loss", "open_clip", "--exchange", "gather", "--world-size", "2")
    assert code == 0
    assert "ours: forward 1 all_gather; backward 1 all_to_all. Theirs: torch.distributed.nn brings" in text
    assert "gather backward scatter 2" in text


def test_a_fault_is_named_and_exits_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    loss = ["--loss", f"{BROKEN}:DroppedReceive", "--exchange", "shift", "--world-size", "2"]
    code, text = messages(capsys, *loss, "--timeout", "4", "--report-dir", str(tmp_path))
    assert code == 1
    assert text.startswith("MISMATCH: unmatched-send in shift; 3 operations recorded")
    assert Counter(event["kind"] for event in lines(tmp_path)) == {"send": 2, "recv": 1}


def test_a_record_that_is_not_whole_exits_3(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = messages(capsys, "--loss", f"{BROKEN}:Chatty", "--world-size", "1")
    assert code == 3
    assert "at most 4,095 operations a rank to be counted whole; got 5,000" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--world-size", "0"], "W is a whole number, 1 at least"),
        (["--world-size", "65"], "world sizes must be in 1..64; got [65]"),
        (["--batch", "0"], "b is a whole number, 1 at least"),
        (["--dim", "none"], "--dim"),
        (["--exchange", "ring"], "ring"),
        (["--loss", "a:b", "--loss", "c:d"], "messages are counted of one loss; got 2 times --loss"),
        (["--loss", "nowhere.py:Loss"], "no such file"),
    ],
)
def test_a_wrong_argument_is_named_and_exits_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    code, text = messages(capsys, *arguments)
    assert (code, words in text) == (2, True), text


def test_the_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = messages(capsys, "--help")
    assert code == 0
    for words in ("siglip-verify messages --world-size 5", "counted", "measured", "modelled", "messages.jsonl"):
        assert words in text


def test_check_writes_the_messages_of_one_step(tmp_path: Path) -> None:
    arguments = ["--loss", "siglip_verify.loss:SigLipLoss", "--exchanges", "shift,bidir", "--world-sizes", "2-3"]
    assert cli.exit_code(["check", *arguments, "--examples", "4", "--seed", "1", "--report-dir", str(tmp_path)]) == 0
    events = lines(tmp_path)
    assert {event["step"].split(" dtype")[0] for event in events} == {"bidir W=3 b=8 d=64"}
    assert len(events) == 24
    trace = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert Counter(event["ph"] for event in trace)["f"] == 12
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["losses"][0]["sample_step"]["events"]) == 24


def test_replay_writes_the_messages_of_the_case_that_fails(tmp_path: Path) -> None:
    loss = ["--loss", f"{BROKEN}:OtherDtype", "--report-dir", str(tmp_path)]
    assert cli.exit_code(["replay", "shift W=2 b=2 d=3 dtype=float64", *loss]) == 1
    events = lines(tmp_path)
    assert {(e["kind"], e["dtype"]) for e in events} == {("send", "float64"), ("recv", "int64")}
    assert all(event["other_end"] is not None for event in events)
