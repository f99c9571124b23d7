"""Losses as users write them: files beside each other, constructors that hand on, calls that leave something behind.

Oracle: each file is right or wrong by what it multiplies our loss with, or by what it does beside it. Sees: a loss that
is judged with another's modules, one that does not get its rank, one whose second step is wrong.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from siglip_verify.adapt import LossSpec, LossSpecError
from siglip_verify.case import EXCHANGES, Case, Exchange
from siglip_verify.records import CaseResult
from siglip_verify.result import Report
from siglip_verify.run.judge import CaseJudge
from siglip_verify.run.limits import load_traits
from siglip_verify.run.whole import check
from siglip_verify.world import Worlds

pytestmark = pytest.mark.xdist_group("check")

WEIGHED = """
from siglip_verify.loss import SigLipLoss
{above}

class Loss(SigLipLoss):
    def forward(self, *args):
        {inside}
        return FACTOR * super().forward(*args)
"""

OVERWRITING = """
from siglip_verify.loss import SigLipLoss

class Loss(SigLipLoss):
    def forward(self, image, text, scale, bias):
        value = super().forward(image.clone(), text, scale, bias)
        if self.rank == 1:
            image.data.fill_(7.0)  # which no number of this step shows
        return value
"""
KEEPING = """
from siglip_verify.loss import SigLipLoss

class Loss(SigLipLoss):
    kept = None

    def forward(self, image, text, scale, bias):
        self.kept = text.detach() if self.kept is None else self.kept
        return super().forward(image, text - text.detach() + self.kept, scale, bias)
"""
UNUSABLE_LATER = """
from siglip_verify.loss import SigLipLoss

class Loss(SigLipLoss):
    def forward(self, *args):
        value = super().forward(*args)
        return value * 2 if self.world_size < 3 else value.expand(2)
"""
IN_FLOAT32 = """
from siglip_verify.loss import SigLipLoss

class Loss(SigLipLoss):
    def forward(self, *args):
        return {factor} * super().forward(*(each.float() for each in args))
"""
HANDING_ON = """
from siglip_verify.loss import SigLipLoss

class Loss(SigLipLoss):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
"""


def loss_file(folder: Path, text: str, **modules: str) -> str:
    """Write a loss file and its neighbours, and return its target."""
    folder.mkdir(exist_ok=True)
    for name, source in {"loss": text, **modules}.items():
        (folder / f"{name}.py").write_text(source)
    return f"{folder / 'loss.py'}:Loss"


def checked(worlds: Worlds, *targets: str, world_sizes: str = "1-2", examples: int = 2) -> Report:
    return check(targets, exchanges=["bidir"], world_sizes=world_sizes, examples=examples, seed=1, worlds=worlds)


@pytest.mark.parametrize("place", ["above", "inside"])
def test_each_file_has_the_neighbours_that_lie_beside_it(worlds: Worlds, tmp_path: Path, place: str) -> None:
    text = WEIGHED.format(**{"above": "", "inside": "pass", place: "from helper import FACTOR"})
    right = loss_file(tmp_path / "right", text, helper="FACTOR = 1.0")
    wrong = loss_file(tmp_path / "wrong", text, helper="FACTOR = 2.0")
    verdicts = [loss.verdict for loss in checked(worlds, right, wrong, right).losses]
    assert verdicts == ["pass", "mismatch", "pass"]


@pytest.mark.parametrize(("factor", "verdict"), [(1, "pass"), (1.5, "mismatch")])
def test_a_loss_of_float32_alone_is_judged_in_the_dtypes_that_it_is_made_for(
    worlds: Worlds, tmp_path: Path, factor: float, verdict: str
) -> None:
    target = loss_file(tmp_path, IN_FLOAT32.format(factor=factor))
    assert checked(worlds, target).verdict == "mismatch", "float64 cases show what a cast loses"
    spec = LossSpec(target=target, dtypes=("bfloat16", "float32"))
    report = check(spec, exchanges=["gather"], world_sizes="1-2", examples=30, seed=1, worlds=worlds)
    (loss,) = report.losses
    assert report.verdict == verdict
    assert {dtype for cell in loss.cells for dtype in cell.by_dtype} <= {"float32", "bfloat16"}
    assert "features of other dtypes" in {left.what for left in loss.left_out}
    for found in report.counterexamples:
        assert found.diagnosis is not None
        assert "1.5" in found.diagnosis.sentence
        assert "--dtypes bfloat16,float32" in found.replay


def test_a_constructor_that_hands_on_what_it_is_given_gets_rank_and_exchange(worlds: Worlds, tmp_path: Path) -> None:
    (loss,) = checked(worlds, loss_file(tmp_path, HANDING_ON), world_sizes="2").losses
    assert loss.verdict == "pass"
    assert "exchanges" not in {left.what for left in loss.left_out}


def test_a_loss_that_overwrites_its_callers_features_is_a_mismatch_whatever_its_numbers(
    worlds: Worlds, tmp_path: Path
) -> None:
    report = checked(worlds, loss_file(tmp_path, OVERWRITING), world_sizes="2")
    (found,) = report.counterexamples
    (finding,) = found.result.findings
    assert report.verdict == "mismatch"
    assert (finding.name, finding.rank) == ("input-changed", 1)
    assert found.diagnosis is not None
    assert found.diagnosis.sentence.endswith(
        "the loss overwrites what its caller handed it (rank 1: after the step the images held other numbers)"
    )


def test_a_loss_that_goes_on_with_what_its_first_call_left_is_a_mismatch(worlds: Worlds, tmp_path: Path) -> None:
    report = checked(worlds, loss_file(tmp_path, KEEPING), world_sizes="2", examples=12)
    (found,) = report.counterexamples
    assert found.result.case.call == "second"
    assert "call=second" in found.replay
    assert found.diagnosis is not None
    assert "with call = second" in found.diagnosis.sentence


def test_a_mismatch_is_not_lost_when_the_loss_cannot_be_used_later(worlds: Worlds, tmp_path: Path) -> None:
    wrong = loss_file(tmp_path / "wrong", UNUSABLE_LATER)
    unloadable = loss_file(tmp_path / "unloadable", "import no_such_module_anywhere")
    report = checked(worlds, wrong, unloadable, world_sizes="2-3", examples=4)
    first, second = report.losses
    assert (report.verdict, first.verdict, second.verdict) == ("mismatch", "mismatch", "unknown")
    assert len(report.counterexamples) == 1
    assert "must return one float number" in first.cells[1].note
    assert "no_such_module_anywhere" in second.left_out[0].why
    with pytest.raises(LossSpecError, match="no_such_module_anywhere"):
        checked(worlds, unloadable)


@pytest.mark.parametrize(
    ("source", "declared", "words"),
    [
        ("def Loss(image, text, scale, bias): ...", {"bias_parameter": "c"}, "Loss has no parameters"),
        (
            "def Loss(image, text): ...",
            {},
            r"Loss is called with \(images, texts, scale, bias\).*takes \(image, text\)",
        ),
    ],
    ids=["a parameter that is not there", "another signature"],
)
def test_a_loss_that_does_not_fit_its_declaration_is_no_verdict(
    worlds: Worlds, tmp_path: Path, source: str, declared: dict[str, str], words: str
) -> None:
    spec = LossSpec(target=loss_file(tmp_path, source), **declared)
    with pytest.raises(LossSpecError, match=words):
        check(spec, exchanges=["bidir"], world_sizes="2-3", examples=1, seed=1, worlds=worlds)


def test_threads_that_share_a_pool_judge_their_own_steps(worlds: Worlds) -> None:
    spec, wrong = LossSpec(), list[CaseResult]()
    traits = load_traits(worlds, spec)

    def judge_some(exchange: Exchange) -> None:
        judge = CaseJudge(worlds, spec, traits)
        results = [judge(Case(exchange=exchange, world_size=2, batch=3, dim=4, seed=seed)) for seed in range(60)]
        wrong.extend(result for result in results if result.verdict != "pass")

    threads = [threading.Thread(target=judge_some, args=(exchange,)) for exchange in EXCHANGES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
