"""What the tests of the constant-memory loss run inside ranks."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor, nn

from siglip_verify import features
from siglip_verify.case import Case
from siglip_verify.loss import SigLipLoss, block, closed_form, ring, stream
from siglip_verify.observe import Recorder, log_bytes, read_log
from siglip_verify.records import Event, RankRecord

Options = dict[str, Any]


class Step(NamedTuple):
    """One recorded step of one rank."""

    record: RankRecord
    events: list[Event]


def build(case: Case, options: Options) -> SigLipLoss:
    """Return the loss of a case for this rank of the default group."""
    return SigLipLoss(
        rank=dist.get_rank(),
        world_size=dist.get_world_size(),
        dist_impl=case.exchange,
        chunk_size=case.chunk_size,
        **options,
    )


def leaves(case: Case) -> list[Tensor]:
    """Return this rank's images, texts, scale and bias, all but the frozen wanting gradients."""
    inputs = features.draw(case)
    image, text = (features.lay_out(blocks[dist.get_rank()], case.layout) for blocks in (inputs.images, inputs.texts))
    wanted = (case.frozen != "image", case.frozen != "text", True, True)
    values = zip((image, text, inputs.scale, inputs.bias), wanted, strict=True)
    return [value.detach().requires_grad_(grad) for value, grad in values]


def grads(values: list[Tensor]) -> list[Tensor | None]:
    """Return copies of the gradients of some leaves."""
    return [None if leaf.grad is None else leaf.grad.clone() for leaf in values]


def step(case: Case, options: Options) -> Step:
    """Run one recorded step."""
    rank = dist.get_rank()
    values = leaves(case)
    log = bytearray(log_bytes(1000))
    with Recorder(log) as recorder:
        with recorder.phase("forward"):
            loss = build(case, options)(*values)
        with recorder.phase("backward"):
            (loss * features.draw(case).upstream[rank]).backward()
    image, text, scale, bias = (None if leaf.grad is None else leaf.grad.double().numpy() for leaf in values)
    record = RankRecord(
        rank=rank,
        loss=loss.item(),
        image_grad=image,
        text_grad=text,
        scale_grad=None if scale is None else scale.item(),
        bias_grad=None if bias is None else bias.item(),
    )
    return Step(record, read_log(log, rank))


def without_grad(case: Case, options: Options, inference: bool) -> tuple[float, bool, list[Event]]:
    """Return the loss without gradients, whether it wants one, and what was posted."""
    log = bytearray(log_bytes(1000))
    mode = torch.inference_mode() if inference else torch.no_grad()
    with Recorder(log) as recorder, recorder.phase("forward"), mode:
        loss = build(case, options)(*leaves(case))
    return loss.item(), loss.requires_grad, read_log(log, dist.get_rank())


def accumulated(case: Case, options: Options) -> list[Tensor | None]:
    """Return the gradients of two forwards in a row, then two backwards, the second scaled by 3."""
    values = leaves(case)
    loss = build(case, options)
    first, second = loss(*values), loss(*values)
    first.backward()
    (3 * second).backward()
    return grads(values)


def with_frozen(case: Case, options: Options, still: list[int]) -> list[Tensor | None]:
    """Return the gradients of one step in which some leaves, by index, need none."""
    values = leaves(case)
    for index in still:
        values[index].requires_grad_(False)
    build(case, options)(*values).backward()
    return grads(values)


def scaled(case: Case, options: Options, factor: float) -> list[Tensor | None]:
    """Return the gradients of the loss times a factor."""
    values = leaves(case)
    (build(case, options)(*values) * factor).backward()
    return grads(values)


def backward_twice(case: Case, options: Options) -> tuple[str, str]:
    """Return what a second backward says, and what one says that is to be differentiated again."""
    values = leaves(case)
    again = build(case, options)(*values)
    again.backward(retain_graph=True)
    twice = build(case, options)(*values)
    return _message(lambda: again.backward()), _message(lambda: torch.autograd.grad(twice, values, create_graph=True))


def upstream_error(case: Case, options: Options, upstream: list[float]) -> str:
    """Return what backward says when each rank has an upstream gradient of its own."""
    loss = build(case, options)(*leaves(case))
    return _message(lambda: (loss * upstream[dist.get_rank()]).backward())


def _message(action: Any) -> str:
    try:
        action()
    except RuntimeError as error:
        return str(error)
    return "nothing was raised"


def order_of_work(case: Case, options: Options) -> list[str]:
    """Return what forward does, in order: `post` a hop, `look` at a block."""
    order: list[str] = []

    def noted(word: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: (order.append(word), function(*args, **kwargs))[1]

    with (
        mock.patch.object(ring, "post", noted("post", ring.post)),
        mock.patch.object(stream, "post", noted("post", stream.post)),
        mock.patch.object(block, "sum_of_losses", noted("look", block.sum_of_losses)),
        mock.patch.object(closed_form.Sums, "add_block", noted("look", closed_form.Sums.add_block)),
    ):
        loss = build(case, options)(*leaves(case))
        in_forward = list(order)
        loss.backward()
    return in_forward


def recorded_while_looking(case: Case, options: Options) -> tuple[list[Event], list[float]]:
    """Return what one forward posted, as recorded, and when it began to compute each block, by the same clock."""
    looked_s: list[float] = []

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: (looked_s.append(time.monotonic()), function(*args, **kwargs))[1]

    log = bytearray(log_bytes(1000))
    with (
        mock.patch.object(block, "sum_of_losses", noted(block.sum_of_losses)),
        mock.patch.object(closed_form.Sums, "add_block", noted(closed_form.Sums.add_block)),
    ):
        with Recorder(log) as recorder, recorder.phase("forward"):
            loss = build(case, options)(*leaves(case))
        in_forward = list(looked_s)
        loss.backward()
    return read_log(log, dist.get_rank()), in_forward


class Towers(nn.Module):
    """Two linear towers, with the scale's logarithm and the bias as parameters."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.image = nn.Linear(dim, dim, dtype=torch.float64)
        self.text = nn.Linear(dim, dim, dtype=torch.float64)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        self.log_scale = nn.Parameter(torch.tensor(1.3, dtype=torch.float64))
        self.bias = nn.Parameter(torch.tensor(-0.6, dtype=torch.float64))

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, ...]:
        """Return features, scale and bias as the loss takes them."""
        unit = nn.functional.normalize
        return unit(self.image(images), dim=-1), unit(self.text(texts), dim=-1), self.log_scale.exp(), self.bias


def data_parallel(case: Case, options: Options) -> dict[str, Tensor]:
    """Return the parameter gradients that two accumulated steps of DistributedDataParallel leave on this rank."""
    inputs = features.draw(case)
    rank = dist.get_rank()
    model = nn.parallel.DistributedDataParallel(Towers(case.dim))
    loss = build(case, options)
    with model.no_sync():
        loss(*model(inputs.texts[rank], inputs.images[rank])).backward()
    loss(*model(inputs.images[rank], inputs.texts[rank])).backward()
    return {name: parameter.grad.clone() for name, parameter in model.module.named_parameters()}


def peak_bytes(case: Case, options: Options) -> int:
    """Return the most bytes of tensors that one step holds at once, beyond what it was given."""
    values = leaves(case)
    loss = build(case, options)
    loss(*values).backward()
    for leaf in values:
        leaf.grad = None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        loss(*values).backward()
    events = profile.profiler.kineto_results.events()
    changes = [event.nbytes() for event in sorted(events, key=lambda e: e.start_ns()) if event.name() == "[memory]"]
    return max(itertools.accumulate(changes))
