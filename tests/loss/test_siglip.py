"""SigLipLoss in the ways in which training uses it, on real gloo ranks.

Oracle: autograd through the global loss on one device, written here in four lines. Sees: a wrong loss or gradient on
any rank and leaf, in any of those ways. Random inputs are the business of the equivalence property, not of this file.
"""

from __future__ import annotations

import warnings

import pytest
import ranks
import torch
from msgspec.structs import replace
from ranks import CASE, EXCHANGES
from torch.nn.functional import logsigmoid

from siglip_verify import features
from siglip_verify.case import Case
from siglip_verify.loss import SigLipLoss
from siglip_verify.loss.validate import Memory
from siglip_verify.world import Worlds

pytestmark = pytest.mark.xdist_group("loss")


def local_losses(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return each rank's loss [W] from all ranks' features [W, b, d]."""
    x, y = images.flatten(0, 1), texts.flatten(0, 1)
    labels = 2 * torch.eye(len(x), dtype=x.dtype) - 1
    return -logsigmoid(labels * (scale * x @ y.T + bias)).view(*images.shape[:2], -1).sum((1, 2)) / images.shape[1]


def expected(case: Case) -> list[list[torch.Tensor]]:
    """Return for each rank its loss and the gradients of images, texts, scale and bias."""
    inputs = features.draw(case)
    x, y = torch.stack(inputs.images).requires_grad_(), torch.stack(inputs.texts).requires_grad_()
    t, c = inputs.scale.requires_grad_(), inputs.bias.requires_grad_()
    losses = local_losses(x, y, t, c)
    gx, gy = torch.autograd.grad(losses.sum(), [x, y], retain_graph=True)
    own = [torch.autograd.grad(loss, [t, c], retain_graph=True) for loss in losses]
    return [[losses[r].detach(), gx[r], gy[r], *own[r]] for r in range(case.world_size)]


def assert_same(observed: list[torch.Tensor | None], wanted: list[torch.Tensor | None]) -> None:
    assert len(observed) == len(wanted)
    for mine, theirs in zip(observed, wanted, strict=True):
        if theirs is None:
            assert mine is None
        else:
            torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("world_size", range(1, 7))
def test_loss_and_every_gradient_equal_one_device(worlds: Worlds, exchange: str, world_size: int) -> None:
    case = replace(CASE, exchange=exchange, world_size=world_size)
    for observed, wanted in zip(worlds.run(world_size, ranks.step, case), expected(case), strict=True):
        assert_same(observed, wanted)


@pytest.mark.parametrize(("memory", "hops"), [("autograd", 4), ("constant", 3)])
@pytest.mark.parametrize("world_size", [4])
def test_hops_that_are_posted_in_batches_as_on_nccl_bring_the_same(
    worlds: Worlds, memory: Memory, hops: int, world_size: int
) -> None:
    """On gloo our loss does without, as torch would take them apart again: what is posted is the same."""
    case = replace(CASE, exchange="bidir", world_size=world_size)
    seen = worlds.run(world_size, ranks.step_in_batches, case, memory)
    for (observed, batches), wanted in zip(seen, expected(case), strict=True):
        assert_same(observed, wanted)
        assert batches == hops


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("tower", [0, 1])
def test_a_frozen_tower_gets_no_gradient_and_changes_no_other(worlds: Worlds, exchange: str, tower: int) -> None:
    case = replace(CASE, exchange=exchange, world_size=4)
    for observed, wanted in zip(worlds.run(4, ranks.frozen, case, tower), expected(case), strict=True):
        assert_same(observed, [value if index != 1 + tower else None for index, value in enumerate(wanted)])


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_no_grad_gives_the_same_loss_and_no_graph(worlds: Worlds, exchange: str) -> None:
    case = replace(CASE, exchange=exchange, world_size=3)
    for (loss, requires_grad), wanted in zip(worlds.run(3, ranks.without_grad, case), expected(case), strict=True):
        assert loss == pytest.approx(wanted[0].item(), rel=1e-12)
        assert not requires_grad


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_two_forwards_then_two_scaled_backwards_accumulate(worlds: Worlds, exchange: str) -> None:
    case = replace(CASE, exchange=exchange, world_size=3)
    for observed, wanted in zip(worlds.run(3, ranks.accumulated, case), expected(case), strict=True):
        assert_same(observed, [4 * grad for grad in wanted[1:]])


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("world_size", [4, 6])
def test_a_subgroup_is_a_world_of_its_own(worlds: Worlds, exchange: str, world_size: int) -> None:
    case = replace(CASE, exchange=exchange, world_size=world_size // 2)
    wanted = expected(case)
    for rank, observed in worlds.run(world_size, ranks.in_halves, case):
        assert_same(observed, wanted[rank])


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_world_size_one_inside_a_larger_group_sends_nothing(worlds: Worlds, exchange: str) -> None:
    case = replace(CASE, exchange=exchange, world_size=1)
    observed, *rest = worlds.run(3, ranks.alone_in_a_group, case)
    assert_same(observed, expected(case)[0])
    assert rest == [[], []]


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_data_parallel_training_gets_the_gradients_of_the_global_loss(
    worlds: Worlds, exchange: str, world_size: int
) -> None:
    case = replace(CASE, exchange=exchange, world_size=world_size)
    inputs = features.draw(case)
    towers = ranks.Towers(case.dim)
    x, y, t, c = towers(torch.stack(inputs.images), torch.stack(inputs.texts))
    local_losses(x, y, t, c).mean().backward()
    for observed in worlds.run(world_size, ranks.data_parallel, case):
        for name, parameter in towers.named_parameters():
            torch.testing.assert_close(observed[name], parameter.grad, rtol=1e-12, atol=1e-13, msg=name)


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("chunk_size", [1, 2, 3, 99])
def test_chunks_change_nothing(worlds: Worlds, exchange: str, chunk_size: int) -> None:
    case = replace(CASE, exchange=exchange, world_size=2, chunk_size=chunk_size)
    for observed, wanted in zip(worlds.run(2, ranks.step, case), expected(case), strict=True):
        assert_same(observed, wanted)


def test_cached_labels_are_reused_and_never_stale(worlds: Worlds) -> None:
    for same, kept_for_two_dtypes, shapes in worlds.run(2, ranks.repeated_labels, replace(CASE, world_size=2)):
        assert same
        assert kept_for_two_dtypes == 2
        assert shapes == [(2, 2)]


def test_labels_cached_in_inference_mode_can_be_trained_with() -> None:
    loss = SigLipLoss(cache_labels=True)
    image, text, scale, bias = ranks.leaves(replace(CASE, world_size=1), 0)
    with torch.inference_mode():
        loss(image, text, scale, bias)
    loss(image, text, scale, bias).backward()
    assert image.grad is not None


def test_chunks_bound_the_logits_held_at_once() -> None:
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.numel())
            return out

    b, d, chunk = 64, 2, 4
    case = Case(world_size=1, batch=b, dim=d)
    for chunk_size, bound in ((0, b * b), (chunk, chunk * b)):
        largest = 0
        with Watch():
            SigLipLoss(chunk_size=chunk_size)(*ranks.leaves(case, 0)).backward()
        assert largest == bound


@pytest.mark.parametrize("scale_and_bias", [(120.0, -60.0), (1e4, 0.0), (-1e4, 1e4)])
def test_saturated_logits_give_finite_loss_and_gradients(scale_and_bias: tuple[float, float]) -> None:
    image, text, _, _ = ranks.leaves(replace(CASE, world_size=1), 0)
    scale, bias = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in scale_and_bias)
    loss = SigLipLoss()(image, text, scale, bias)
    loss.backward()
    assert all(torch.isfinite(value).all() for value in (loss, image.grad, text.grad, scale.grad, bias.grad))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scalar", [torch.float32, torch.bfloat16, torch.float64, float])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_scale_and_bias_may_be_of_any_float_dtype_a_number_or_of_one_element(
    dtype: torch.dtype, scalar: torch.dtype | type, shape: tuple[int, ...]
) -> None:
    image, text, scale, bias = ranks.leaves(replace(CASE, world_size=1), 0)
    wanted = SigLipLoss()(image.to(dtype), text.to(dtype), scale, bias)
    given = [
        value.item() if scalar is float else value.detach().to(scalar).reshape(shape).requires_grad_()
        for value in (scale, bias)
    ]
    loss = SigLipLoss()(image.to(dtype), text.to(dtype), *given)
    loss.backward()
    assert loss.shape == ()
    assert loss.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(loss, wanted, rtol=2e-2, atol=1e-2)
    assert scalar is float or given[0].grad.shape == shape


def test_output_dict_holds_the_same_loss() -> None:
    values = ranks.leaves(replace(CASE, world_size=1), 0)
    loss = SigLipLoss()
    assert loss(*values, output_dict=True)["contrastive_loss"].item() == loss(*values).item()


def test_ground_truth_and_logits_are_those_of_the_paper() -> None:
    loss = SigLipLoss()
    labels = loss.get_ground_truth("cpu", torch.float64, 3)
    assert labels.tolist() == [[1, -1, -1], [-1, 1, -1], [-1, -1, 1]]
    assert loss.get_ground_truth("cpu", torch.float32, 2, negative_only=True).tolist() == [[-1, -1], [-1, -1]]
    image, text, scale, bias = ranks.leaves(replace(CASE, world_size=1), 0)
    torch.testing.assert_close(loss.get_logits(image, text, scale, bias), scale * image @ text.T + bias)
    torch.testing.assert_close(loss.get_logits(image, text, scale), scale * image @ text.T)


def test_the_loss_has_the_attributes_of_open_clip() -> None:
    loss = SigLipLoss(True, 1, 4, "shift")
    assert (loss.cache_labels, loss.rank, loss.world_size, loss.dist_impl) == (True, 1, 4, "shift")
    assert (loss.prev_num_logits, loss.labels) == (0, {})
    assert SigLipLoss().dist_impl == "bidir"
    assert list(loss.state_dict()) == []


def all_exchanges_without_a_warning(case: Case) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for exchange in EXCHANGES:
            ranks.step(replace(case, exchange=exchange))


def test_no_exchange_gives_a_warning(worlds: Worlds) -> None:
    worlds.run(3, all_exchanges_without_a_warning, replace(CASE, world_size=3))
