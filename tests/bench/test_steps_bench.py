"""The benchmarks of steps and of peak memory, on real ranks, small sizes and few turns.

Oracle: counts by the plan's closed form; memory of tensors by their sizes. Sees: contestants that do not do what their
name says, are left out or disagree, a mark that is not set back. Cannot see: whether the ratios hold; `make bench`
measures that.
"""

from __future__ import annotations

import pytest
import torch

from siglip_verify.bench import forms as bench_forms
from siglip_verify.bench.forms import Form, Step, our_forms
from siglip_verify.bench.measure import Setup
from siglip_verify.bench.memory import flatness, memory, peak_of_one_step
from siglip_verify.bench.steps import steps
from siglip_verify.plan import PHASES, closed_form, plan
from siglip_verify.world import Worlds

SETUP = Setup(world_size=3, batch=4, dim=8)
NAMES = {
    *(f"{whose} {exchange}" for whose in ("open_clip", "ours") for exchange in ("bidir", "shift", "reduce", "gather")),
    *(f"ours {exchange}, constant{also}" for exchange in ("bidir", "shift") for also in ("", ", overlap")),
    *(f"ours {exchange}, recompute" for exchange in ("bidir", "shift")),
}


@pytest.mark.long
def test_every_form_is_timed_against_open_clips_and_its_messages_are_those_of_the_plan() -> None:
    (comparison,) = steps(SETUP, 2)
    assert (comparison.name, comparison.setup) == ("steps/4x8/W3", SETUP)
    by_name = {contestant.name: contestant for contestant in comparison.contestants}
    assert set(by_name) == {*NAMES, "products", "open_clip bidir again"}
    assert all(len(one.values) == 2 and min(one.values) > 0 for one in by_name.values())
    assert by_name["products"].median < min(by_name[name].median for name in NAMES)
    for form in our_forms():
        if form.overlap or form.memory == "recompute":
            continue
        planned = plan(form.exchange, 3, 4, 8, 4, memory=form.memory)
        counts = [closed_form(planned, phase) for phase in PHASES]
        traffic = by_name[form.name].traffic
        assert traffic is not None
        assert traffic.messages == sum(count.sends for count in counts)
        assert traffic.collectives == sum(count.collectives for count in counts)
        assert traffic.payload_bytes == sum(count.payload_bytes for count in counts)
        assert traffic.wire_bytes is None or traffic.wire_bytes > traffic.payload_bytes
    against = {ratio.of[0]: ratio.of[1] for ratio in comparison.ratios[:-2]}
    assert set(against) == {name for name in NAMES if name.startswith("ours")} | {"open_clip bidir again"}
    assert against["ours gather"] == "open_clip gather"
    assert against["ours shift, constant"] == "open_clip bidir"
    assert [ratio.of[1] for ratio in comparison.ratios[-2:]] == ["products", "products"]


@pytest.mark.long
def test_memory_is_measured_for_every_form() -> None:
    (comparison,) = memory(4, 8, [2], 1)
    assert {contestant.name for contestant in comparison.contestants} == NAMES
    assert all(one.unit == "B" and min(one.values) >= 0 for one in comparison.contestants)


def test_memory_is_required_to_be_flat_where_it_was_measured_at_two_w() -> None:
    peaks = {size: {name: [1e6 + size] for name in NAMES} for size in (4, 16)}
    flat = flatness(1024, 512, peaks, [4, 16])
    for ratio, exchange in zip(flat.ratios, ("bidir", "shift"), strict=True):
        assert ratio.of == (f"ours {exchange}, constant, W = 16", f"ours {exchange}, constant, W = 4")
        assert ratio.requirement is not None
        assert ratio.is_met
    peaks[16]["ours shift, constant"] = [1.3e6]
    assert flatness(1024, 512, peaks, [4, 16]).is_met is False


@pytest.mark.long
def test_the_peak_is_that_of_one_step_and_not_of_what_was_before(worlds: Worlds) -> None:
    """At W = 2 autograd keeps two blocks of logits and labels, 4 MiB each here, and holds one more."""
    setup = Setup(world_size=2, batch=1024, dim=64)
    (first, second) = (max(worlds.run(2, peak_after_ballast, Form("", "bidir"), setup)) for _ in range(2))
    worlds.discard(2)
    logits = 1024 * 1024 * 4
    for peak in (first, second):
        assert 3 * logits < peak < 8 * logits


def peak_after_ballast(form: Form, setup: Setup) -> int:
    torch.ones(1 << 25).sum()  # 128 MiB, held and freed before
    return peak_of_one_step(form, setup)


class _Half(Step):
    def backward(self, loss: torch.Tensor) -> None:
        super().backward(loss / 2)


def test_forms_that_disagree_are_no_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_forms, "context", lambda: type("Context", (), {"rank": 0}))
    alone = Setup(world_size=1, batch=4, dim=8)
    right, again, wrong = (kind(Form("", "bidir"), alone) for kind in (Step, Step, _Half))
    for step in (right, again, wrong):
        step()
    again.check_against(right)
    with pytest.raises(RuntimeError, match=r"same gradients; their image gradients are 5\.0e-01"):
        wrong.check_against(right)
