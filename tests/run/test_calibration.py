"""Calibration on real ranks, and what is simulated against what is sent.

Oracle: the recorder, on gloo and on torch's fake back end. Sees: a file that simulate does not take, a thing that is
not timed, a simulation of other messages than the loss sends, a comparison that cannot fail.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from siglip_verify.errors import UsageError
from siglip_verify.run import calibration, timing, validation
from siglip_verify.run.calibration import BLOCKS, LINK_BYTES, TIMED_FORMS, calibrate
from siglip_verify.run.validation import FORMS, counted_on_fake_ranks, counted_on_ranks
from siglip_verify.simulate import Setup, read_cluster, simulate, write_cluster
from siglip_verify.simulate.fit import LinkFit, LinkSample, fit_link
from siglip_verify.world import Worlds

pytestmark = pytest.mark.xdist_group("calibration")


def orders_of_a_rank(turns: int) -> tuple[list[str], list[int]]:
    """Time three jobs, one of two parts, in a rank; return what ran in turn, and how many seconds there are of each."""
    ran: list[str] = []
    jobs = [[functools.partial(ran.append, part) for part in parts] for parts in ("a", "bc", "d")]
    return ran, list(map(len, timing._by_turns(jobs, turns)))


def test_jobs_are_timed_in_another_order_every_turn_and_on_all_ranks_the_same(worlds: Worlds) -> None:
    turns = 12
    (ran, timed), other = worlds.run(2, orders_of_a_rank, turns)
    assert other == (ran, timed)
    assert timed == [turns] * 4
    of_turns = ["".join(ran[at : at + 4]) for at in range(0, len(ran), 4)]
    assert all(sorted(turn) == list("abcd") and "bc" in turn for turn in of_turns)
    assert len(set(of_turns)) > 3


def test_a_machine_is_fitted_and_the_file_is_taken(
    worlds: Worlds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fitted(samples: Sequence[LinkSample]) -> LinkFit:
        return msgspec.structs.replace(fit_link(samples), message_us=7.0)  # what four turns fit may be none

    monkeypatch.setattr(calibration, "fit_link", fitted)
    result = calibrate(worlds, [2], batch=8, dim=16, dtype="float32", turns=4, validate=False)
    (fit,) = result.fits
    assert len(fit.links) == 4 * len(LINK_BYTES)
    assert len(fit.blocks) == len(BLOCKS)
    assert all(sample.seconds > 0 for sample in fit.links)
    assert fit.cluster.message_us == 7.0
    assert [step.form for step in result.steps] == list(TIMED_FORMS)
    path = tmp_path / "here.toml"
    path.write_text(write_cluster(result.cluster))
    setup = Setup(cluster=read_cluster(path), batch=8, dim=16, dtype="float32", collective="ring")
    again = simulate(setup, [2])
    assert [step.simulated_s for step in result.steps] == [again.cost(form, 2).step_s for form in TIMED_FORMS]


@pytest.mark.parametrize(
    ("sizes", "turns", "message"),
    [([1], 4, r"world sizes in 2..64; got \[1\]"), ([2], 3, r"need 4 turns or more; got turns=3")],
)
def test_what_cannot_be_measured_is_refused(worlds: Worlds, sizes: list[int], turns: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        calibrate(worlds, sizes, batch=8, dim=16, dtype="float32", turns=turns, validate=False)


def test_world_sizes_that_a_launcher_has_no_ranks_for_are_said(worlds: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds, "most_ranks", 2)
    monkeypatch.setattr(calibration, "FAKE_WORLD_SIZES", (8,))
    result = calibrate(worlds, [2], batch=8, dim=16, dtype="float32", turns=4, validate=True)
    assert {each.world_size for each in result.counted} == {1, 2, 8}
    assert result.notes == (
        "what is sent at W = 3, 4, 5, 6, 7, 8 was left out: the launcher started 2 ranks; start 8 to count there too",
    )


def test_what_ranks_send_is_what_is_simulated_and_a_difference_shows(
    worlds: Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = list(counted_on_ranks(worlds, [1, 3]))
    assert [(each.form, each.world_size) for each in counted] == [(form, w) for w in (1, 3) for form in FORMS]
    assert all(each.is_equal for each in counted)
    monkeypatch.setattr(validation, "_simulated", lambda cost: (cost.sends + 1, cost.collectives, cost.payload_bytes))
    assert not any(each.is_equal for each in counted_on_ranks(worlds, [2]))


def test_what_one_rank_of_64_posts_is_what_is_planned_and_a_difference_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(each.is_equal and each.operations > 0 for each in counted_on_fake_ranks(64))
    other = validation.planned_step
    monkeypatch.setattr(validation, "planned_step", lambda setup, form, size: other(setup, form, size + 8))
    assert not any(each.is_equal for each in counted_on_fake_ranks(64))


@pytest.mark.long
@pytest.mark.parametrize("world_size", [512, 1024])
def test_what_one_rank_of_many_posts_is_what_is_planned(world_size: int) -> None:
    assert all(each.is_equal for each in counted_on_fake_ranks(world_size))
