"""JUnit XML: what CI systems make of a result.

Oracle: the standard library's XML parser and junitparser's reader. Can see: an unknown or an empty result that passes,
XML that cannot be read, cells that are lost.
"""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from junitparser import JUnitXml

from siglip_verify.records import Verdict
from siglip_verify.report import junit
from siglip_verify.result import Report

from . import samples


def parsed(report: Report) -> ElementTree.Element:
    return ElementTree.fromstring(junit.render(report))


def counts(report: Report) -> tuple[int | None, int | None, int | None]:
    suites = JUnitXml.fromstring(junit.render(report))
    return suites.tests, suites.failures, suites.errors


def test_each_exchange_and_world_size_of_each_loss_is_a_test_case() -> None:
    suites = parsed(samples.passing())
    named = [suite.get("name") for suite in suites]
    assert named == ["siglip_verify.loss:SigLipLoss", "open_clip:SigLipLoss", "known bugs"]
    names = [case.get("name") for case in suites[0].iter("testcase")]
    assert names == [f"{exchange} W={size}" for exchange in samples.EXCHANGES for size in range(1, 5)]
    assert counts(samples.passing()) == (32 + 3, 0, 0), "and each planted bug and right loss"


def test_a_mismatch_is_a_failure_with_its_counterexample() -> None:
    assert counts(samples.mismatching()) == (16 + 3, 2 + 1, 0), "a planted bug was missed too"
    first, second, missed = parsed(samples.mismatching()).iter("failure")
    assert "missed in 25 cases" in missed.get("message", "")
    assert first.get("message") == "mismatch; bias gradient, 3.9e13 of its bound"
    assert first.text is not None
    assert "replay: siglip-verify replay 'bidir W=2 " in first.text
    assert second.text == second.get("message")


def test_what_came_to_no_judgement_is_an_error_and_not_a_pass() -> None:
    assert counts(samples.unjudged()) == (16, 0, 2)
    first, second = parsed(samples.unjudged()).iter("error")
    assert first.text is not None
    assert "rank 1: raised: ZeroDivisionError: division by zero" in first.text
    assert second.get("message") == "unknown; ended: 2 cases of shift came to no judgement"


def test_a_result_without_a_cell_is_an_error_and_not_a_pass() -> None:
    assert counts(samples.report()) == (1, 0, 1)
    assert counts(samples.report(samples.loss(cells=()))) == (1, 0, 1)


def test_text_from_outside_comes_back_as_it_was_shown() -> None:
    suites = parsed(samples.hostile())
    assert suites[0].get("name") == samples.HOSTILE
    failure = next(suites.iter("failure"))
    assert failure.text is not None
    assert "\\x00 \\u202e ]]> | ` * _ & \" ' \\ufffe é 数 🧪" in failure.text


def test_two_losses_of_one_name_stay_two_suites() -> None:
    suites = parsed(samples.report(samples.loss("a"), samples.loss("a")))
    assert [suite.get("name") for suite in suites] == ["a", "a (2)"]


def test_a_counterexample_beside_the_cells_is_a_failure() -> None:
    report = samples.report(samples.loss(verdict="mismatch", counterexamples=(samples.counterexample(),)))
    assert counts(report) == (17, 1, 0)
    (failure,) = parsed(report).iter("failure")
    assert failure.text is not None
    assert "replay: siglip-verify replay 'bidir W=2 " in failure.text


@pytest.mark.parametrize(("verdict", "counted"), [("mismatch", (17, 1, 0)), ("unknown", (17, 0, 1))])
def test_a_verdict_that_nothing_else_tells_of_is_told(verdict: Verdict, counted: tuple[int, int, int]) -> None:
    assert counts(samples.report(samples.loss(verdict=verdict))) == counted


@given(report=samples.reports())
@samples.ANY_RESULT
def test_any_result_can_be_read_and_nothing_passes_that_did_not(report: Report) -> None:
    suites = list(parsed(report).iter("testsuite"))
    assert len(suites) == max(1, len(report.losses)) + (report.catalogue is not None)
    for loss, suite in zip(report.losses, suites, strict=False):
        cases = {case.get("name"): {child.tag for child in case} for case in suite}
        for cell in loss.cells:
            if cell.verdict != "pass":
                assert any(problem for name, problem in cases.items() if name == f"{cell.exchange} W={cell.world_size}")
        problems = [problem for problem in cases.values() if problem & {"failure", "error"}]
        assert problems or (loss.verdict == "pass" and loss.cells and not loss.counterexamples and not loss.unknowns)
