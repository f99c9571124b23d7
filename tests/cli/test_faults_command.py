"""`siglip-verify faults` and `soak`: what they print, their exit codes, and what they refuse.

Oracle: exit codes as documented, results written by hand. Sees: a wrong outcome or a leak that exits with 0 or that the
text leaves out, a traceback for a wrong argument.
"""

from __future__ import annotations

import io
import sys

import msgspec
import pytest
from rich.console import Console

from siglip_verify.case import Case
from siglip_verify.cli import exit_code
from siglip_verify.fault import Fault, FaultOutcome, FaultReport, Leak
from siglip_verify.report import faults as report

pytestmark = pytest.mark.xdist_group("faults")

FAULT = Fault(kind="killed", rank=1, phase="backward", hop=0)
OUTCOME = FaultOutcome(
    fault=FAULT, case=Case(exchange="shift", world_size=3), verdict="unknown", said="rank 1", elapsed_s=1.25, wrong=()
)
GOOD = FaultReport(
    outcomes=(OUTCOME, msgspec.structs.replace(OUTCOME, elapsed_s=2.5)),
    cases=7,
    wrong_cases=(),
    rebuilt=2,
    leaks=(Leak(what="processes", before=0, after=0), Leak(what="memory", before=10, after=12, allowed=4, unit="MiB")),
    seed=5,
    timeout_s=3.0,
    elapsed_s=9.0,
)
WRONG = msgspec.structs.replace(OUTCOME, wrong=("blames ranks [0] in place of 1",))
BAD = {
    "a wrong outcome": msgspec.structs.replace(GOOD, outcomes=(OUTCOME, WRONG)),
    "a wrong case": msgspec.structs.replace(GOOD, wrong_cases=("shift W=2: mismatch: loss",)),
    "a leak": msgspec.structs.replace(GOOD, leaks=(Leak(what="processes", before=0, after=1),)),
}
SAID = {
    "a wrong outcome": ["blames ranks [0] in place of 1", "1 of 2 WRONG", "1 wrong, leaks: none"],
    "a wrong case": ["a case without a fault: shift W=2: mismatch: loss", "1 wrong, leaks: none"],
    "a leak": ["LEAK", "0 wrong, leaks: processes"],
}


def text(result: FaultReport) -> str:
    out = io.StringIO()
    report.render(result, Console(file=out, width=140, color_system=None))
    return out.getvalue()


def test_a_good_run_shows_faults_verdicts_the_slowest_and_every_count() -> None:
    shown = text(GOOD)
    assert shown.startswith("PASS: 2 faults, 7 cases without, 2 worlds rebuilt, 0 wrong, leaks: none; seed 5, 9.00 s\n")
    for said in ("killed", "2 unknown", "2.50 s", "processes", "12.0 MiB", "4.0 MiB"):
        assert said in shown


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_is_shown_and_is_no_pass(what: str) -> None:
    assert not BAD[what].passes
    shown = text(BAD[what])
    assert shown.startswith("MISMATCH: ")
    for said in SAID[what]:
        assert said in shown


def test_the_json_can_be_read_again() -> None:
    assert msgspec.json.decode(report.dump(GOOD), type=FaultReport) == GOOD


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["faults", "--world-sizes", "1-3"], "W is at least 2; got --world-sizes '1-3'"),
        (["faults", "--world-sizes", "two"], "got 'two'"),
        (["faults", "--in-a-row", "0"], "--in-a-row takes a number of at least 1"),
        (["faults", "--in-a-row", "3", "--only", "killed"], "no kind, exchange, rank, phase or hop beside it"),
        (["faults", "--in-a-row", "3", "--hop", "0"], "no kind, exchange, rank, phase or hop beside it"),
        (["faults", "--only", "slept"], "slept"),
        (["faults", "--rank", "3"], "a rank is 0 to W - 1; got rank=3 where W = 2"),
        (["faults", "--rank", "-1"], "a rank is 0 to W - 1; got rank=-1 where W = 2"),
        (["faults", "--exchange", "shift", "--hop", "1"], "shift at W = 2 has no hop 1"),
        (
            ["faults", "--exchange", "gather", "--phase", "forward", "--hop", "1"],
            "gather at W = 2 has no forward hop 1",
        ),
        (["faults", "--phase", "sideways"], "sideways"),
        (["faults", "--timeout", "0"], "timeout must be more than 0"),
        (["soak", "--minutes", "0"], "minutes must be more than 0"),
        (["soak", "--minutes", "nan"], "minutes must be more than 0"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_with_a_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(arguments) == 2
    printed = capsys.readouterr()
    assert said in " ".join((printed.out + printed.err).split())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.long
def test_a_soak_of_a_moment_judges_cases_and_sets_off_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["soak", "--minutes", "0.01", "--seed", "2", "--format", "json"]) == 0
    result = msgspec.json.decode(capsys.readouterr().out, type=FaultReport)
    assert len(result.outcomes) == 1
    assert result.cases >= 25
