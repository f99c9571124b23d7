"""What a case means in tensors, where ranks differ in rows.

Oracle: the words of `Case.rows`. Sees: sizes that differ between processes, a rank with more rows than b, texts that no
longer belong to their images. Cannot see: whether a loss of them is right (the checks).
"""

from __future__ import annotations

import msgspec
import torch
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify import features
from siglip_verify.case import Case
from siglip_verify.run.strategies import Dimensions, cases

ragged_cases = cases("shift", range(1, 9), Dimensions(rows=("ragged",)))


@given(ragged_cases)
def test_ragged_ranks_have_up_to_b_rows_and_one_has_b(case: Case) -> None:
    sizes = features.sizes(case)
    assert len(sizes) == case.world_size
    assert max(sizes) == case.batch
    assert min(sizes) >= 0
    assert sizes == features.sizes(case)
    inputs = features.draw(case)
    for images, texts, size in zip(inputs.images, inputs.texts, sizes, strict=True):
        assert images.shape == texts.shape == (size, case.dim)


@given(ragged_cases)
def test_ragged_ranks_hold_the_first_rows_of_equal_ones(case: Case) -> None:
    ragged, equal = features.draw(case), features.draw(msgspec.structs.replace(case, rows="equal"))
    for mine, whole in zip((*ragged.images, *ragged.texts), (*equal.images, *equal.texts), strict=True):
        assert torch.equal(mine, whole[: len(mine)])
    assert (ragged.scale, ragged.bias, ragged.upstream) == (equal.scale, equal.bias, equal.upstream)


@given(st.integers(0, 50))
def test_some_ranks_have_no_row_at_all(seed: int) -> None:
    """Over a few seeds, so that a check draws them."""
    found = [features.sizes(Case(world_size=4, batch=2, rows="ragged", seed=seed + step)) for step in range(40)]
    assert any(0 in sizes for sizes in found)
    assert all(sizes == (2,) * 4 for sizes in [features.sizes(Case(world_size=4, batch=2, seed=seed))])
