"""A simulation as a whole: costs, choices, the claims, timelines, and what a user may write.

Oracles: formulas of the docs, written down once more; rules of the claims applied to made-up figures; limits that any
cost obeys (what must be moved, what must be computed). Sees: a cost put together from the wrong parts, a verdict that
does not follow from its figures. Does not see whether a cluster is as its numbers say.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

import siglip_verify.simulate
from siglip_verify.errors import UsageError
from siglip_verify.plan import lower_bound_bytes
from siglip_verify.simulate import (
    MEMORY_MODES,
    PRESETS,
    Cluster,
    ClusterError,
    Form,
    Setup,
    Simulation,
    claim_simulations,
    claims,
    cluster_named,
    dtype_named,
    memory_modes,
    parse_world_sizes,
    simulate,
    timelines,
)
from siglip_verify.simulate.claims import CLAIM_WORLD_SIZES
from siglip_verify.simulate.compute import block_time
from siglip_verify.simulate.timeline import timeline

POWERS = tuple(1 << power for power in range(3, 13))
H100 = Setup(cluster=PRESETS["h100-ib"], batch=2048, dim=1152)


@pytest.fixture(scope="module")
def whole() -> Simulation:
    return simulate(H100, POWERS, MEMORY_MODES)


@pytest.fixture(scope="module")
def claim_basis() -> tuple[Simulation, ...]:
    return claim_simulations()


def test_the_surface_is_what_it_says() -> None:
    names = siglip_verify.simulate.__all__
    assert names == sorted(names, key=lambda name: (not name.isupper(), name[0].islower(), name))
    assert all(hasattr(siglip_verify.simulate, name) for name in names)


# ------------------------------------------------------------------ costs
def test_ten_world_sizes_of_twelve_forms_take_seconds_and_the_largest_no_more_than_others(whole: Simulation) -> None:
    """Asked for: W = 4,096 over all exchanges in under 10 s; here, on whatever machine, with every memory mode."""
    assert whole.took_s[4096] < 10
    assert sum(whole.took_s.values()) < 30
    assert len(whole.costs) == 12 * len(POWERS)
    assert whole.proved


def test_nothing_is_cheaper_than_what_must_be_sent_and_computed(whole: Simulation) -> None:
    for cost in whole.costs:
        least = 2 * lower_bound_bytes(cost.world_size, 2048, 1152, 2)
        assert cost.sent_bytes >= least * (1 - 1e-12)
        assert cost.step_s >= cost.compute_s
        assert cost.step_s >= max(cost.forward.communication_s, cost.backward.communication_s)
        assert cost.exposed_s <= cost.communication_s * (1 + 1e-9)
        block = sum(block_time(H100.cluster, cost.form.memory, 2048, 1152, "bfloat16"))
        assert cost.compute_s == pytest.approx(cost.world_size * block)


def test_shift_on_one_host_takes_what_its_formula_says(whole: Simulation) -> None:
    cost = whole.cost(Form("shift", "autograd"), 8)
    hop = 8.4e-6 + 3.4e-6 + 2048 * 1152 * 2 / (18 * 20.6e9)
    block = block_time(H100.cluster, "autograd", 2048, 1152, "bfloat16")
    assert cost.step_s == pytest.approx(14 * hop + 8 * sum(block), rel=1e-9)
    assert cost.forward.how == "closed form"


def test_shift_over_hosts_takes_a_hop_between_hosts_a_hop(whole: Simulation) -> None:
    """The slow link keeps everybody waiting: every hop takes what the hop between hosts takes."""
    cost = whole.cost(Form("shift", "autograd"), 4096)
    hop = 8.4e-6 + 14e-6 + 2048 * 1152 * 2 / 48.5e9
    block = block_time(H100.cluster, "autograd", 2048, 1152, "bfloat16")
    assert cost.step_s == pytest.approx(2 * 4095 * hop + 4096 * sum(block), rel=1e-9)
    assert cost.forward.how == "events"


def test_overlap_is_simulated_where_the_loss_has_it_and_in_the_phases_in_which_it_does_it(whole: Simulation) -> None:
    """The loss refuses overlap for reduce and gather; in autograd it overlaps in forward alone (`ring._Hop`)."""
    both = simulate(H100, [8, 512], MEMORY_MODES, overlap=True)
    overlapped = [cost for cost in both.costs if cost.form.overlap]
    assert {cost.form.exchange for cost in overlapped} == {"bidir", "shift"}
    assert {cost.form.memory for cost in overlapped} == set(MEMORY_MODES)
    for cost in overlapped:
        plain = whole.cost(msgspec.structs.replace(cost.form, overlap=False), cost.world_size)
        assert cost.forward.seconds < plain.forward.seconds
        if cost.form.kept == "autograd":
            assert cost.backward.seconds == pytest.approx(plain.backward.seconds, rel=0.02)
            assert cost.backward.exposed_s > 0.9 * plain.backward.exposed_s
            assert cost.sends == plain.sends
        else:
            assert cost.exposed_s < 0.2 * plain.exposed_s
            assert cost.sends == plain.sends + (2 if cost.form.exchange == "bidir" else 1)


def test_a_form_says_what_it_is() -> None:
    assert [str(Form(*each)) for each in (("bidir", "autograd"), ("shift", "constant", True))] == [
        "bidir",
        "shift constant overlap",
    ]


def test_the_collective_asked_for_is_the_one_that_is_used() -> None:
    for algorithm in ("ring", "tree", "recursive-doubling"):
        result = simulate(msgspec.structs.replace(H100, collective=algorithm), [64])
        used = {cost.form.exchange: cost.algorithms for cost in result.costs if cost.algorithms}
        assert used["reduce"] == {"all_reduce": algorithm}
        gathers = "ring" if algorithm == "tree" else algorithm  # no tree for these
        assert used["gather"] == {"all_gather": gathers, "reduce_scatter": gathers}


def test_a_result_survives_json(whole: Simulation) -> None:
    assert msgspec.json.decode(msgspec.json.encode(whole), type=Simulation) == whole


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_simulated_and_says_what_it_is(name: str) -> None:
    cluster = PRESETS[name]
    result = simulate(Setup(cluster=cluster, batch=64, dim=128, dtype="float32"), [1, cluster.ranks_per_host])
    assert cluster.about
    assert all(math.isfinite(cost.step_s) and cost.step_s > 0 for cost in result.costs)
    assert all(cost.sent_bytes == 0 and cost.exposed_s == 0 for cost in result.at(1))


# ------------------------------------------------------------------ choices
def test_the_choice_is_the_fastest_that_fits_at_every_world_size(whole: Simulation) -> None:
    assert [size for choice in whole.choices for size in choice.world_sizes] == list(POWERS)
    for choice in whole.choices:
        for size in choice.world_sizes:
            fitting = [cost for cost in whole.at(size) if cost.fits]
            best = min(fitting, key=lambda cost: cost.step_s)
            assert choice.form == best.form
            second = min(cost.step_s for cost in fitting if cost.form != best.form)
            low, high = choice.lead or (0, 0)
            assert low <= second / best.step_s - 1 <= high


def test_where_nothing_fits_no_form_is_chosen() -> None:
    tiny = msgspec.structs.replace(PRESETS["h100-ib"], memory_gbytes=1e-6)
    (choice,) = simulate(Setup(cluster=tiny, batch=64, dim=64), [8]).choices
    assert (choice.form, choice.lead) == (None, None)


def test_autograd_does_not_fit_where_constant_memory_does(whole: Simulation) -> None:
    fits = {cost.form.memory: cost.fits for cost in whole.at(4096)}
    assert fits == {"autograd": False, "chunked": True, "constant": True, "recompute": True}


def test_one_chunk_is_none() -> None:
    """With chunk_size = b the loss keeps its logits, as without."""
    one = simulate(msgspec.structs.replace(H100, chunk_size=2048), [64], ["autograd", "chunked"])
    for exchange in ("bidir", "gather"):
        plain, chunked = (one.cost(Form(exchange, memory), 64) for memory in ("autograd", "chunked"))
        assert plain.memory == chunked.memory
        assert plain.step_s == chunked.step_s


def test_small_chunks_in_constant_memory_are_remarked_on(whole: Simulation) -> None:
    assert [note for note in whole.notes if "with --chunk-size 2048 it takes" in note]
    assert not simulate(msgspec.structs.replace(H100, chunk_size=2048), [8]).notes


# ------------------------------------------------------------------ the claims
def test_the_claims_are_answered_from_their_figures(claim_basis: tuple[Simulation, ...]) -> None:
    bidir, reduce, gather = claims(claim_basis)
    assert [each.answer for each in (bidir, reduce, gather)] == [
        "holds with a condition",
        "holds",
        "holds with a condition",
    ]
    for claim in (bidir, reduce):
        places = {(each.cluster, each.world_size) for each in claim.figures}
        assert places == {(name, size) for name in ("h100-ib", "pcie-100g") for size in CLAIM_WORLD_SIZES}
    for figure in (figure for claim in (bidir, reduce, gather) for figure in claim.figures):
        simulation = next(each for each in claim_basis if each.setup.cluster.name == figure.cluster)
        for exchange, value in figure.values.items():
            overlap = figure.overlap and exchange in ("bidir", "shift")
            cost = simulation.cost(Form(exchange, figure.memory, overlap), figure.world_size)
            assert value == (cost.step_s if figure.unit == "s" else cost.memory.peak_bytes)


def test_other_figures_give_other_answers(claim_basis: tuple[Simulation, ...]) -> None:
    """A world in which gather takes long and holds much, and one in which reduce takes no time."""

    def with_costs(exchange: str, factor: float) -> list[Simulation]:
        def changed(cost):  # type: ignore[no-untyped-def]
            if cost.form.exchange != exchange:
                return cost
            return msgspec.structs.replace(
                cost,
                forward=msgspec.structs.replace(cost.forward, seconds=cost.forward.seconds * factor),
                backward=msgspec.structs.replace(cost.backward, seconds=cost.backward.seconds * factor),
                memory=msgspec.structs.replace(cost.memory, peak_bytes=round(cost.memory.peak_bytes * factor)),
            )

        return [msgspec.structs.replace(each, costs=tuple(map(changed, each.costs))) for each in claim_basis]

    assert [claim.answer for claim in claims(with_costs("gather", 10.0))] == ["holds", "does not hold", "holds"]
    assert [claim.answer for claim in claims(with_costs("reduce", 0.1))] == [
        "does not hold",
        "does not hold",
        "holds with a condition",
    ]


def test_claims_from_too_little_name_what_is_missing(claim_basis: tuple[Simulation, ...]) -> None:
    less = simulate(H100, [8, 64], ["autograd", "chunked"])
    with pytest.raises(LookupError, match=r"simulated are bidir, .* at W = 8, 64; got bidir at W = 512"):
        claims([less])


# ------------------------------------------------------------------ timelines
@pytest.mark.parametrize("exchange", ["bidir", "shift", "reduce", "gather"])
@pytest.mark.parametrize("overlap", [False, True])
def test_a_timeline_ends_when_the_step_does_and_shows_all_computing(exchange: str, overlap: bool) -> None:
    form = Form(exchange, "autograd", overlap and exchange in ("bidir", "shift"))
    shown = timeline(H100, form, 64)
    cost = simulate(H100, [64], ["autograd"], overlap=True).cost(form, 64)
    assert max(span.end_s for span in shown.spans) == pytest.approx(cost.step_s, rel=1e-9)
    for rank in range(8):
        mine = [span for span in shown.spans if span.rank == rank]
        computing = math.fsum(span.end_s - span.begin_s for span in mine if span.kind == "compute")
        assert computing == pytest.approx(cost.compute_s, rel=1e-9)
        for kind in ("compute", "communication"):
            track = sorted((span.begin_s, span.end_s) for span in mine if span.kind == kind)
            assert all(end <= begin + 1e-12 for (_, end), (begin, _) in pairwise(track))


def test_timelines_are_of_a_world_that_can_be_looked_at(whole: Simulation) -> None:
    shown = timelines(whole)
    assert {each.world_size for each in shown} == {64}
    assert [each.form for each in shown] == list(whole.forms)
    with pytest.raises(UsageError, match="up to 512 ranks; got W = 1024"):
        timelines(simulate(H100, [1024]))


# ------------------------------------------------------------------ what a user may write
@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("8-4096", POWERS),
        ("24,48", (24, 48)),
        ("1-8", (1, 2, 4, 8)),
        ("3-5", (4,)),
        ("48, 8-16", (8, 16, 48)),
        ("8", (8,)),
    ],
)
def test_a_range_stands_for_its_powers_of_two_and_a_list_for_itself(text: str, sizes: tuple[int, ...]) -> None:
    assert parse_world_sizes(text) == sizes


@pytest.mark.parametrize("text", ["", "8-", "eight", "9-15", "16-8", "8;16", "-8"])
def test_other_texts_are_no_world_sizes(text: str) -> None:
    with pytest.raises(UsageError):
        parse_world_sizes(text)


def test_names_are_read_and_others_refused_with_what_may_be_written() -> None:
    assert dtype_named("bf16") == dtype_named("bfloat16") == "bfloat16"
    assert memory_modes("constant, autograd") == ("constant", "autograd")
    assert cluster_named("h100-ib") is PRESETS["h100-ib"]
    with pytest.raises(UsageError, match=r"dtype is one of float64, .*, bf16, .*; got 'int8'"):
        dtype_named("int8")
    with pytest.raises(
        UsageError, match="memory is some of autograd, chunked, constant, recompute, with commas; got 'flat'"
    ):
        memory_modes("flat")
    with pytest.raises(UsageError, match=r"a cluster is one of h100-ib, .*, or the path of a \.toml file; got 'mine'"):
        cluster_named("mine")
    with pytest.raises(UsageError, match="batch must be a whole number from 1 on; got batch=0"):
        Setup(cluster=PRESETS["h100-ib"], batch=0, dim=8)
    with pytest.raises(UsageError, match=r"numbers in 1\.\.65536; got 0"):
        simulate(H100, [0])


OWN = """
ranks_per_host = 4
memory_gbytes = 40
[within_host]
latency_us = 5
gbytes_per_s = 20
[between_hosts]
latency_us = 20
gbytes_per_s = 10
per_host = 2
[compute]
tflops_per_s = { bfloat16 = 100 }
memory_gbytes_per_s = 1000
operation_us = 5
"""


def own(tmp_path: Path, text: str) -> Cluster:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return cluster_named(str(path))


def test_ones_own_cluster_is_read_and_named_after_its_file(tmp_path: Path) -> None:
    cluster = own(tmp_path, OWN)
    assert (cluster.name, cluster.ranks_per_host, cluster.call_us) == ("mine", 4, 0.0)
    assert cluster.between_hosts
    assert cluster.between_hosts.per_host == 2
    assert simulate(Setup(cluster=cluster, batch=64, dim=64), [4, 8]).proved


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (OWN.replace("gbytes_per_s = 10", "gbyte_per_s = 10"), r"\[between_hosts\]: .*unknown field `gbyte_per_s`"),
        (
            OWN.replace("gbytes_per_s = 10\n", ""),
            r"required field `gbytes_per_s`. Needed keys: latency_us, gbytes_per_s",
        ),
        (OWN.replace("latency_us = 5", "latency_us = -5"), r"within_host.latency_us: Expected `float` >= 0.0"),
        (OWN.replace("latency_us = 5", 'latency_us = "5"'), r"within_host.latency_us: Expected `float`, got `str`"),
        (OWN.replace("bfloat16", "bf16"), r"compute.tflops_per_s: .*'bf16'; one of float64, float32"),
        (OWN.replace("per_host = 2", "per_host = 3"), r"between_hosts.per_host=3: give a divisor of 4"),
        (OWN.replace("per_host = 2", 'duplex = "both"'), r"between_hosts.duplex: .*'both'; one of full, half"),
        (OWN + "[extra]", r"top level: .*unknown field `extra`. Needed keys: ranks_per_host, memory_gbytes"),
        ("ranks_per_host = ", r"is TOML; got .*mine.toml"),
    ],
)
def test_a_wrong_cluster_file_is_refused_with_its_key_and_the_mend(tmp_path: Path, wrong: str, message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        own(tmp_path, wrong)


def test_a_cluster_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"nowhere\.toml': No such file"):
        cluster_named(str(tmp_path / "nowhere.toml"))
