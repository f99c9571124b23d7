"""torch.compile: the local block is one graph; messages and hand-written gradients run beside the graphs.

Oracle: the same loss, not compiled. Sees: a graph that computes something else, a form that fails to run once a caller
compiles around it. Backends that only trace are used here: they are what decides whether it works, and they are quick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist

from siglip_verify.loss import SigLipLoss
from siglip_verify.world import Worlds

pytestmark = pytest.mark.xdist_group("compile")

# What dynamo does with a hand-written gradient: it instantiates the class, and looks at .grad of what is no leaf.
of_dynamo = pytest.mark.filterwarnings(
    "ignore:.*should not be instantiated:DeprecationWarning",
    r"ignore:The \.grad attribute of a Tensor that is not a leaf:UserWarning",
)
FORMS = [{"memory": "constant"}, {"memory": "recompute"}]


@pytest.fixture(autouse=True)
def _forget_graphs() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def step(loss: Callable[..., torch.Tensor], seed: int = 1) -> list[torch.Tensor]:
    """Return loss and gradients of one step."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.nn.functional.normalize(torch.randn(5, 7, generator=generator), dim=-1) for _ in range(2)]
    values = [value.requires_grad_() for value in (*rows, torch.tensor(3.7), torch.tensor(-0.6))]
    value = loss(*values)
    value.backward()
    return [value.detach(), *(leaf.grad for leaf in values)]


def assert_equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> None:
    for mine, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("chunk_size", [0, pytest.param(2, marks=pytest.mark.long)])
def test_the_local_block_is_one_graph(chunk_size: int) -> None:
    loss = SigLipLoss(chunk_size=chunk_size)
    assert_equal(step(torch.compile(loss, fullgraph=True, backend="aot_eager")), step(loss))


@of_dynamo
@pytest.mark.parametrize("options", FORMS, ids=str)
def test_hand_written_gradients_run_beside_the_graph(options: dict[str, Any]) -> None:
    loss = SigLipLoss(**options)
    assert_equal(step(torch.compile(loss, backend="eager")), step(loss))


@of_dynamo
@pytest.mark.parametrize("options", FORMS, ids=str)
def test_hand_written_gradients_in_one_graph_are_refused_by_torch(options: dict[str, Any]) -> None:
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"autograd\.Function"):
        step(torch.compile(SigLipLoss(**options), fullgraph=True, backend="eager"))


def compiled_and_not(options: dict[str, Any]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return a step of the loss among ranks, compiled and not."""
    loss = SigLipLoss(rank=dist.get_rank(), world_size=dist.get_world_size(), **options)
    return step(torch.compile(loss, backend="eager"), dist.get_rank()), step(loss, dist.get_rank())


@pytest.mark.long
@of_dynamo
@pytest.mark.parametrize("options", [{}, {"dist_impl": "reduce"}, {"dist_impl": "gather"}, *FORMS], ids=str)
def test_messages_run_beside_the_graphs(worlds: Worlds, options: dict[str, Any]) -> None:
    for one, other in worlds.run(2, compiled_and_not, options):
        assert_equal(one, other)
