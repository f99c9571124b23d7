"""What travelling gradients are added up in: the features' dtype, or a wider one in the same message.

Oracle: `siglip_verify.oracle`. Sees: rounding on the way where none was asked for, a parcel taken apart at the wrong
number, bytes that were promised not to be sent.
"""

from __future__ import annotations

import constant_jobs as jobs
import pytest
import torch
from constant_checks import CASE, EXCHANGES, judge, table
from msgspec.structs import replace

from siglip_verify import features, oracle
from siglip_verify.case import Case
from siglip_verify.loss import SigLipLoss
from siglip_verify.world import Worlds

pytestmark = pytest.mark.xdist_group("grad_dtype")

HALF = replace(CASE, dtype="bfloat16", batch=16, dim=33, scalars="float32", upstream="one")
WIDE = {"memory": "constant", "grad_dtype": torch.float32}


def error(case: Case, steps: list[jobs.Step], quantity: str) -> float:
    """Return the error of a feature gradient over all ranks, relative to its norm."""
    inputs = features.draw(case)
    reference = oracle.reference(inputs.images, inputs.texts, inputs.scale.item(), inputs.bias.item())
    wanted = torch.stack([estimate.value for estimate in getattr(reference, quantity)])
    observed = torch.stack([torch.from_numpy(getattr(step.record, quantity)) for step in steps])
    return ((observed - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_wide_gradients_are_right(worlds: Worlds, exchange: str, overlap: bool, dtype: str) -> None:
    options = {**WIDE, "grad_dtype": torch.float64 if dtype == "float32" else torch.float32, "overlap": overlap}
    for world_size in (1, 2, 3, 6):
        case = replace(HALF, exchange=exchange, world_size=world_size, dtype=dtype)
        judge(case, worlds.run(world_size, jobs.step, case, options))


def test_wide_gradients_lose_nothing_on_the_way(worlds: Worlds) -> None:
    case = replace(HALF, exchange="shift", world_size=8)
    narrow, wide = (worlds.run(8, jobs.step, case, options) for options in ({"memory": "constant"}, WIDE))
    images, rounded, kept = (
        error(case, wide, "image_grad"),
        error(case, narrow, "text_grad"),
        error(case, wide, "text_grad"),
    )
    assert kept < 1.1 * images < rounded  # images' gradients never travel


def test_narrow_gradients_in_constant_memory_are_no_worse_than_in_autograd(worlds: Worlds) -> None:
    for exchange in EXCHANGES:
        case = replace(HALF, exchange=exchange, world_size=8)
        constant, autograd = (worlds.run(8, jobs.step, case, {"memory": memory}) for memory in ("constant", "autograd"))
        for quantity in ("image_grad", "text_grad"):
            assert error(case, constant, quantity) < 1.05 * error(case, autograd, quantity)


def test_a_wide_gradient_rides_in_the_message_of_its_text(worlds: Worlds) -> None:
    case = replace(HALF, exchange="shift", world_size=4)
    for step in worlds.run(4, jobs.step, case, WIDE):
        assert table(step.events, 4, 2 * case.batch * case.dim) == [[(1, 1)], [(1, 3)], [(1, 3)], [(1, 2)]]


def test_a_gradient_narrower_than_its_text_is_refused() -> None:
    loss = SigLipLoss(memory="constant", grad_dtype=torch.bfloat16)
    image = torch.eye(3)
    with pytest.raises(ValueError, match=r"got grad_dtype=torch.bfloat16 for features of torch.float32"):
        loss(image, image, 1.0, 0.0)


@pytest.mark.parametrize(("memory", "dtype"), [("autograd", torch.float32), ("constant", torch.int32)])
def test_grad_dtype_must_be_a_float_of_a_form_that_sends_gradients_along(memory: str, dtype: torch.dtype) -> None:
    with pytest.raises(
        ValueError, match=f"grad_dtype is the float dtype .* got grad_dtype={dtype} with memory='{memory}'"
    ):
        SigLipLoss(memory=memory, grad_dtype=dtype)
