"""What travelling gradients are added up in: float32 or wider, or half precision where it is asked for.

Oracle: `siglip_verify.oracle`. Sees: rounding and overflow on the way where they were not asked for, a parcel taken
apart at the wrong number, bytes that were promised not to be sent.
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
FORMS = ("constant", "recompute")


def narrow(memory: str, dtype: str = HALF.dtype) -> jobs.Options:
    """Ask for gradients that travel in the features' dtype."""
    return {"memory": memory, "grad_dtype": getattr(torch, dtype)}


def error(case: Case, steps: list[jobs.Step], quantity: str) -> float:
    """Return the error of a feature gradient over all ranks, relative to its norm."""
    inputs = features.draw(case)
    reference = oracle.reference(inputs.images, inputs.texts, inputs.scale.item(), inputs.bias.item())
    wanted = torch.stack([estimate.value for estimate in getattr(reference, quantity)])
    observed = torch.stack([torch.from_numpy(getattr(step.record, quantity)) for step in steps])
    return ((observed - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize(
    ("dtype", "grad_dtype"),
    [("bfloat16", None), ("float16", None), ("bfloat16", "bfloat16"), ("float16", "float16"), ("float32", "float64")],
)
def test_gradients_are_right_in_whatever_dtype_they_travel(
    worlds: Worlds, exchange: str, overlap: bool, dtype: str, grad_dtype: str | None
) -> None:
    asked = {} if grad_dtype is None else {"grad_dtype": getattr(torch, grad_dtype)}
    for world_size in (1, 2, 3, 6):
        case = replace(HALF, exchange=exchange, world_size=world_size, dtype=dtype)
        judge(case, worlds.run(world_size, jobs.step, case, {"memory": "constant", "overlap": overlap, **asked}))


@pytest.mark.parametrize("memory", FORMS)
def test_gradients_lose_nothing_on_the_way_unless_it_is_asked_for(worlds: Worlds, memory: str) -> None:
    case = replace(HALF, exchange="shift", world_size=8)
    usual, asked = (worlds.run(8, jobs.step, case, options) for options in ({"memory": memory}, narrow(memory)))
    never_travel = error(case, usual, "image_grad")
    assert error(case, usual, "text_grad") < 1.1 * never_travel < error(case, asked, "text_grad")


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_narrow_gradients_are_no_worse_than_those_of_autograd(worlds: Worlds, exchange: str) -> None:
    case = replace(HALF, exchange=exchange, world_size=8)
    asked, autograd = (worlds.run(8, jobs.step, case, options) for options in (narrow("constant"), {}))
    for quantity in ("image_grad", "text_grad"):
        assert error(case, asked, quantity) < 1.05 * error(case, autograd, quantity)


@pytest.mark.parametrize(("options", "gradient_bytes"), [({}, 4), ({"grad_dtype": torch.bfloat16}, 2)], ids=str)
def test_a_gradient_rides_in_the_message_of_its_text(
    worlds: Worlds, options: jobs.Options, gradient_bytes: int
) -> None:
    case, g = replace(HALF, exchange="shift", world_size=4), gradient_bytes
    for step in worlds.run(4, jobs.step, case, {"memory": "constant", **options}):
        assert table(step.events, 4, case.batch * case.dim) == [[(1, 2)], [(1, g + 2)], [(1, g + 2)], [(1, g)]]
        assert {event.dtype for event in step.events if event.hop == 3} == {"float32" if g == 4 else "bfloat16"}


# ------------------------------------------------------------------ sums that half precision does not hold
def large_sums(case: Case, options: jobs.Options) -> list[torch.Tensor]:
    """Return the text gradients of texts that all see 16 images of 8000: their sum over ranks is past float16's end.

    Divided by b, as autograd has it on its way, they are not: t / b is an eighth.
    """
    image, text = torch.full((case.batch, 1), 8000.0), torch.full((case.batch, 1), 2.0**-12)
    values = [value.to(torch.float16).requires_grad_() for value in (image, text)]
    jobs.build(case, options)(*values, torch.tensor(0.5), torch.tensor(4.0)).backward()
    return [values[0].detach(), values[1].detach(), values[1].grad]


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("options", [{}, {"memory": "constant"}, {"memory": "recompute"}], ids=str)
def test_sums_over_all_rows_that_float16_would_not_hold_are_right(
    worlds: Worlds, exchange: str, options: jobs.Options
) -> None:
    case = replace(CASE, exchange=exchange, world_size=4, batch=4)
    images, texts, grads = zip(*worlds.run(4, large_sums, case, options), strict=True)
    reference = oracle.reference(images, texts, 0.5, 4.0)
    for observed, wanted in zip(grads, reference.text_grad, strict=True):
        torch.testing.assert_close(observed.double(), wanted.value, rtol=2e-3, atol=0)


def test_they_overflow_where_half_precision_was_asked_for(worlds: Worlds) -> None:
    """The inputs above are past what float16 holds: without float32 the test above would fail."""
    case = replace(CASE, exchange="shift", world_size=4, batch=4)
    grads = [found[2] for found in worlds.run(4, large_sums, case, narrow("constant", "float16"))]
    assert torch.stack(grads).isinf().any()


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
