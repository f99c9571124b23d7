"""The coverage probe: it reads who counts, hears and labels whose texts off two runs, whatever was planted.

Oracle: what was planted, in all ranks of a loss computed block by block in one process (`one_process`). Sees: a
matrix that is transposed, a positive taken for a lost block, a factor rounded away, a convention forgotten.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from one_process import both_directions, changed, records

from siglip_verify.case import Case, parse_case
from siglip_verify.checks.coverage import Coverage, _whole, coverage, probe_cases
from siglip_verify.features import draw

WORLD_SIZES = (1, 2, 3, 4, 5)


def probe(case: Case, normalizer: float | None = None, declared: float | None = None, **planted: object) -> Coverage:
    zero, one = probe_cases(case)
    runs = [records(each, normalizer=normalizer, **planted) for each in (zero, one)]  # type: ignore[arg-type]
    return coverage(zero, *runs, (declared or zero.batch,) * case.world_size)


def whole(num_ranks: int, largest: int) -> st.SearchStrategy[np.ndarray]:
    return arrays.arrays(np.float64, (num_ranks, num_ranks), elements=st.integers(0, largest).map(float))


def test_all_rows_of_a_rank_are_its_own_unit_vector() -> None:
    inputs = draw(probe_cases(Case(world_size=3, batch=4, dtype="float32"))[1])
    for rank in range(3):
        expected = np.broadcast_to(np.eye(3)[rank], (4, 3))
        assert np.array_equal(inputs.images[rank].numpy(), expected)
        assert np.array_equal(inputs.texts[rank].numpy(), expected)
    assert (inputs.scale.item(), inputs.bias.item()) == (1.0, 1.0)


@given(st.sampled_from(WORLD_SIZES), st.integers(1, 5))
def test_the_probe_keeps_what_a_fault_may_need_and_can_be_replayed(world_size: int, batch: int) -> None:
    case = Case(
        exchange="shift", world_size=world_size, batch=batch, layout="transposed", chunk_size=2, dtype="float32"
    )
    for probed, bias in zip(probe_cases(case), (0.0, 1.0), strict=True):
        kept = {
            name: getattr(case, name) for name in ("exchange", "world_size", "layout", "chunk_size", "dtype", "seed")
        }
        assert {name: getattr(probed, name) for name in kept} == kept
        assert (probed.scale, probed.bias, probed.batch) == (1.0, bias, max(batch, 3))
        assert parse_case(str(probed)) == probed


def test_the_probe_is_plain_where_no_fault_needs_it() -> None:
    """What a tower freezes, unequal rows and features that a user brought say nothing of who counts whom."""
    case = Case(world_size=3, dim=3, frozen="text", rows="ragged", upstream="by-rank", features="random")
    own = Case(world_size=3, dim=3, features="given", source="mine.npz")
    for probed in (*probe_cases(case), *probe_cases(own)):
        assert (probed.frozen, probed.rows, probed.upstream, probed.source) == ("none", "equal", "one", "")
        assert probed.features == "one-hot-by-rank"


@pytest.mark.parametrize(
    "change", [{"features": "random"}, {"batch": 2}, {"scale": 2.0}, {"upstream": "scaled"}], ids=str
)
def test_another_case_than_the_probes_is_refused(change: dict[str, object]) -> None:
    zero, _ = probe_cases(Case(world_size=3))
    case = msgspec.structs.replace(zero, **change)
    with pytest.raises(ValueError, match=r"^the probe's cases are those of probe_cases; got case=bidir W=3 "):
        coverage(case, [], [], (3.0,) * 3)


def test_a_gradient_of_another_shape_tells_nothing() -> None:
    zero, one = probe_cases(Case(world_size=2))
    wide = [changed(records(case), image_grad=lambda grad: np.concatenate([grad, grad])) for case in (zero, one)]
    found = coverage(zero, *wide, (3.0, 3.0))
    assert np.isnan(found.counted).all()
    assert found.heard.tolist() == np.ones((2, 2)).tolist()


def test_what_is_not_counted_is_zero_and_not_minus_zero() -> None:
    found = probe(Case(world_size=2), counted=np.eye(2))
    for values in found:
        assert not np.signbit(values).any()


@pytest.mark.parametrize(
    ("dtype", "factor", "is_right"),
    [("float32", 1 + 1e-5, True), ("float32", 1 + 1e-4, False), ("bfloat16", 1.15, True), ("bfloat16", 1.3, False)],
)
def test_numbers_are_whole_to_within_a_hundred_roundings_and_no_more_than_a_fifth(
    dtype: str, factor: float, is_right: bool
) -> None:
    assert probe(Case(world_size=3, dtype=dtype), factor=factor).is_right == is_right


def test_what_is_just_within_the_tolerance_is_whole_and_no_zero_is_negative() -> None:
    assert _whole(np.array([1.125, 0.875, 1.1875, -0.0625]), 0.125).tolist() == [1.0, 1.0, 1.1875, 0.0]
    assert not np.signbit(_whole(np.array([-0.0625]), 0.125)).any()


def test_a_picture_says_what_its_rows_and_columns_are() -> None:
    pictures = probe(Case(world_size=2)).matrices()
    assert {(each.rows, each.columns) for each in pictures} == {("images of rank", "texts of rank")}
    assert [each.title for each in pictures] == [
        *("counted in forward", "heard of in backward", "positives in forward", "positives in backward")
    ]


def test_one_hot_features_need_a_dimension_for_each_rank() -> None:
    with pytest.raises(ValueError, match=r"one-hot-by-rank features need d >= W; got W=4, d=3"):
        parse_case("bidir W=4 d=3 features=one-hot-by-rank")


@pytest.mark.parametrize("world_size", WORLD_SIZES)
@pytest.mark.parametrize("batch", [3, 5])
def test_a_right_loss_counts_hears_and_labels_every_block_as_it_should(world_size: int, batch: int) -> None:
    found = probe(Case(world_size=world_size, batch=batch))
    assert found.is_right
    assert found.counted.tolist() == np.ones((world_size, world_size)).tolist()
    assert found.positives_forward.tolist() == np.eye(world_size).tolist()


@examples(40)
@given(st.data(), st.sampled_from(WORLD_SIZES))
def test_it_reads_off_whatever_is_counted_and_labelled(data: st.DataObject, world_size: int) -> None:
    counted = data.draw(whole(world_size, 3))
    positives = data.draw(whole(world_size, 1)) * (counted > 0)
    found = probe(Case(world_size=world_size), counted=counted, positives=positives)
    for seen, planted in (
        (found.counted, counted),
        (found.heard, counted),
        (found.positives_forward, positives),
        (found.positives_backward, positives),
    ):
        assert seen.tolist() == planted.tolist()
    assert found.is_right == (
        np.array_equal(counted, np.ones_like(counted)) and np.array_equal(positives, np.eye(world_size))
    )


def test_rows_are_the_images_rank_and_columns_the_texts_rank() -> None:
    counted = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [2.0, 1.0, 1.0]])
    found = probe(Case(world_size=3), counted=counted)
    assert found.matrices()[0].values[0] == (1.0, 1.0, 0.0)  # rank 0 never sees rank 2's texts
    assert found.matrices()[1].values[2] == (2.0, 1.0, 1.0)  # rank 0's gradient hears twice of rank 2
    assert [matrix.title for matrix in found.matrices()] == [
        "counted in forward",
        "heard of in backward",
        "positives in forward",
        "positives in backward",
    ]


def test_a_gather_without_gradient_is_an_identity_in_what_is_heard() -> None:
    own = np.eye(4)
    found = probe(Case(world_size=4), home=own[:, :, None] * own[:, None, :])
    assert found.heard.tolist() == np.eye(4).tolist()
    assert found.counted.tolist() == np.ones((4, 4)).tolist()


def test_remote_blocks_look_alike_so_a_wrong_way_home_is_not_seen_here() -> None:
    i, k = np.indices((4, 4))
    home = (np.arange(4)[:, None, None] == (2 * i - k) % 4).astype(np.float64)
    assert probe(Case(world_size=4), home=home).is_right


@pytest.mark.parametrize("factor", [1 / 4, 3.0, -1.0, 1.0001])
def test_a_factor_is_kept_and_not_rounded_away(factor: float) -> None:
    found = probe(Case(world_size=4), factor=factor)
    assert found.counted == pytest.approx(np.full((4, 4), factor), rel=1e-12)
    assert found.positives_backward == pytest.approx(factor * np.eye(4), rel=1e-12)
    assert not found.is_right


@pytest.mark.parametrize("normalizer", [1, 12, 9])
def test_a_declared_normalizer_is_allowed_for(normalizer: float) -> None:
    case = Case(world_size=4, batch=3)
    assert probe(case, normalizer=normalizer, declared=normalizer).is_right
    assert probe(case, normalizer=normalizer).counted == pytest.approx(np.full((4, 4), 3 / normalizer))


def test_with_one_run_and_two_rows_a_remote_positive_would_look_like_a_lost_block() -> None:
    zero, _ = probe_cases(Case(world_size=2))
    two_rows = msgspec.structs.replace(zero, batch=2)
    (first, _) = records(two_rows, positives=np.ones((2, 2)))
    assert first.image_grad is not None
    assert first.image_grad[:, 1].tolist() == [0.0, 0.0]
    assert probe(Case(world_size=2), positives=np.ones((2, 2))).positives_forward.tolist() == np.ones((2, 2)).tolist()


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_an_average_of_both_directions_counts_every_block_as_a_whole(world_size: int) -> None:
    zero, one = probe_cases(Case(world_size=world_size))
    assert coverage(zero, both_directions(zero), both_directions(one), (zero.batch,) * world_size).is_right


def test_an_average_of_both_directions_without_gradient_loses_half_of_every_remote_block() -> None:
    zero, one = probe_cases(Case(world_size=3))
    runs = [both_directions(case, gradient_comes_home=False) for case in (zero, one)]
    found = coverage(zero, *runs, (zero.batch,) * 3)
    half = (1 + np.eye(3)) / 2
    assert found.counted == pytest.approx(half)
    assert found.heard == pytest.approx(half)


def test_a_missing_gradient_hears_nothing_and_one_that_is_nan_tells_nothing() -> None:
    zero, one = probe_cases(Case(world_size=2))
    runs = [changed(records(case), text_grad=None) for case in (zero, one)]
    assert coverage(zero, *runs, (3, 3)).heard.tolist() == np.zeros((2, 2)).tolist()
    runs = [changed(records(case), image_grad=lambda grad: grad * math.nan) for case in (zero, one)]
    found = coverage(zero, *runs, (3, 3))
    assert np.isnan(found.counted).all()
    assert not found.is_right


def test_it_refuses_what_is_no_probe() -> None:
    zero, one = probe_cases(Case(world_size=2))
    runs = [records(case) for case in (zero, one)]
    with pytest.raises(ValueError, match=r"those of probe_cases; got case=bidir W=2"):
        coverage(Case(world_size=2), *runs, (3, 3))
    with pytest.raises(ValueError, match=r"a record of each of 2 ranks; got 1"):
        coverage(zero, runs[0][:1], runs[1], (3, 3))
