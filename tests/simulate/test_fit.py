"""Fitting a cluster, writing it down, and what is said of a model beside measurements.

Oracle: the numbers that samples were made from; the file read back; the closed form within one host. Sees: a number
fitted to the wrong multiple, a key that is lost on its way, an order that is called right and is not.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify.plan import PHASES, plan
from siglip_verify.simulate import PRESETS, Form, Setup, read_cluster, simulate, write_cluster
from siglip_verify.simulate.calibration import Calibration, Fit, StepTime
from siglip_verify.simulate.compute import block_time
from siglip_verify.simulate.fit import BlockSample, LinkSample, fit_compute, fit_link, fit_uplink

SIZES = (1 << 10, 1 << 14, 1 << 17, 1 << 20)
LOOPBACK = PRESETS["loopback"]


def link_samples(
    world_size: int, hop_s: float, message_s: float, call_s: float, latency_s: float, byte_s: float
) -> list[LinkSample]:
    """Make samples of W ranks as the documentation of the model says, without the code that fits."""
    steps = world_size - 1
    seconds = {
        "hop": lambda n: hop_s + latency_s + n * byte_s,
        "double hop": lambda n: hop_s + message_s + latency_s + 2 * n * byte_s,
        "all_gather": lambda n: call_s + steps * (latency_s + n * byte_s),
        "all_reduce": lambda n: call_s + 2 * steps * (latency_s + n / world_size * byte_s),
    }
    return [
        LinkSample(pattern=pattern, world_size=world_size, num_bytes=n, seconds=made(n))
        for pattern, made in seconds.items()
        for n in SIZES
    ]


microseconds = st.floats(1, 5000)


@given(st.integers(3, 16), microseconds, microseconds, microseconds, microseconds, st.floats(0.05, 400))
def test_a_link_is_fitted_to_what_it_was_made_from(
    world_size: int, hop_us: float, message_us: float, call_us: float, latency_us: float, width: float
) -> None:
    microseconds = (each * 1e-6 for each in (hop_us, message_us, call_us, latency_us))
    samples = link_samples(world_size, *microseconds, 1e-9 / width)
    fit = fit_link(samples)
    assert fit.error < 1e-6
    assert fit.collective_call_us == pytest.approx(call_us, rel=1e-3, abs=1e-3)
    assert fit.message_us == pytest.approx(message_us, rel=1e-3, abs=1e-3)
    assert fit.call_us + fit.link.latency_us == pytest.approx(hop_us + latency_us, rel=1e-3)
    assert fit.link.latency_us == pytest.approx(latency_us, rel=1e-3, abs=1e-3)
    assert fit.link.gbytes_per_s == pytest.approx(width, rel=1e-2)


@given(st.sampled_from([(8, 1), (8, 2), (8, 8), (4, 4)]), microseconds, st.floats(1, 50))
def test_uplinks_are_counted_by_how_much_slower_all_ranks_at_once_are(
    shape: tuple[int, int], latency_us: float, width: float
) -> None:
    ranks_per_host, per_host = shape
    samples = [
        LinkSample(
            pattern="hop",
            world_size=16,
            num_bytes=n,
            offset=offset,
            seconds=5e-6 + latency_us * 1e-6 + n * crowd * 1e-9 / width,
        )
        for n in (1 << 10, 1 << 20, 1 << 30)
        for offset, crowd in ((1, 1), (ranks_per_host, ranks_per_host / per_host))
    ]
    link, found, error = fit_uplink(samples, 5.0, ranks_per_host)
    assert (found, error < 1e-6) == (per_host, True)
    assert link.latency_us == pytest.approx(latency_us, rel=1e-3)
    assert link.gbytes_per_s == pytest.approx(width, rel=1e-3)


def test_a_device_is_fitted_to_what_it_was_made_from() -> None:
    shapes = [(1, 1), (256, 64), (256, 512), (512, 128), (1024, 64)]
    times = {shape: block_time(LOOPBACK, "autograd", *shape, "float32") for shape in shapes}
    samples = [
        BlockSample(batch=batch, dim=dim, forward_s=time.forward, backward_s=time.backward)
        for (batch, dim), time in times.items()
    ]
    compute, error = fit_compute(samples, "float32")
    assert error < 1e-6
    assert compute.operation_us == pytest.approx(LOOPBACK.compute.operation_us)
    assert compute.memory_gbytes_per_s == pytest.approx(LOOPBACK.compute.memory_gbytes_per_s)
    assert compute.tflops_per_s["float32"] == pytest.approx(LOOPBACK.compute.tflops_per_s["float32"])


@pytest.mark.parametrize("name", PRESETS)
def test_a_cluster_that_is_written_reads_as_it_was(tmp_path: Path, name: str) -> None:
    cluster = msgspec.structs.replace(PRESETS[name], about='said "so"', message_us=0.5, collective_call_us=3.25)
    path = tmp_path / "cluster.toml"
    path.write_text(write_cluster(cluster))
    assert read_cluster(path) == cluster


def test_a_call_of_a_collective_costs_what_is_said_and_else_what_a_hop_does() -> None:
    def step_s(collective_call_us: float | None) -> float:
        cluster = msgspec.structs.replace(LOOPBACK, collective_call_us=collective_call_us)
        setup = Setup(cluster=cluster, batch=8, dim=8, dtype="float32")
        return simulate(setup, [4]).cost(Form("gather", "autograd"), 4).step_s

    assert step_s(None) == pytest.approx(step_s(LOOPBACK.call_us))
    assert step_s(1000.0 + LOOPBACK.call_us) == pytest.approx(step_s(None) + 2e-3), "an all_gather and an all_to_all"


@pytest.mark.parametrize("memory", ["autograd", "constant"])
@pytest.mark.parametrize("exchange", ["bidir", "shift"])
@pytest.mark.parametrize("world_size", [2, 3, 4, 7, 8])
def test_each_further_message_of_a_hop_costs_what_is_said(exchange: str, memory: str, world_size: int) -> None:
    def communication_s(message_us: float) -> float:
        cluster = msgspec.structs.replace(LOOPBACK, message_us=message_us)
        cost = simulate(Setup(cluster=cluster, batch=8, dim=8), [world_size], [memory]).cost(form, world_size)
        return cost.forward.communication_s + cost.backward.communication_s

    form = Form(exchange, memory)
    planned = plan(exchange, world_size, 8, 8, 2, memory=memory)
    hops = [run.hop for phase in PHASES for run in planned.runs(phase) for _ in range(run.times)]
    further = sum(len(hop) for hop in hops) - len(hops)
    assert (further > 0) == (exchange == "bidir" and world_size > 2)
    assert communication_s(300.0) == pytest.approx(communication_s(0.0) + further * 300e-6, rel=1e-9)


# ------------------------------------------------------------------ a model beside measurements
def calibration(simulated_s: tuple[float, float], noise_s: float) -> Calibration:
    """Make a calibration in which bidir took 1 s and shift 2 s, give or take."""
    steps = [
        StepTime(
            form=Form(exchange, "autograd"),
            world_size=4,
            seconds=tuple(median + noise_s * place for place in (-1, 0, 0, 1)),
            simulated_s=simulated,
        )
        for exchange, median, simulated in (("bidir", 1.0, simulated_s[0]), ("shift", 2.0, simulated_s[1]))
    ]
    fit = Fit(world_size=4, cluster=LOOPBACK, links=(), blocks=(), link_error=0, block_error=0)
    return Calibration(
        batch=1, dim=1, dtype="float32", turns=4, fits=(fit,), steps=tuple(steps), environment={}, elapsed_s=0
    )


def test_an_order_unlike_the_measured_one_is_said_where_medians_differ_beyond_noise() -> None:
    assert calibration((0.5, 0.6), noise_s=0.01).is_ordered_as_measured
    wrong = calibration((0.6, 0.5), noise_s=0.01)
    assert not wrong.is_ordered_as_measured
    assert [(str(pair.faster), str(pair.slower)) for pair in wrong.pairs] == [("bidir", "shift")]
    assert calibration((0.6, 0.5), noise_s=2.0).pairs == (), "noise orders nothing"
    assert [step.error for step in calibration((0.5, 3.0), noise_s=0.01).steps] == pytest.approx([-0.5, 0.5])
