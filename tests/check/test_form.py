"""From a case and a form of our loss to the plan of that step.

Oracle: the plan's own arguments, spelled out here. Sees: an argument of the loss, or a property of the case, that does
not reach the plan. Not: whether the loss posts that plan (`tests/run`).
"""

from __future__ import annotations

import msgspec
import pytest

from siglip_verify.case import Case
from siglip_verify.checks.form import Form, planned_step
from siglip_verify.plan import plan

CASE = Case(exchange="shift", world_size=3, batch=2, dim=4, dtype="bfloat16")


def test_a_form_is_our_loss_as_it_is_made_without_arguments() -> None:
    assert planned_step(CASE, Form()) == plan("shift", 3, 2, 4, 2)


@pytest.mark.parametrize(
    ("form", "options"),
    [
        (Form(memory="constant"), {"memory": "constant", "grad_itemsize": 4}),
        (Form(memory="recompute"), {"memory": "recompute", "grad_itemsize": 4}),
        (Form(overlap=True), {"overlap": True}),
        (Form(memory="constant", grad_dtype="bfloat16"), {"memory": "constant", "grad_itemsize": 2}),
        (Form(ragged=True), {"agrees": True}),
        (Form(check_shapes=True), {"agrees": True}),
        (
            Form(memory="constant", check_upstream=True),
            {"memory": "constant", "grad_itemsize": 4, "compares": True},
        ),
        (Form(gather_backward="reduce_scatter"), {"gather_backward": "reduce_scatter"}),
    ],
    ids=str,
)
def test_every_argument_reaches_the_plan(form: Form, options: dict[str, object]) -> None:
    assert planned_step(CASE, form) == plan("shift", 3, 2, 4, 2, **options)  # type: ignore[arg-type]


def test_what_is_frozen_needs_no_gradient() -> None:
    image, text = (planned_step(msgspec.structs.replace(CASE, frozen=leaf), Form()) for leaf in ("image", "text"))
    assert (image.image_grad, image.text_grad) == (False, True)
    assert (text.image_grad, text.text_grad) == (True, False)


@pytest.mark.parametrize(
    ("grad_dtype", "taken"),
    [
        (None, {"float64", "float32", "bfloat16", "float16"}),
        ("float64", {"float64", "float32", "bfloat16", "float16"}),
        ("float32", {"float32", "bfloat16", "float16"}),
        ("bfloat16", {"bfloat16"}),
        ("float16", {"float16"}),
    ],
)
def test_gradients_travel_as_wide_as_the_features_or_wider(grad_dtype: str | None, taken: set[str]) -> None:
    """Of two dtypes of one size neither holds the other."""
    form = Form(memory="constant", grad_dtype=grad_dtype)  # type: ignore[arg-type]
    assert {dtype for dtype in ("float64", "float32", "bfloat16", "float16") if form.takes(dtype)} == taken


@pytest.mark.parametrize(
    ("form", "dtypes"),
    [
        (Form(), ["float64", "float32", "bfloat16", "float16"]),
        (Form(memory="constant"), ["float64", "float32", "float32", "float32"]),
        (Form(memory="recompute"), ["float64", "float32", "float32", "float32"]),
        (Form(memory="constant", grad_dtype="float64"), ["float64"] * 4),
    ],
    ids=str,
)
def test_gradients_that_travel_along_are_of_float32_or_wider_and_autograds_of_the_features(
    form: Form, dtypes: list[str]
) -> None:
    assert [form.gradient_dtype(each) for each in ("float64", "float32", "bfloat16", "float16")] == dtypes
    assert Form(memory="constant", grad_dtype="bfloat16").gradient_dtype("bfloat16") == "bfloat16"
