"""Ranks with different numbers of rows, none included, and the agreement that it takes.

Oracle: `siglip_verify.oracle`, which takes ragged batches and whose normalisation makes the mean over ranks the mean
over all rows. Sees: padding that is counted, a gradient of another rank's rows, a wrong normaliser; a rank that is left
waiting where all should raise.
"""

from __future__ import annotations

import hypothesis
import pytest
import ragged_jobs as jobs
import torch
from effort import examples
from hypothesis import strategies as st

from siglip_verify import oracle
from siglip_verify.loss import SigLipLoss
from siglip_verify.world import Worlds

pytestmark = pytest.mark.xdist_group("ragged")

FORMS = [
    {"dist_impl": "reduce"},
    {"dist_impl": "gather"},
    *(
        {"dist_impl": exchange, "memory": memory, "overlap": overlap}
        for exchange in ("bidir", "shift")
        for memory in ("autograd", "constant", "recompute")
        for overlap in (False, True)
    ),
]
NAMES = ["-".join(map(str, form.values())) for form in FORMS]
SIZES = st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any)


@pytest.mark.parametrize("options", FORMS, ids=NAMES)
@hypothesis.given(
    sizes=SIZES, dim=st.integers(1, 9), seed=st.integers(0, 99), chunk_size=st.integers(0, 3), by_rank=st.booleans()
)
@examples(12)
def test_every_form_is_right_for_any_sizes(
    worlds: Worlds, options: jobs.Options, sizes: list[int], dim: int, seed: int, chunk_size: int, by_rank: bool
) -> None:
    drawn = (sizes, dim, seed, by_rank and options.get("memory") != "constant")
    inputs = jobs.draw(*drawn)
    wanted = oracle.reference(*inputs[:4], upstream=inputs.upstream)
    options = {**options, "ragged": True, "chunk_size": chunk_size}
    for rank, observed in enumerate(worlds.run(len(sizes), jobs.step, options, *drawn)):
        for mine, theirs in zip(observed, of_rank(wanted, rank), strict=True):
            assert (mine - theirs.value).abs().le(1e-13 * (1 + theirs.magnitude)).all(), (rank, mine, theirs.value)


def of_rank(reference: oracle.Reference, rank: int) -> list[oracle.Estimate]:
    return [
        reference.local_loss[rank],
        reference.image_grad[rank],
        reference.text_grad[rank],
        reference.local_scale_grad[rank],
        reference.local_bias_grad[rank],
    ]


@pytest.mark.parametrize("options", FORMS, ids=NAMES)
def test_equal_sizes_give_what_the_plain_form_gives(worlds: Worlds, options: jobs.Options) -> None:
    drawn = ([3, 3, 3], 5, 1, False)
    plain, ragged = (worlds.run(3, jobs.step, {**options, "ragged": flag}, *drawn) for flag in (False, True))
    for one, other in zip(plain, ragged, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


DIFFERENCES = {
    "the same batch size; got 3, 2, 3 by rank: drop the last, smaller batch, or pass ragged=True": {
        "shapes": [(3, 4), (2, 4), (3, 4)]
    },
    "the same feature dimension; got 4, 4, 5 by rank": {"shapes": [(3, 4), (3, 4), (3, 5)]},
    "the same dtype; got torch.float32, torch.bfloat16, torch.float32 by rank": {
        "dtypes": ["float32", "bfloat16", "float32"]
    },
    "the same requires_grad of the texts; got True, True, False by rank: freeze the text tower": {
        "wanted": [True, True, False]
    },
}


@pytest.mark.parametrize("exchange", ["bidir", "shift", "reduce", "gather"])
@pytest.mark.parametrize("message", DIFFERENCES)
def test_ranks_that_differ_raise_all_together(worlds: Worlds, exchange: str, message: str) -> None:
    given = {"shapes": [(3, 4)] * 3, "dtypes": ["float32"] * 3, "wanted": [True] * 3, **DIFFERENCES[message]}
    said = worlds.run(3, jobs.refusal, {"dist_impl": exchange, "check_shapes": True}, *given.values())
    assert len(set(said)) == 1
    assert message in said[0]


@pytest.mark.parametrize("options", [{"check_shapes": True}, {"ragged": True}], ids=["check_shapes", "ragged"])
def test_a_rank_that_refuses_its_input_lets_the_others_know(worlds: Worlds, options: jobs.Options) -> None:
    said = worlds.run(3, jobs.refusal, options, [(3, 4), (3, 4, 1), (3, 4)], ["float32"] * 3, [True] * 3)
    assert "must be [batch, dim]; got image_features of shape (3, 4, 1)" in said[1]
    assert said[0] == said[2] == "rank 1 refused what its loss was given: see the error on that rank"


def test_ragged_ranks_may_differ_in_rows_alone(worlds: Worlds) -> None:
    said = worlds.run(2, jobs.refusal, {"ragged": True}, [(3, 4), (2, 5)], ["float32"] * 2, [True] * 2)
    assert said[0] == said[1]
    assert "the same feature dimension; got 4, 5 by rank" in said[0]
    assert set(worlds.run(2, jobs.refusal, {"ragged": True}, [(3, 4), (0, 4)], ["float32"] * 2, [True] * 2)) == {
        "nothing was raised"
    }


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_step_without_any_row_is_refused(worlds: Worlds, world_size: int) -> None:
    given = ([(0, 4)] * world_size, ["float32"] * world_size, [True] * world_size)
    for message in worlds.run(world_size, jobs.refusal, {"ragged": True}, *given):
        assert "at least one rank must have a row" in message


def test_without_ragged_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="must have at least one row and one column"):
        SigLipLoss()(torch.ones(0, 3), torch.ones(0, 3), 1.0, 0.0)
