"""One forward and one backward of a loss inside a rank: the function that the world runs on every rank.

Here: from a case to a `RankRecord`. Not here: any judgement of it. This module is imported by ranks and parent, but
its code runs in ranks alone.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import defaultdict
from collections.abc import Generator
from typing import NamedTuple

import msgspec
import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from siglip_verify import adapt, features
from siglip_verify.adapt import AdaptedLoss, LossSpec, LossSpecError, Traits
from siglip_verify.case import Case
from siglip_verify.fault import Fault
from siglip_verify.observe import Recorder, WireMeter, WireReading, store_gate
from siglip_verify.observe.trap import Trap
from siglip_verify.records import Phase, RankRecord
from siglip_verify.world import context


class Rejected(msgspec.Struct, frozen=True):
    """The loss cannot be used as declared; not a judgement of its numbers."""

    why: str


def traits(spec: LossSpec) -> Traits | Rejected:
    """Load the loss and return what it takes."""
    try:
        return adapt.traits(spec)
    except LossSpecError as error:
        return Rejected(str(error))


def step(spec: LossSpec, loss_traits: Traits, case: Case) -> RankRecord | Rejected:
    """Run one step of a loss on this rank's part of a case, and record in this rank's log what is sent.

    Args:
        spec: The loss.
        loss_traits: What `traits` returned for it.
        case: The input; every rank draws it and takes its own rows.
    """
    return _step(spec, loss_traits, case, Recorder(context().log))


def measured_step(spec: LossSpec, loss_traits: Traits, case: Case) -> tuple[RankRecord | Rejected, list[WireReading]]:
    """Run one step as `step` does, and read this rank's sockets around each phase."""
    meter = wire_meter()
    return _step(spec, loss_traits, case, Recorder(context().log), meter), meter.readings


def faulty_step(spec: LossSpec, loss_traits: Traits, case: Case, fault: Fault) -> RankRecord | Rejected:
    """Run one step as `step` does, in which one rank commits a fault.

    Raises:
        RuntimeError: The step has no such place.
    """
    if context().rank != fault.rank:
        return step(spec, loss_traits, case)
    trap = Trap(context().log, fault)
    record = _step(spec, loss_traits, case, trap)
    trap.check_sprung()
    return record


def wire_meter() -> WireMeter:
    """Make a meter of this rank's sockets; every rank makes one at the same point."""
    group: dist.ProcessGroup = dist.group.WORLD  # type: ignore[assignment]
    store = dist.PrefixStore(f"gate/{next(_GATES[group.group_name])}", group.get_group_store())
    return WireMeter(store_gate(store, context().world_size))


# The ranks of a group measure the same steps, so their gates have the same numbers.
_GATES: defaultdict[str, itertools.count[int]] = defaultdict(itertools.count)


_INPUTS = ("the images", "the texts", "the scale", "the bias")


class Prepared(NamedTuple):
    """A loss on this rank, and its part of a case as leaves: images, texts, scale, bias."""

    loss: AdaptedLoss
    leaves: tuple[Tensor, Tensor, Tensor, Tensor]
    upstream: float

    def forward(self) -> Tensor:
        """Return the loss."""
        return self.loss(*self.leaves)


def prepare(spec: LossSpec, loss_traits: Traits, case: Case) -> Prepared:
    """Build the loss on this rank and draw its part of a case; where its second call is judged, call it before.

    Raises:
        LossSpecError: It cannot be built as declared.
    """
    loss = AdaptedLoss(
        spec,
        loss_traits,
        exchange=case.exchange,
        rank=context().rank,
        world_size=case.world_size,
        chunk_size=case.chunk_size,
    )
    if case.call == "second":
        _step_of(_prepared(loss, features.of_earlier_call(case)))
    return _prepared(loss, case)


def _prepared(loss: AdaptedLoss, case: Case) -> Prepared:
    """Draw this rank's part of a case."""
    rank, device = context().rank, context().device
    inputs = features.draw(case)
    image = _leaf(features.lay_out(inputs.images[rank].to(device), case.layout), case.frozen != "image")
    text = _leaf(features.lay_out(inputs.texts[rank].to(device), case.layout), case.frozen != "text")
    scale, bias = _leaf(inputs.scale.to(device)), _leaf(inputs.bias.to(device))
    return Prepared(loss, (image, text, scale, bias), inputs.upstream[rank])


def _step(
    spec: LossSpec, loss_traits: Traits, case: Case, recorder: Recorder, *observers: WireMeter
) -> RankRecord | Rejected:
    try:
        prepared = prepare(spec, loss_traits, case)
        image, text, scale, bias = prepared.leaves
        handed = [leaf.detach().clone() for leaf in prepared.leaves]
        with recorder:
            value = _step_of(prepared, *observers, recorder)
        scale_grad, bias_grad = prepared.loss.scalar_grads(scale, bias)
    except LossSpecError as error:
        return Rejected(str(error))
    return RankRecord(
        rank=context().rank,
        loss=value.item(),
        image_grad=_array(image.grad),
        text_grad=_array(text.grad),
        scale_grad=scale_grad,
        bias_grad=bias_grad,
        changed_inputs=tuple(
            name for name, leaf, was in zip(_INPUTS, prepared.leaves, handed, strict=True) if not torch.equal(leaf, was)
        ),
    )


def _step_of(prepared: Prepared, *observers: Recorder | WireMeter) -> Tensor:
    """Run forward and backward, each seen by the observers as a phase, and return the loss."""
    with _phase("forward", *observers):
        value = prepared.forward()
    with _phase("backward", *observers):
        if value.requires_grad:
            (value * prepared.upstream).backward()  # type: ignore[no-untyped-call]
    return value


def _leaf(value: Tensor, requires_grad: bool = True) -> Tensor:
    return value.detach().requires_grad_(requires_grad)


def _array(grad: Tensor | None) -> NDArray[np.float64] | None:
    return None if grad is None else grad.detach().to("cpu", torch.float64).numpy()


@contextlib.contextmanager
def _phase(name: Phase, *observers: Recorder | WireMeter) -> Generator[None]:
    with contextlib.ExitStack() as stack:
        for observer in observers:
            stack.enter_context(observer.phase(name))
        yield
