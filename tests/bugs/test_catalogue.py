"""What the catalogue says of itself, without any process: ids, sources, conditions, and what cannot be planted.

The oracle is the list of known bugs that the catalogue began with, kept here by id. This can see an entry that was
lost, a source that is none, and conditions that contradict each other; not whether a bug shows (`test_bugs`).
"""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from siglip_verify.adapt import traits
from siglip_verify.bugs import CATALOGUE, CONTROLS, Bug, make
from siglip_verify.bugs.entry import FORK, ORIGINAL
from siglip_verify.case import EXCHANGES

LISTED = [
    "p2p-no-grad",
    "gather-no-grad",
    "gather-local-grad",
    "gather-grad-times-w",
    "gather-grad-wrong-slice",
    "ddp-scale",
    "bidir-grads-swapped",
    "bidir-not-reversed",
    "bidir-ping-pong",
    "shift-not-reversed",
    "p2p-identity-grad",
    "bidir-no-remainder",
    "bidir-extra-round",
    "hops-off-by-one",
    "not-forwarded",
    "remote-positives",
    "label-offset",
    "wrong-normaliser",
    "reduce-conditional",
    "reduce-no-mask",
    "reduce-local-grad",
    "self-negative",
    "gather-aliased",
    "unwaited-receive",
    "bias-dropped",
    "scale-detached",
    "image-detached",
    "lossy-wire",
    "non-contiguous",
    "group-rank",
    "uneven-batch",
    "chunk-labels",
    "local-only",
    "local-rank",
    "order",
    "unbatched-p2p",
    "memory-grows",
    "crash-only-distributed",
]

bugs = st.sampled_from(list(CATALOGUE.values()))


def test_every_bug_of_the_list_is_planted() -> None:
    assert set(LISTED) <= set(CATALOGUE)


def test_at_least_ten_bugs_beyond_the_list_have_a_thread_of_their_own() -> None:
    beyond = [bug for bug in CATALOGUE.values() if bug.id not in LISTED and bug.source.startswith("https://")]
    assert len({bug.source for bug in beyond}) >= 10


def test_every_source_is_a_thread_or_a_neighbour_that_exists() -> None:
    for bug in CATALOGUE.values():
        is_thread = re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+/issues/\d+", bug.source)
        neighbour = bug.source.removeprefix("neighbour of ")
        assert is_thread or bug.source in (FORK, ORIGINAL) or (neighbour in CATALOGUE and neighbour != bug.id), bug.id


def test_every_entry_says_one_sentence_and_what_a_diagnosis_must_say() -> None:
    for entry in [*CATALOGUE.values(), *CONTROLS.values()]:
        assert re.fullmatch(r"[A-Z].*\.", entry.sentence), entry.id
    assert all(re.compile(bug.diagnosis) for bug in CATALOGUE.values())


def test_only_mismatches_name_quantities() -> None:
    for bug in CATALOGUE.values():
        assert bool(bug.quantities) == (bug.outcomes == ("mismatch",)), bug.id


@given(bugs, st.sampled_from(EXCHANGES), st.integers(1, 64))
def test_an_example_meets_every_condition_but_the_one_on_w(bug: Bug, exchange: str, world_size: int) -> None:
    case = bug.where.example(exchange, world_size)  # type: ignore[arg-type]
    fits = {None: True, "even": world_size % 2 == 0, "odd": world_size % 2 == 1}[bug.where.parity]
    assert bug.where.holds(case) == (world_size >= bug.where.min_world_size and fits)


@given(bugs)
def test_every_bug_can_be_built_where_it_says_and_nowhere_else(bug: Bug) -> None:
    assert bug.exchanges
    for exchange in EXCHANGES:
        if exchange in bug.exchanges:
            assert callable(make(1, 3, exchange, bug.id))
        else:
            with pytest.raises(ValueError, match=f"{bug.id} can be planted in .* alone; got exchange='{exchange}'"):
                make(1, 3, exchange, bug.id)


def test_a_bug_that_is_not_in_the_catalogue_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"bug must be one of .*label-offset.*; got bug='label-ofset'"):
        make(0, 1, "shift", "label-ofset")


@pytest.mark.parametrize("entry", [*CATALOGUE.values(), *CONTROLS.values()], ids=lambda entry: entry.id)
def test_the_adapter_can_load_it(entry: Bug) -> None:
    assert traits(entry.spec).kind in ("class", "factory", "function")


# ------------------------------------------------------------------ what no number shows
def saved_for_backward(loss: Callable[..., Tensor], b: int) -> int:
    """Count the numbers that one forward on one rank keeps for backward."""
    image, text = (torch.randn(b, 4, requires_grad=True) for _ in range(2))
    sizes: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        loss(image, text, torch.tensor(3.7, requires_grad=True), torch.tensor(-0.6, requires_grad=True))
    return sum(sizes)


def test_memory_grows_keeps_the_logits_that_chunks_do_not() -> None:
    planted = [saved_for_backward(make(0, 1, "shift", "memory-grows", chunk_size=2), b) for b in (64, 128)]
    correct = [saved_for_backward(make(0, 1, "shift", chunk_size=2), b) for b in (64, 128)]
    assert planted[1] > 3 * planted[0] > 3 * 64 * 64
    assert correct[1] < 3 * correct[0]


def outlives_its_step(loss: Callable[..., Tensor]) -> bool:
    """Tell whether a step's images are still there when everything of the step was given up."""
    image = torch.randn(3, 4, requires_grad=True)
    alive = weakref.ref(image)
    loss(image, torch.randn(3, 4), torch.tensor(3.7), torch.tensor(-0.6)).backward()
    del image
    gc.collect()
    return alive() is not None


def test_memory_leak_keeps_every_step() -> None:
    assert outlives_its_step(make(0, 1, "shift", "memory-leak"))
    assert not outlives_its_step(make(0, 1, "shift"))
