"""The ledger of claims: each answer follows from what is measured, and changes with it.

Oracle: measurements made up so that the answer is plain, and real ones of losses with a planted bug or of the softmax
loss under the name of the other. Sees: an answer that is written down beforehand, a rule that cannot say no.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from siglip_verify.bugs import CATALOGUE
from siglip_verify.case import EXCHANGES
from siglip_verify.claims import blocks, cost, hops, softmax_beside, trained
from siglip_verify.claims.hops import Hops, Simplicity, hops_of
from siglip_verify.claims.ledger import STATEMENTS, check_claims, row_of
from siglip_verify.claims.result import Ledger
from siglip_verify.claims.softmax_beside import Felt, Holding
from siglip_verify.claims.statement import Lab, Statement
from siglip_verify.claims.trained import Pair
from siglip_verify.errors import UsageError
from siglip_verify.report import claims as claims_report
from siglip_verify.world import WorldError, Worlds

pytestmark = pytest.mark.xdist_group("claims")
HOLDS, CONDITION, NOT = "holds", "holds with a condition", "does not hold"
PAGE = Path(__file__).parents[2] / "docs" / "claims.md"


def lab(worlds: Worlds, bug: str = "", world_sizes: tuple[int, ...] = (2, 3)) -> Lab:
    return Lab(worlds, CATALOGUE[bug].spec, world_sizes) if bug else Lab(worlds, world_sizes=world_sizes)


def answer(name: str, of: Lab) -> str:
    return row_of(STATEMENTS[name], of).finding.answer


# ------------------------------------------------------------------ hops, on real ranks
@pytest.mark.parametrize(
    ("name", "world_sizes", "bug", "expected"),
    [
        ("bidir-steps", (3,), "", HOLDS),
        ("bidir-steps", (2, 3), "", CONDITION),
        ("bidir-steps", (2, 3), "bidir-no-remainder", NOT),
        ("shift-steps", (2, 3), "", HOLDS),
        ("shift-steps", (2, 3), "hops-off-by-one", NOT),
        ("shift-steps", (2, 3), "hops-off-by-one-more", NOT),
        ("reduce-one-at-a-time", (2, 3), "", HOLDS),
        ("reduce-one-at-a-time", (2, 3), "local-only", NOT),
    ],
)
def test_hops_are_counted_and_other_hops_give_other_answers(
    worlds: Worlds, name: str, world_sizes: tuple[int, ...], bug: str, expected: str
) -> None:
    found = answer(name, lab(worlds, bug, world_sizes))
    for size in world_sizes if bug else ():
        worlds.discard(size)  # a wrong loss may leave messages that nobody took
    assert found == expected


def test_every_figure_of_hops_is_what_was_counted(worlds: Worlds) -> None:
    of = lab(worlds)
    finding = row_of(STATEMENTS["shift-steps"], of).finding
    assert [figure.value for figure in finding.figures] == [1, 2]
    assert {figure.basis for figure in finding.figures} == {"counted"}
    counted = hops_of(of.steps("shift")[1])
    assert counted == Hops("shift", 3, 2, 2, frozenset(["send", "recv"]), 4, frozenset([1.0]))


def simplicity(**gather: int) -> list[Simplicity]:
    usual = {"calls": 2, "statements": 3} | gather
    return [Simplicity(each, 8, **(usual if each == "gather" else {"calls": 9, "statements": 9})) for each in EXCHANGES]


def test_the_simplest_has_fewest_calls_and_statements() -> None:
    judge = hops.judge_simplicity
    assert judge(simplicity()).answer == HOLDS
    assert judge(simplicity(statements=9)).answer == CONDITION
    assert judge(simplicity(calls=10)).answer == CONDITION
    assert judge(simplicity(calls=10, statements=10)).answer == NOT


def test_simplicity_is_counted_on_ranks_and_in_the_source(worlds: Worlds) -> None:
    measured = {each.exchange: each for each in hops.measure_simplicity(lab(worlds, world_sizes=(2,)))}
    assert {name: each.calls for name, each in measured.items()} == {"bidir": 2, "shift": 2, "reduce": 4, "gather": 2}
    assert hops.statements_of('"""Text."""\nimport a\n\ndef f():\n    """More."""\n    return 1\n') == 2


# ------------------------------------------------------------------ cost, modelled
def test_modelled_answers_are_those_of_the_simulation_with_its_figures(worlds: Worlds) -> None:
    of = lab(worlds)
    for name, claim in zip(
        ("bidir-most-efficient", "reduce-less-efficient", "gather-most-memory"), of.modelled, strict=True
    ):
        finding = row_of(STATEMENTS[name], of).finding
        assert (finding.answer, finding.because) == (claim.answer, claim.because)
        assert len(finding.figures) == sum(2 if figure.overlap else 4 for figure in claim.figures)  # bidir, shift
        turned = {HOLDS: NOT, CONDITION: HOLDS, NOT: CONDITION}[claim.answer]
        assert cost.finding_of(msgspec.structs.replace(claim, answer=turned)).answer == turned
    assert all(each.longer > -1 for each in cost.measure_shift(of))


@pytest.mark.parametrize(
    ("longer", "expected"),
    [([0.02, 0.2], HOLDS), ([0.02, 0.3], CONDITION), ([0.0, 0.2], CONDITION), ([0.0, -0.1], NOT)],
)
def test_slightly_is_a_range(longer: list[float], expected: str) -> None:
    assert cost.judge_shift([cost.Slower("here", 8, each) for each in longer]).answer == expected


# ------------------------------------------------------------------ beside the softmax
def test_pairs_are_independent_in_the_sigmoid_loss_and_not_in_the_softmax(
    worlds: Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(softmax_beside, "PAIR_WORLD_SIZES", (1, 2))
    monkeypatch.setattr(softmax_beside, "ROWS", 4)
    felt = softmax_beside.measure_pairs(lab(worlds))
    assert softmax_beside.judge_pairs(felt).answer == HOLDS
    assert {each.farthest == 0 for each in felt if each.loss.startswith("sigmoid")} == {True}
    renamed = [each._replace(loss="sigmoid") if each.loss == "softmax local" else each for each in felt]
    assert softmax_beside.judge_pairs(renamed).answer == NOT


def test_pairs_that_nobody_feels_and_no_difference_are_other_answers() -> None:
    judge = softmax_beside.judge_pairs
    assert judge([Felt("sigmoid", 1, 0.0, 0.1), Felt("softmax local", 1, 0.0, 0.1)]).answer == CONDITION
    assert judge([Felt("sigmoid", 1, 0.0, 0.0), Felt("softmax local", 1, 0.1, 0.1)]).answer == "not checkable here"
    assert judge([Felt("sigmoid", 1, 1e-17, 0.1), Felt("softmax local", 1, 0.1, 0.1)]).answer == NOT


def test_memory_is_counted_and_the_softmax_under_another_name_does_not_hold(
    worlds: Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(softmax_beside, "MEMORY_WORLD_SIZES", (2,))
    held = softmax_beside.measure_memory(lab(worlds))
    by = {each.loss: each.peak_bytes for each in held}
    logits = 256 * 512 * 4
    assert by["softmax global"] > 1.5 * by["softmax local"] > 4 * logits
    assert by["sigmoid constant"] < logits < by["sigmoid"]
    less = [each for each in held if each.loss in ("softmax local", "sigmoid constant")]
    assert softmax_beside.judge_memory(less).answer == HOLDS
    swapped = {"softmax local": "sigmoid constant", "sigmoid constant": "softmax local"}
    assert softmax_beside.judge_memory([e._replace(loss=swapped[e.loss]) for e in less]).answer == NOT


def test_memory_that_is_less_in_some_forms_alone_is_a_condition() -> None:
    held = [Holding("softmax local", 2, 100), Holding("sigmoid", 2, 110), Holding("sigmoid constant", 2, 5)]
    finding = softmax_beside.judge_memory(held)
    assert finding.answer == CONDITION
    assert finding.because.startswith("always for sigmoid constant")


# ------------------------------------------------------------------ trainings
def pair(task: str, seed: int, without: float) -> Pair:
    return Pair(task, seed, 0.9, without, 5.0, 50.0)


@pytest.mark.parametrize("judge", [trained.judge_bias, trained.judge_normalised])
def test_what_is_needed_is_worse_without_for_every_seed(judge) -> None:  # type: ignore[no-untyped-def]
    worse = [pair(task, seed, 0.8) for task in ("names", "halves") for seed in (0, 1)]
    assert judge(worse).answer == HOLDS
    assert judge([*worse[:1], pair("names", 1, 0.9), *worse[2:]]).answer == CONDITION
    assert judge([pair("names", 0, 0.95), pair("halves", 0, 0.9)]).answer == NOT


def test_trainings_leave_out_what_they_say(worlds: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained, "STEPS", 2)
    monkeypatch.setattr(trained, "SEEDS", (0,))
    of = lab(worlds)
    bias, length = trained.measure_bias(of), trained.measure_normalised(of)
    assert [each.task for each in bias] == ["names", "halves"]
    for each, other in zip(bias, length, strict=True):
        assert (each.with_it, each.first_with) == (other.with_it, other.first_with)
        assert each.first_without > 5 * each.first_with  # 128 negatives for each positive, and no bias against them
        assert other.first_without != other.first_with


# ------------------------------------------------------------------ blocks
@pytest.mark.parametrize(
    ("bug", "expected"), [("", HOLDS), ("remote-positives", NOT), ("self-negative", NOT), ("gather-local-grad", NOT)]
)
def test_blocks_are_added_up_by_hand(worlds: Worlds, monkeypatch: pytest.MonkeyPatch, bug: str, expected: str) -> None:
    monkeypatch.setattr(blocks, "WORLD_SIZES", (2,))
    monkeypatch.setattr(blocks, "EXCHANGES", ("gather",))
    assert answer("local-and-remote-blocks", lab(worlds, bug)) == expected


# ------------------------------------------------------------------ the whole
def test_every_statement_of_the_list_has_a_row_and_its_source() -> None:
    assert len(STATEMENTS) == 13
    for statement in STATEMENTS.values():
        assert statement.says.endswith(".")
        assert "open_clip" in statement.source
        assert "olds if" in statement.how


def statement_that(raises: Exception) -> Statement[None]:
    def measure(of: Lab) -> None:
        raise raises

    return Statement(id="x", says="X.", source="nobody", how="not at all", measure=measure, judge=lambda _: None)


@pytest.mark.parametrize("error", [UsageError("scikit-learn is not installed"), WorldError((), 2, reason="no ranks")])
def test_what_cannot_be_measured_is_not_checkable_here(worlds: Worlds, error: Exception) -> None:
    finding = row_of(statement_that(error), lab(worlds)).finding
    assert finding.answer == "not checkable here"
    assert "not installed" in finding.because or "no ranks" in finding.because


def test_a_fault_of_ours_is_no_answer(worlds: Worlds) -> None:
    with pytest.raises(ZeroDivisionError):
        row_of(statement_that(ZeroDivisionError()), lab(worlds))


def test_a_statement_that_is_not_there_is_named(worlds: Worlds) -> None:
    with pytest.raises(UsageError, match=r"a statement is one of bidir-steps, .*; got 'all-is-well'"):
        check_claims(worlds, ["all-is-well"])


def answers_of_the_page() -> dict[str, str]:
    text = PAGE.read_text()
    found = re.findall(r"^\*\*([a-z ]+)\*\*: .*?^- Id: `([a-z-]+)`$", text, re.M | re.S)
    return {name: said for said, name in found}


def test_the_page_has_every_statement_as_it_is_checked_today() -> None:
    text = PAGE.read_text().replace("\\", "")
    assert list(answers_of_the_page()) == list(STATEMENTS)
    for statement in STATEMENTS.values():
        for words in (statement.says, statement.how, statement.source):
            assert words in text, f"{statement.id}: make claims writes docs/claims.md again"


def test_every_figure_of_the_page_that_is_modelled_is_what_the_model_says_today() -> None:
    """Steps and memory of all exchanges at large W: nothing is measured, so the page cannot be off by noise."""
    page = {section.split("\n")[0]: section for section in PAGE.read_text().split("\n## ")}
    modelled = Lab(None)  # type: ignore[arg-type]  # there is nothing to run
    for name in ("bidir-most-efficient", "shift-slightly-slower", "reduce-less-efficient", "gather-most-memory"):
        row = row_of(STATEMENTS[name], modelled)
        section = claims_report.markdown(Ledger(rows=(row,), environment={}, elapsed_s=0)).split("\n## ")[1]
        assert page[row.says].strip() == section.rpartition("\nEnvironment")[0].strip(), f"{name}: make claims"


@pytest.mark.long
def test_the_whole_ledger_gives_the_answers_of_the_page(worlds: Worlds) -> None:
    ledger = check_claims(worlds)
    assert {row.id: row.finding.answer for row in ledger.rows} == answers_of_the_page()
    assert all(row.finding.figures for row in ledger.rows)
