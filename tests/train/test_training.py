"""Training proved: every exchange and memory mode under DistributedDataParallel, beside one process on the whole batch.

Oracle: one process that trains with the paper's formula in three lines of torch, itself held against the float64
oracle. Sees: whatever moves a parameter by more than 1e-10 of the largest of its tensor, in any of 200 steps on any
rank: a factor, a lost or doubled block, a gradient on the wrong rank, a narrow wire.
"""

from __future__ import annotations

import sys

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify import features, oracle
from siglip_verify.case import Case
from siglip_verify.errors import UsageError
from siglip_verify.train import data, jobs
from siglip_verify.train.costs import bug_costs
from siglip_verify.train.equality import compare, prove_training
from siglip_verify.train.jobs import FORMS, Form
from siglip_verify.train.loop import Trained, Training, batches
from siglip_verify.train.result import BOUND
from siglip_verify.world import Worlds

pytestmark = pytest.mark.xdist_group("train")

WHOLE, SHORT = Training(steps=200), Training(steps=20)


# ------------------------------------------------------------------ equality
@pytest.mark.parametrize(
    ("world_size", "training", "forms"),
    [
        *((size, SHORT, FORMS) for size in (1, 2, 4)),
        (2, WHOLE, (Form("bidir"), Form("shift", "constant"))),
        *(pytest.param(size, WHOLE, FORMS, marks=pytest.mark.long) for size in (1, 2, 4)),  # `make train` trains these
    ],
    ids=lambda value: f"{value.steps} steps" if isinstance(value, Training) else None,
)
def test_every_form_trains_as_one_process_on_the_whole_batch_does(
    worlds: Worlds, training: Training, forms: tuple[Form, ...], world_size: int
) -> None:
    report = prove_training(worlds, training, [world_size], forms=forms)
    assert report.verdict == "pass"
    assert [run.form for run in report.runs] == list(forms)
    for run in report.runs:
        assert len(run.deviations) == len(run.losses) == training.steps
        assert max(run.deviations) <= BOUND
        assert run.right == (report.right,) * world_size
        np.testing.assert_allclose(run.losses, report.losses, rtol=1e-10, atol=0)
    if training is WHOLE:
        assert report.right / report.asked > 0.95  # it did learn, so that answers could differ


def test_there_is_a_form_for_every_exchange_and_memory_mode() -> None:
    assert {str(form) for form in FORMS} == {
        *("bidir", "shift", "reduce", "gather"),
        *("bidir constant", "shift constant", "bidir recompute", "shift recompute"),
    }


@pytest.mark.parametrize("bug", ["ddp-scale", "gather-local-grad", "lossy-wire", "self-negative", "bias-detached"])
def test_a_planted_bug_moves_parameters_far_beyond_the_bound(worlds: Worlds, bug: str) -> None:
    report = prove_training(worlds, Training(steps=3), [2], forms=[Form("gather", bug=bug)])
    worlds.discard(2)
    assert report.verdict == "mismatch"
    assert report.runs[0].farthest > 10 * BOUND


def test_one_processs_loss_is_the_oracles() -> None:
    inputs = features.draw(Case(world_size=1, batch=7, dim=5, dtype="float64", seed=3))
    leaves = [each.requires_grad_() for each in (inputs.images[0], inputs.texts[0], inputs.scale, inputs.bias)]
    value = jobs.whole_batch_loss(*leaves)
    value.backward()
    expected = oracle.reference([leaves[0]], [leaves[1]], leaves[2].item(), leaves[3].item())
    torch.testing.assert_close(value.detach(), expected.loss.value.squeeze(), rtol=1e-13, atol=0)
    torch.testing.assert_close(leaves[1].grad, expected.text_grad[0].value, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(leaves[3].grad, expected.bias_grad.value.squeeze(), rtol=1e-12, atol=0)


def trained(seed: int = 0, right: int = 3) -> Trained:
    rng = np.random.default_rng(seed)
    parameters = {"weight": rng.normal(size=(4, 2, 3)), "scale": rng.normal(size=(4,))}
    return Trained(losses=np.arange(4.0), parameters=parameters, right=right, asked=5)


@given(st.sampled_from(["weight", "scale"]), st.integers(0, 3), st.integers(0, 1), st.floats(1e-8, 1.0))
def test_one_parameter_of_one_rank_after_one_step_is_enough(name: str, step: int, rank: int, by: float) -> None:
    ranks = [trained(), trained()]
    values = ranks[rank].parameters[name].reshape(4, -1)  # a view
    values[step, -1] += by * np.abs(values[step]).max()
    run = compare(Form("bidir"), trained(), ranks, 0.0)
    assert run.deviations[step] == pytest.approx(by, rel=1e-6)
    assert [each for index, each in enumerate(run.deviations) if index != step] == [0.0] * 3
    assert run.farthest > BOUND


def test_what_is_not_a_number_or_answers_otherwise_is_a_mismatch(worlds: Worlds) -> None:
    report = prove_training(worlds, Training(steps=1), [1], forms=[Form("shift")])
    (run,) = report.runs
    assert report.verdict == "pass"
    for wrong in ({"deviations": (float("nan"),)}, {"right": (run.right[0] + 1,)}, {"deviations": (1.1e-10,)}):
        changed = msgspec.structs.replace(run, **wrong)
        assert msgspec.structs.replace(report, runs=(changed,)).verdict == "mismatch"
    assert msgspec.structs.replace(report, runs=()).verdict == "unknown"
    nan_first = msgspec.structs.replace(run, deviations=(float("nan"), 1.0))
    assert np.isnan(nan_first.farthest)


def test_trainings_of_other_parameters_are_not_compared() -> None:
    other = Trained(losses=np.zeros(4), parameters={}, right=0, asked=5)
    with pytest.raises(ValueError, match=r"compared by the same parameters; got \['scale', 'weight'\] and \[\]"):
        compare(Form("bidir"), trained(), [other], 0.0)


# ------------------------------------------------------------------ tasks and batches
def test_names_are_spelled_so_that_all_differ_and_answers_are_the_digits() -> None:
    task = data.load("names")
    assert len({spelled.tobytes() for spelled in task.candidates}) == 10
    assert [int(place.sum()) for place in task.candidates] == [len(name) for name in data.NAMES]
    assert (len(task.images), len(task.test_images)) == (1437, 360)
    assert set(task.answers) == set(range(10))
    assert {row.tobytes() for row in task.texts} == {row.tobytes() for row in task.candidates}


def test_halves_are_the_two_halves_of_the_same_images() -> None:
    names, halves = data.load("names"), data.load("halves")
    whole = names.test_images.reshape(-1, 8, 8)
    np.testing.assert_array_equal(halves.test_images, whole[:, :, :4].reshape(360, -1))
    np.testing.assert_array_equal(halves.candidates, whole[:, :, 4:].reshape(360, -1))
    assert halves.answers.tolist() == list(range(360))


def test_no_image_is_both_trained_on_and_asked_for() -> None:
    task = data.load("names")
    assert not {row.tobytes() for row in task.images} & {row.tobytes() for row in task.test_images}


@given(st.integers(0, 5), st.integers(1, 40), st.integers(1, 30), st.integers(0, 60))
def test_a_row_comes_once_before_any_comes_again(seed: int, global_batch: int, extra: int, steps: int) -> None:
    num_rows = global_batch + extra
    given_batches = list(batches(Training(steps=steps, global_batch=global_batch, seed=seed), num_rows))
    assert [len(rows) for rows in given_batches] == [global_batch] * steps
    a_round = num_rows // global_batch
    for first in range(0, steps, a_round):
        rows = torch.cat(given_batches[first : first + a_round])
        assert len(set(rows.tolist())) == len(rows)


@pytest.mark.parametrize(
    ("training", "world_sizes", "words"),
    [
        (Training(steps=0), [1], "at least one step; got steps=0"),
        (Training(), [3], "got W = 3: take a divisor of 128"),
    ],
)
def test_what_cannot_be_trained_is_said(worlds: Worlds, training: Training, world_sizes: list[int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        prove_training(worlds, training, world_sizes)


def test_without_scikit_learn_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data._digits.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(UsageError, match=r"scikit-learn is not installed: .* with its extra `train`"):
        data.load("names")


# ------------------------------------------------------------------ what bugs cost
def test_bugs_are_trained_beside_the_right_loss_and_one_that_stops_says_why(worlds: Worlds) -> None:
    only = ["gather-no-grad", "gather-local-grad"]
    report = bug_costs(worlds, Training(steps=12), only=only, seeds=[0, 1], world_size=2)
    right, stopped, silent = report.costs
    assert [(cost.bug, cost.exchange) for cost in report.costs] == [("", "gather"), *((bug, "gather") for bug in only)]
    assert stopped.on("names").right == (None, None)
    assert "Expected to have finished reduction" in stopped.on("halves").failure
    assert all(each is not None for cost in (right, silent) for scores in cost.scores for each in scores.right)
    assert right.on("names").final_losses != silent.on("names").final_losses
    assert report.asked == {"names": 360, "halves": 360}
    again = prove_training(worlds, Training(steps=12), [2], forms=[Form("gather")])
    assert right.on("names").right[0] == again.right, "seed 0 of the right loss is the training that is proved"


def test_a_bug_that_is_not_in_the_catalogue_is_named(worlds: Worlds) -> None:
    with pytest.raises(UsageError, match=r"ids of the catalogue: .*backward-arity.*; got 'gremlin'"):
        bug_costs(worlds, Training(), only=["gremlin"])
    with pytest.raises(UsageError, match="at least one seed; got none"):
        bug_costs(worlds, Training(), seeds=[])
