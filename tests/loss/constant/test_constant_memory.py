"""SigLipLoss with memory="constant": the numbers of one device, in the messages that its plan lists.

Oracle: `siglip_verify.oracle` with the bound of `checks.equivalence` for the numbers, `siglip_verify.plan` for the
messages. Sees: a gradient not sent home, sent to the wrong rank, added twice or lost; a share added to the wrong block;
a message too many or out of order; a factor of t, b or the upstream gradient in the wrong place; memory that grows.
"""

from __future__ import annotations

import constant_jobs as jobs
import hypothesis
import pytest
import torch
from constant_checks import CASE, EXCHANGES, judge, planned
from effort import examples
from hypothesis import strategies as st
from msgspec.structs import replace

from siglip_verify import features, oracle
from siglip_verify.case import Case
from siglip_verify.checks import conformance
from siglip_verify.loss import SigLipLoss
from siglip_verify.run.strategies import Dimensions, cases
from siglip_verify.world import Worlds

pytestmark = pytest.mark.xdist_group("constant")

CONSTANT = {"memory": "constant"}
ONE_UPSTREAM = Dimensions(upstream=("one", "scaled"))


def check_messages(case: Case, steps: list[jobs.Step]) -> None:
    events = [event for step in steps for event in step.events]
    dtypes = conformance.dtypes(case.dtype, "float64" if case.dtype == "float64" else "float32")
    assert conformance.compare(planned(case), events, dtypes=dtypes) == ()


@pytest.mark.parametrize("exchange", EXCHANGES)
@hypothesis.given(data=st.data())
@examples(35)
def test_loss_gradients_and_messages_are_those_of_oracle_and_plan(
    worlds: Worlds, exchange: str, data: st.DataObject
) -> None:
    case = data.draw(cases(exchange, range(1, 7), ONE_UPSTREAM))
    steps = worlds.run(case.world_size, jobs.step, case, CONSTANT)
    judge(case, steps)
    check_messages(case, steps)


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("world_size", range(1, 9))
def test_every_world_size_once(worlds: Worlds, exchange: str, world_size: int) -> None:
    case = replace(CASE, exchange=exchange, world_size=world_size)
    steps = worlds.run(world_size, jobs.step, case, CONSTANT)
    judge(case, steps)
    check_messages(case, steps)


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("frozen", ["image", "text"])
@pytest.mark.parametrize("scalars", ["scale", "bias", "both"])
def test_frozen_leaves_get_no_gradient_and_change_no_other(
    worlds: Worlds, exchange: str, frozen: str, scalars: str
) -> None:
    case = replace(CASE, exchange=exchange, world_size=4)
    index = {"image": 0, "text": 1}[frozen]
    still = [index] + {"scale": [2], "bias": [3], "both": [2, 3]}[scalars]
    wanted = worlds.run(4, jobs.with_frozen, case, {"memory": "autograd"}, [])
    for mine, theirs in zip(worlds.run(4, jobs.with_frozen, case, CONSTANT, still), wanted, strict=True):
        for leaf in range(4):
            if leaf in still:
                assert mine[leaf] is None
            else:
                torch.testing.assert_close(mine[leaf], theirs[leaf], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_with_frozen_texts_ranks_may_differ_in_their_upstream_gradient(worlds: Worlds, exchange: str) -> None:
    case = replace(CASE, exchange=exchange, world_size=3, frozen="text", upstream="by-rank")
    steps = worlds.run(3, jobs.step, case, {"memory": "constant", "check_upstream": True})
    judge(case, steps)
    check_messages(case, steps)


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("inference", [False, True])
def test_without_grad_only_texts_travel(worlds: Worlds, exchange: str, inference: bool) -> None:
    case = replace(CASE, exchange=exchange, world_size=4)
    wanted = worlds.run(4, jobs.step, case, {"memory": "autograd"})
    observed = worlds.run(4, jobs.without_grad, case, CONSTANT, inference)
    for (loss, requires_grad, _), reference in zip(observed, wanted, strict=True):
        assert loss == pytest.approx(reference.record.loss, rel=1e-12)
        assert not requires_grad
    events = [event for _, _, events in observed for event in events]
    assert conformance.compare(planned(case, text_grad=False), events) == ()
    assert len(events) == 4 * 2 * 3


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_two_forwards_then_two_scaled_backwards_accumulate(worlds: Worlds, exchange: str) -> None:
    case = replace(CASE, exchange=exchange, world_size=3, upstream="one")
    inputs = features.draw(case)
    reference = oracle.reference(inputs.images, inputs.texts, case.scale, case.bias)
    observed = worlds.run(3, jobs.accumulated, case, CONSTANT)
    for rank, (image, text, scale, bias) in enumerate(observed):
        torch.testing.assert_close(image, 4 * reference.image_grad[rank].value, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(text, 4 * reference.text_grad[rank].value, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(scale, 4 * reference.local_scale_grad[rank].value, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(bias, 4 * reference.local_bias_grad[rank].value, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("options", [CONSTANT, {"memory": "recompute"}], ids=["constant", "recompute"])
@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_data_parallel_training_is_that_of_the_autograd_form(
    worlds: Worlds, exchange: str, world_size: int, options: jobs.Options
) -> None:
    case = replace(CASE, exchange=exchange, world_size=world_size)
    wanted = worlds.run(world_size, jobs.data_parallel, case, {"memory": "autograd"})
    for mine, theirs in zip(worlds.run(world_size, jobs.data_parallel, case, options), wanted, strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine:
            torch.testing.assert_close(mine[name], theirs[name], rtol=1e-12, atol=1e-13, msg=name)


@pytest.mark.parametrize("world_size", [1, 3])
def test_a_second_backward_raises_and_says_so(worlds: Worlds, world_size: int) -> None:
    case = replace(CASE, exchange="shift", world_size=world_size)
    for again, twice in worlds.run(world_size, jobs.backward_twice, case, CONSTANT):
        assert "this is the second on the same loss" in again
        assert "memory='recompute' or memory='autograd'" in again
        assert "create_graph=True: use memory='autograd'" in twice


def test_gradients_too_small_for_half_precision_survive_a_loss_scale(worlds: Worlds) -> None:
    """As GradScaler has it: what is sent in forward, before the scale is known, must not be the gradient itself."""
    case = replace(CASE, exchange="bidir", world_size=2, dtype="float16", batch=64, dim=64, scale=1e-3, upstream="one")
    inputs = features.draw(case)
    reference = oracle.reference(inputs.images, inputs.texts, inputs.scale.item(), inputs.bias.item())
    for rank, (image, text, _, _) in enumerate(worlds.run(2, jobs.scaled, case, CONSTANT, 65536.0)):
        for observed, wanted in ((image, reference.image_grad[rank]), (text, reference.text_grad[rank])):
            assert wanted.value.abs().mean() < 100 * torch.finfo(torch.float16).smallest_normal * 2**-10
            error = observed.double() / 65536 - wanted.value
            assert error.norm() < 2**-9 * wanted.value.norm()


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_peak_memory_does_not_depend_on_the_world_size(worlds: Worlds, exchange: str) -> None:
    case = replace(CASE, exchange=exchange, batch=64, dim=32, dtype="float32")
    block = 4 * case.batch * case.dim

    def peaks(memory: str) -> list[int]:
        options = {"memory": memory}
        return [max(worlds.run(w, jobs.peak_bytes, replace(case, world_size=w), options)) for w in (5, 8)]

    autograd, constant = peaks("autograd"), peaks("constant")
    assert constant[1] - constant[0] < block / 4
    assert autograd[1] - autograd[0] > 3 * block  # so the measure sees what is kept


def test_reduce_and_gather_say_why_they_cannot_be_flat() -> None:
    with pytest.raises(ValueError, match=r"gather.*holds the texts of all W ranks.*use dist_impl='bidir' or 'shift'"):
        SigLipLoss(dist_impl="gather", memory="constant")
    with pytest.raises(ValueError, match=r"reduce.*second all-reduce.*use dist_impl='bidir' or 'shift'"):
        SigLipLoss(dist_impl="reduce", memory="recompute")


def test_an_unknown_memory_is_refused_with_what_there_is() -> None:
    with pytest.raises(ValueError, match="memory must be one of autograd, constant, recompute; got memory='flat'"):
        SigLipLoss(memory="flat")
