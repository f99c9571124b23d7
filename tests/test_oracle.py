"""The oracle's own oracles: autograd and gradcheck on a naive global loss, 50-digit arithmetic, plain Python loops.

They see a wrong formula, a wrong factor (W, b, upstream, t), a positive in the wrong place, a row of a ragged batch
given to the wrong rank, cancellation or overflow at extreme logits, and a magnitude that forgets a term.
"""

from __future__ import annotations

import ast
import math
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mpmath
import pytest
import torch
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from siglip_verify import oracle
from siglip_verify.oracle import Estimate, Reference, reference

EPS = torch.finfo(torch.float64).eps
REGIMES = [(3.7, -0.6), (10.0, -10.0), (120.0, -60.0), (0.0, 0.0), (0.0, 2.0), (-2.0, 1.0), (1e4, 0.0), (-1e4, 0.0)]

scales = st.sampled_from([3.7, 10.0, 120.0, 0.0, -2.0])
biases = st.sampled_from([-0.6, -10.0, -60.0, 0.0, 1.0])


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draw(sizes: Sequence[int], dim: int, seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """Images and texts of each rank, unit rows, images turned towards their texts."""
    generator = torch.Generator().manual_seed(seed)
    texts = [torch.randn(rows, dim, generator=generator, dtype=torch.float64) for rows in sizes]
    images = [text + torch.randn(text.shape, generator=generator, dtype=torch.float64) for text in texts]
    unit = torch.nn.functional.normalize
    return [unit(image) for image in images], [unit(text) for text in texts]


def naive_local_losses(
    images: list[Tensor], texts: list[Tensor], t: Tensor, c: Tensor, divisors: list[float]
) -> Tensor:
    """Equation 1 over the whole matrix at once: -log sigmoid of label times logit."""
    logits = t * torch.cat(images) @ torch.cat(texts).T + c
    labels = 2 * torch.eye(len(logits), dtype=torch.float64) - 1
    terms = -torch.nn.functional.logsigmoid(labels * logits)
    sums = [block.sum() for block in terms.split([len(image) for image in images])]
    return torch.stack([total / divisor for total, divisor in zip(sums, divisors, strict=True)])


def assert_near(estimate: Estimate, expected: Tensor, what: str, roundings: float = 16) -> None:
    """Float64 on both sides: at most a few roundings of the magnitude apart."""
    assert estimate.value.shape == estimate.magnitude.shape == estimate.underflow.shape == expected.shape, what
    error = (estimate.value - expected).abs()
    worst = float((error - roundings * EPS * estimate.magnitude).max()) if expected.numel() else 0.0
    assert worst <= 1e-300, f"{what}: expected {expected}, got {estimate.value}, {worst} beyond {roundings} roundings"


def assert_all_near(ref: Reference, images: Any, texts: Any, t: Any, c: Any, local: Any, upstream: Any) -> None:
    total = sum((g * loss for g, loss in zip(upstream, local, strict=True)), torch.zeros((), dtype=torch.float64))
    grads = torch.autograd.grad(total, [*images, *texts], retain_graph=True)
    for rank in range(len(images)):
        own = torch.autograd.grad(upstream[rank] * local[rank], [t, c], retain_graph=True)
        assert_near(ref.local_loss[rank], local[rank].detach(), f"local loss of rank {rank}")
        assert_near(ref.image_grad[rank], grads[rank], f"image gradient of rank {rank}")
        assert_near(ref.text_grad[rank], grads[len(images) + rank], f"text gradient of rank {rank}")
        assert_near(ref.local_scale_grad[rank], own[0], f"scale gradient of rank {rank}")
        assert_near(ref.local_bias_grad[rank], own[1], f"bias gradient of rank {rank}")
    parts = len(images) if ref.reduction == "mean" else 1
    combined = torch.autograd.grad(total / parts, [t, c])
    assert_near(ref.loss, local.detach().sum() / parts, "loss")
    assert_near(ref.scale_grad, combined[0], "scale gradient")
    assert_near(ref.bias_grad, combined[1], "bias gradient")


@examples(150)
@given(
    sizes=st.lists(st.integers(0, 5), min_size=1, max_size=5).filter(any),
    dim=st.integers(1, 9),
    t=scales,
    c=biases,
    reduction=st.sampled_from(["mean", "sum"]),
    data=st.data(),
)
def test_every_quantity_equals_autograd_on_the_global_loss(
    sizes: Any, dim: Any, t: Any, c: Any, reduction: Any, data: Any
):
    per_rank = st.lists(st.floats(0.1, 9), min_size=len(sizes), max_size=len(sizes))
    given_divisors, given_upstream = data.draw(st.none() | per_rank), data.draw(st.none() | per_rank)
    images, texts = draw(sizes, dim, data.draw(st.integers(0, 1 << 30)))
    ref = reference(images, texts, t, c, normalizers=given_divisors, upstream=given_upstream, reduction=reduction)

    divisors = given_divisors or [sum(sizes) / (len(sizes) if reduction == "mean" else 1)] * len(sizes)
    leaves = [block.requires_grad_() for block in (*images, *texts)]
    scalars = [torch.tensor(number, dtype=torch.float64, requires_grad=True) for number in (t, c)]
    local = naive_local_losses(leaves[: len(sizes)], leaves[len(sizes) :], *scalars, divisors)
    assert_all_near(ref, images, texts, *scalars, local, given_upstream or [1.0] * len(sizes))


@pytest.mark.parametrize("sizes", [(3,), (2, 2), (1, 4, 2)])
def test_the_default_combination_is_the_mean_over_all_images(sizes: tuple[int, ...]):
    images, texts = draw(sizes, 4)
    one_device = reference([torch.cat(images)], [torch.cat(texts)], 3.7, -0.6)
    for reduction in ("mean", "sum"):
        ref = reference(images, texts, 3.7, -0.6, reduction=reduction)
        for name in ("loss", "scale_grad", "bias_grad"):
            assert_near(getattr(ref, name), getattr(one_device, name).value, f"{name} of {reduction}")
    mean_of_ranks = reference(images, texts, 3.7, -0.6)
    assert_near(one_device.image_grad[0], torch.cat([g.value for g in mean_of_ranks.image_grad]) / len(sizes), "images")
    assert_near(one_device.text_grad[0], torch.cat([g.value for g in mean_of_ranks.text_grad]) / len(sizes), "texts")


class OracleLoss(torch.autograd.Function):
    """The oracle as a function with a backward, so that gradcheck can difference its loss and compare its gradients."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, text: Tensor, t: Tensor, c: Tensor, sizes: list[int]) -> Tensor:
        ref = reference(image.split(sizes), text.split(sizes), t.item(), c.item(), reduction="sum")
        ctx.grads = [
            torch.cat([grad.value for grad in ref.image_grad]),
            torch.cat([grad.value for grad in ref.text_grad]),
            ref.scale_grad.value,
            ref.bias_grad.value,
        ]
        return ref.loss.value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return *(grad * part for part in ctx.grads), None


@pytest.mark.parametrize(("t", "c"), [(3.7, -0.6), (10.0, -10.0), (0.0, 0.0), (-2.0, 1.0)])
def test_gradients_are_the_differences_of_the_loss(t: float, c: float):
    images, texts = draw([2, 0, 3], 3)
    leaves = [torch.cat(images), torch.cat(texts), torch.tensor(t).double(), torch.tensor(c).double()]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    assert torch.autograd.gradcheck(lambda *tensors: OracleLoss.apply(*tensors, [2, 0, 3]), leaves)


def exact(images: list[Tensor], texts: list[Tensor], t: float, c: float) -> dict[str, Any]:
    """Every sum of equation 1 and its gradients in 50 digits, equal batches, upstream 1."""
    x = [[mpmath.mpf(v) for v in row] for block in images for row in block.tolist()]
    y = [[mpmath.mpf(v) for v in row] for block in texts for row in block.tolist()]
    b, n, d = len(images[0]), len(x), len(x[0])
    t, c = mpmath.mpf(t), mpmath.mpf(c)
    dot = [[mpmath.fdot(x[i], y[j]) for j in range(n)] for i in range(n)]
    sign = [[1 if i == j else -1 for j in range(n)] for i in range(n)]
    z = [[sign[i][j] * (t * dot[i][j] + c) for j in range(n)] for i in range(n)]
    p = [[-sign[i][j] / (1 + mpmath.exp(z[i][j])) / b for j in range(n)] for i in range(n)]
    return {
        "loss": sum(mpmath.log1p(mpmath.exp(-v)) for row in z for v in row) / n,
        "scale_grad": mpmath.fsum(p[i][j] * dot[i][j] for i in range(n) for j in range(n)) * b / n,
        "bias_grad": mpmath.fsum(v for row in p for v in row) * b / n,
        "image_grad": [[t * mpmath.fsum(p[i][j] * y[j][k] for j in range(n)) for k in range(d)] for i in range(n)],
        "text_grad": [[t * mpmath.fsum(p[i][j] * x[i][k] for i in range(n)) for k in range(d)] for j in range(n)],
    }


@pytest.mark.parametrize(("t", "c"), REGIMES)
@pytest.mark.parametrize("kind", ["aligned", "antipodal", "identical"])
def test_saturated_or_not_the_values_hold_against_50_digits(t: float, c: float, kind: str):
    images, texts = draw([2, 2], 3, seed=7)
    if kind == "identical":
        images = texts = [images[0][:1].expand(2, 3).contiguous()] * 2
    elif kind == "antipodal":
        texts = [-image for image in images]
    ref = reference(images, texts, t, c)
    with mpmath.workdps(50):
        want = exact(images, texts, t, c)
    for name, got in {
        "loss": ref.loss,
        "scale_grad": ref.scale_grad,
        "bias_grad": ref.bias_grad,
        "image_grad": joined(ref.image_grad),
        "text_grad": joined(ref.text_grad),
    }.items():
        assert_near(got, torch.tensor(floats(want[name]), dtype=torch.float64), name, roundings=6)


def floats(number: Any) -> Any:
    return [floats(part) for part in number] if isinstance(number, list) else float(number)


def joined(blocks: Sequence[Estimate]) -> Estimate:
    return Estimate(*(torch.cat([getattr(b, name) for b in blocks]) for name in ("value", "magnitude", "underflow")))


def test_where_one_of_two_terms_is_saturated_the_other_keeps_its_digits():
    # z = 60 for the positive and -180 for the negative; in float64 1 - sigmoid(60) is 0.
    image, text = [torch.tensor([[1.0]]), torch.tensor([[1.0]])], [torch.tensor([[1.0]]), torch.tensor([[-1.0]])]
    ref = reference(image, text, 120.0, -60.0)
    assert ref.local_bias_grad[0].value.item() == pytest.approx(math.exp(-180) - math.exp(-60), rel=1e-14, abs=0)
    assert ref.local_loss[0].value.item() == pytest.approx(math.exp(-60) + math.exp(-180), rel=1e-14, abs=0)


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


@examples(40)
@given(sizes=st.lists(st.integers(0, 3), min_size=1, max_size=3).filter(any), dim=st.integers(1, 4), t=scales, c=biases)
def test_magnitude_and_underflow_are_the_sums_that_their_definition_names(sizes: Any, dim: Any, t: Any, c: Any):
    images, texts = draw(sizes, dim, seed=3)
    upstream, divisors = [0.5 - rank for rank in range(len(sizes))], [2.0 + rank for rank in range(len(sizes))]
    ref = reference(images, texts, t, c, normalizers=divisors, upstream=upstream)
    rank_of = [rank for rank, rows in enumerate(sizes) for _ in range(rows)]
    x, y, n = torch.cat(images).abs().tolist(), torch.cat(texts).abs().tolist(), sum(sizes)
    logits = (t * torch.cat(images) @ torch.cat(texts).T + c).tolist()
    want = {name: torch.zeros(n, dim, dtype=torch.float64) for name in ("image", "text", "image_floor", "text_floor")}
    scalars = torch.zeros(len(sizes), 6, dtype=torch.float64)
    for i in range(n):
        g, divisor = abs(upstream[rank_of[i]]), divisors[rank_of[i]]
        for j in range(n):
            size, z, positive = sum(a * b for a, b in zip(x[i], y[j], strict=True)), logits[i][j], float(i == j)
            reach = abs(t) * size + abs(c)
            m = sigmoid(z) + positive + sigmoid(z) * sigmoid(-z) * reach
            e = math.log1p(math.exp(-abs(z))) + max(z, 0) + sigmoid(z) * reach + positive * (abs(z) + reach)
            w = g / divisor
            scalars[rank_of[i]] += torch.tensor(
                [e / divisor, m * w * size, m * w, 1 + 1 / divisor, (1 + w) * (size + 1), 1 + w], dtype=torch.float64
            )
            for k in range(dim):
                want["image"][i, k] += m * w * abs(t) * y[j][k]
                want["text"][j, k] += m * w * abs(t) * x[i][k]
                want["image_floor"][i, k] += (1 + w) * abs(t) * y[j][k]
                want["text_floor"][j, k] += (1 + w) * abs(t) * x[i][k]
    close = {"rtol": 1e-12, "atol": 0.0}
    torch.testing.assert_close(joined(ref.image_grad).magnitude, want["image"], **close)
    torch.testing.assert_close(joined(ref.text_grad).magnitude, want["text"], **close)
    torch.testing.assert_close(joined(ref.image_grad).underflow, want["image_floor"] + 1 + abs(t), **close)
    torch.testing.assert_close(joined(ref.text_grad).underflow, want["text_floor"] + 1 + abs(t), **close)
    for rank, local in enumerate(zip(ref.local_loss, ref.local_scale_grad, ref.local_bias_grad, strict=True)):
        got = [part.magnitude for part in local] + [part.underflow for part in local]
        torch.testing.assert_close(torch.stack(got), scalars[rank], **close)
    combined = [ref.loss, ref.scale_grad, ref.bias_grad]
    got = [part.magnitude for part in combined] + [part.underflow for part in combined]
    torch.testing.assert_close(torch.stack(got), scalars.mean(0), **close)


@pytest.mark.parametrize("tile", [1, 2, 3, 5])
def test_the_tiles_in_which_pairs_are_met_change_nothing(tile: int, monkeypatch: pytest.MonkeyPatch):
    images, texts = draw([4, 0, 7], 5)
    whole = reference(images, texts, 3.7, -0.6, upstream=[1.0, 2.0, 3.0])
    monkeypatch.setattr(oracle, "_TILE", tile)
    tiled = reference(images, texts, 3.7, -0.6, upstream=[1.0, 2.0, 3.0])
    for name in ("local_loss", "image_grad", "text_grad", "local_scale_grad", "local_bias_grad"):
        for a, b in zip(getattr(whole, name), getattr(tiled, name), strict=True):
            assert_near(a, b.value, name)
            torch.testing.assert_close(a.magnitude, b.magnitude, rtol=1e-13, atol=0.0)
            torch.testing.assert_close(a.underflow, b.underflow, rtol=1e-13, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_features_are_read_exactly_as_their_dtype_holds_them(dtype: torch.dtype):
    images, texts = draw([2, 2], 6)
    narrow = [[block.to(dtype).requires_grad_() for block in blocks] for blocks in (images, texts)]
    wide = [[block.detach().double() for block in blocks] for blocks in narrow]
    a, b = reference(*narrow, 3.7, -0.6), reference(*wide, 3.7, -0.6)
    assert torch.equal(a.image_grad[1].value, b.image_grad[1].value)
    assert a.loss.value == b.loss.value
    assert not a.loss.value.requires_grad


def test_a_thousand_rows_stay_accurate_where_every_term_is_equal():
    # All pairs alike, so every sum is known: p = sigmoid(60) or its complement; one long sum drifts by 30 eps and more.
    row = torch.nn.functional.normalize(torch.arange(1.0, 33.0, dtype=torch.float64), dim=0)
    blocks = [row.expand(64, 32).contiguous()] * 16
    ref = reference(blocks, blocks, 120.0, -60.0)
    want = 120.0 * row * (1024 * sigmoid(60.0) - 1) / 64
    assert_near(ref.image_grad[3], want.expand(64, 32), "image gradient", roundings=12)


BLOCK = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (([], [], 1.0, 0.0), {}, "one or more ranks; got images of []"),
        (([BLOCK], [BLOCK[:1]], 1.0, 0.0), {}, "got images of [(2, 3)] and texts of [(1, 3)]"),
        (([BLOCK[0]], [BLOCK[0]], 1.0, 0.0), {}, "must be [b_r, d]"),
        (([BLOCK, BLOCK[:, :2]], [BLOCK, BLOCK[:, :2]], 1.0, 0.0), {}, "shapes=[(2, 3), (2, 2)]"),
        (([BLOCK], [BLOCK * math.nan], 1.0, 0.0), {}, "got texts[0] with inf or nan"),
        (([BLOCK, BLOCK * math.inf], [BLOCK, BLOCK], 1.0, 0.0), {}, "got images[1] with inf or nan"),
        (([BLOCK], [BLOCK], math.inf, 0.0), {}, "got scale=inf, bias=0.0, upstream=[1.0]; clamp the scale before"),
        (([BLOCK], [BLOCK], 1.0, 0.0), {"upstream": [math.nan]}, "upstream=[nan]"),
        (([BLOCK], [BLOCK], 1.0, 0.0), {"upstream": [1.0, 1.0]}, "one number for each of 1 ranks"),
        (([BLOCK], [BLOCK], 1.0, 0.0), {"normalizers": [0.0]}, "got normalizers=[0.0]; a batch without"),
        (([BLOCK], [BLOCK], 1.0, 0.0), {"normalizers": [math.inf]}, "positive and finite; got normalizers=[inf]"),
        (([BLOCK[:0]], [BLOCK[:0]], 1.0, 0.0), {}, "a batch without any row has no mean"),
    ],
)
def test_what_cannot_be_judged_is_refused_by_name_and_value(arguments: Any, options: Any, words: str):
    with pytest.raises(ValueError, match=re.escape(words)):
        reference(*arguments, **options)


def test_a_batch_without_rows_is_zero_where_its_normalizers_are_given():
    ref = reference([BLOCK[:0]] * 2, [BLOCK[:0]] * 2, 1.0, 0.0, normalizers=[1.0, 1.0])
    assert ref.loss.value == 0
    assert ref.image_grad[1].value.shape == (0, 3)


def test_the_oracle_imports_torch_and_the_standard_library_alone():
    tree = ast.parse(Path(oracle.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= {"torch", *sys.stdlib_module_names}
