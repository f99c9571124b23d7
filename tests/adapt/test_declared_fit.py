"""What is declared of a loss against what the loss is, before it is called.

Oracle: the loss written out. Sees: a declaration that is passed over in silence, one that ends in a traceback.
"""

from __future__ import annotations

import functools
import re
import sys
from types import ModuleType
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from siglip_verify.adapt import AdaptedLoss, LossSpec, LossSpecError, traits
from siglip_verify.run.declare import declaration

HERE = "losses_of_this_test"


def adapted(loss: Any, **declared: Any) -> AdaptedLoss:
    """Return a loss of this process on rank 0 of one."""
    module = ModuleType(HERE)
    module.loss = loss  # type: ignore[attr-defined]
    sys.modules[HERE] = module
    spec = LossSpec(target=f"{HERE}:loss", **declared)
    return AdaptedLoss(spec, traits(spec), exchange="bidir", rank=0, world_size=1)


def plain(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return scale * (image * text).sum() + bias


class Owning(nn.Module):
    """Owns those of scale and bias that are named, and takes the others in order."""

    def __init__(self, *own: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 3))
        for name in own:
            self.register_parameter(name, nn.Parameter(torch.zeros(())))

    def forward(self, image: Tensor, text: Tensor, *taken: Tensor) -> Tensor:
        own, left = dict(self.named_parameters()), list(taken)
        scale = own["log_t"].exp() if "log_t" in own else own["t"] if "t" in own else left.pop(0)
        bias = own["c"] if "c" in own else left.pop(0)
        assert not left
        return plain(image, text, scale, bias)


@given(st.sampled_from(["", "t", "log_t"]), st.booleans(), st.floats(0.1, 9), st.floats(-9, 9))
def test_a_loss_may_own_its_scale_and_its_bias_or_one_of_them(scale: str, owns_bias: bool, t: float, c: float) -> None:
    declared = {"scale_parameter": scale or None, "bias_parameter": "c" if owns_bias else None}
    names = [name for name in declared.values() if name]
    loss = adapted(lambda rank, world_size: Owning(*names), log_scale=scale == "log_t", **declared)
    leaves = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (t, c)]
    features = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    value = loss(features, features, *leaves)
    value.backward()
    assert value.item() == pytest.approx(5 * t + c)
    assert loss.scalar_grads(*leaves) == (pytest.approx(5), pytest.approx(1))


@pytest.mark.parametrize("flag", ["scale_parameter", "bias_parameter"])
@pytest.mark.parametrize(
    ("loss", "name", "words"),
    [
        (plain, "nosuch", "got 'nosuch', and losses_of_this_test:loss has no parameters: leave {flag} out"),
        (Owning("t"), "", "has no parameter '', which {flag} names; name one of weight, t"),
        (Owning("t"), "T", "has no parameter 'T', which {flag} names; name one of weight, t"),
        (nn.Identity(), "t", "has no parameter 't', which {flag} names; it has none, so leave {flag} out"),
        (
            Owning("t"),
            "weight",
            r"{flag} names a parameter that holds one number; got 'weight', which has shape (2, 3)",
        ),
    ],
)
def test_a_parameter_that_is_not_there_is_named_with_those_that_are(
    loss: Any, name: str, words: str, flag: str
) -> None:
    with pytest.raises(LossSpecError) as error:
        adapted(loss, **{flag: name})
    assert words.format(flag=f"--{flag.replace('_', '-')}") in str(error.value)


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"scale_parameter": "t", "bias_parameter": "c"}, "own parameters t and c"),
        ({"bias_parameter": "c"}, "own parameter c"),
    ],
)
def test_a_report_says_which_parameters_are_the_losss_own(declared: dict[str, str], words: str) -> None:
    assert declaration(LossSpec(**declared)).endswith(f", {words}")


NAMES = st.lists(st.sampled_from("abcdefg"), max_size=6, unique=True)


@given(NAMES, st.integers(0, 6), st.booleans(), st.booleans(), st.sampled_from(["function", "module", "factory"]))
def test_a_loss_of_another_signature_is_refused_and_only_that(
    names: list[str], defaults: int, any_more: bool, named_only: bool, kind: str
) -> None:
    required = max(0, len(names) - defaults)
    words = [*names[:required], *(f"{name}=0" for name in names[required:])]
    words.insert(2, "*") if named_only and len(names) > 2 else words.extend(["*rest"] * any_more)
    loss = eval(f"lambda {', '.join(words)}: torch.zeros(())", {"torch": torch})
    try:
        loss(1, 2, 3, 4)
        fits = True
    except TypeError:
        fits = False
    given_loss = {"function": loss, "module": Forwarding(loss), "factory": lambda rank, world_size: loss}[kind]
    if fits:
        assert adapted(given_loss)(*[torch.zeros(())] * 4).item() == 0
        return
    with pytest.raises(LossSpecError) as error:
        adapted(given_loss)
    called = f"what {HERE}:loss returns" if kind == "factory" else f"{HERE}:loss"
    assert str(error.value) == (
        f"{called} is called with (images, texts, scale, bias), in this order and without names; it takes "
        f"({', '.join(words)}): name a factory make(rank, world_size, exchange) that returns a function of these"
    )


class Forwarding(nn.Module):
    """A module whose forward is a function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.forward = function


class OwningTwo(Owning):
    def forward(self, image: Tensor, text: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(image, text)


def test_what_owns_parameters_is_told_the_flags_with_their_names() -> None:
    with pytest.raises(LossSpecError, match="--scale-parameter and --bias-parameter which of weight, t, c it keeps"):
        adapted(OwningTwo("t", "c"))
    with pytest.raises(LossSpecError, match=r"called with \(images, texts, bias\).*it takes \(image, text\)"):
        adapted(OwningTwo("t", "c"), scale_parameter="t")
    adapted(OwningTwo("t", "c"), scale_parameter="t", bias_parameter="c")


@functools.wraps(lambda image, text: None)
def wrapping(*features: Any) -> Tensor:
    """Takes anything, and says of itself that it takes two."""
    return plain(*features)


@pytest.mark.parametrize(
    "loss",
    [
        wrapping,
        functools.partial(plain),
        torch.compile(plain, backend="eager"),
        torch.compile(Owning(), backend="eager"),
        torch.add,
    ],
    ids=["wraps", "partial", "compiled function", "compiled module", "not in Python"],
)
def test_a_loss_whose_signature_does_not_say_what_it_takes_is_called(loss: Any) -> None:
    adapted(loss)


@pytest.mark.parametrize(
    ("name", "value"),
    [("reduction", "max"), ("normalizer", "n"), ("dtypes", ("half",)), ("dtypes", "float32"), ("row_wise", "no")],
)
def test_a_declaration_in_other_words_is_refused_where_it_is_made(name: str, value: object) -> None:
    with pytest.raises(LossSpecError, match=rf"got {name}={re.escape(repr(value))}: "):
        LossSpec(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(LossSpecError, match=f"got {name}="):
        msgspec.structs.replace(LossSpec(), **{name: value})
