"""An exchange in two levels beside today's, reckoned alike; and what docs/simulate.md concludes from it.

Oracle: today's exchanges within one host, where both are the same; a formula where uplinks alone cost. Sees: an
assumption that one side has and the other has not, a table or a conclusion that the model does not give. Does not see
how a real network takes it.
"""

from __future__ import annotations

from types import ModuleType

import msgspec
import pytest
from docs_script import docs_script

from siglip_verify.simulate import PRESETS, Form, Link, Setup, simulate
from siglip_verify.simulate.compute import block_time
from siglip_verify.simulate.two_level import Beside, two_level_step_s

H100 = Setup(cluster=PRESETS["h100-ib"], batch=2048, dim=1152)


def with_cluster(**changed: object) -> Setup:
    return msgspec.structs.replace(H100, cluster=msgspec.structs.replace(H100.cluster, **changed))


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize(("memory", "exchange"), [("autograd", "bidir"), ("constant", "shift")])
@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 8])
def test_within_one_host_two_levels_are_an_exchange_of_today(
    world_size: int, memory: str, exchange: str, overlap: bool
) -> None:
    """So no assumption on what hides what is made for one side alone."""
    setup = with_cluster(message_us=20.0)
    today = simulate(setup, [world_size], [memory], overlap=overlap).cost(Form(exchange, memory, overlap), world_size)
    assert two_level_step_s(setup, world_size, memory, overlap=overlap) == pytest.approx(today.step_s, rel=1e-9)


def test_what_is_posted_together_is_posted_one_after_the_other() -> None:
    """4 hops a host of 7 messages, and in each turn but the last one more to the next host; backward the same."""
    steps_s = [two_level_step_s(with_cluster(message_us=each), 64, "autograd", overlap=False) for each in (0.0, 20.0)]
    assert steps_s[1] - steps_s[0] == pytest.approx(2 * (7 * (8 - 4) + (7 - 4)) * 20e-6, rel=1e-9)


def test_two_levels_use_every_uplink_and_cross_hosts_once_a_host() -> None:
    """Where only uplinks cost, a step is H-1 crossings of one block there, and as many back."""
    free = Link(latency_us=0, gbytes_per_s=1e9)
    setup = with_cluster(within_host=free, call_us=0.0)
    crossing_s = 14e-6 + 2048 * 1152 * 2 / 48.5e9
    computing_s = 64 * sum(block_time(setup.cluster, "autograd", 2048, 1152, "bfloat16"))
    step_s = two_level_step_s(setup, 64, "autograd", overlap=False)
    assert step_s - computing_s == pytest.approx(2 * 7 * crossing_s, rel=1e-4)


# ------------------------------------------------------------------ the page
@pytest.fixture(scope="module")
def script() -> ModuleType:
    return docs_script("make_two_level")


@pytest.fixture(scope="module")
def found(script: ModuleType) -> list[tuple[str, int, list[Beside]]]:
    return list(script.rows())


@pytest.mark.long
def test_the_page_has_the_table_of_today(script: ModuleType, found: list[tuple[str, int, list[Beside]]]) -> None:
    page = script.PAGE.read_text()
    assert page == script.write(page, script.table(found)), "make two-level"


@pytest.mark.long
def test_two_levels_win_a_tenth_nowhere_but_where_the_page_says(
    script: ModuleType, found: list[tuple[str, int, list[Beside]]]
) -> None:
    """In autograd at one place; in constant memory only over forms without overlap, which the loss has with."""
    wins = {
        way: {(name, size) for name, size, each in found if each[i].win >= 0.1} for i, way in enumerate(script.WAYS)
    }
    assert wins["autograd", False] == wins["autograd", True] == {("pcie-25g", 24)}
    assert wins["constant", False] == {(name, size) for name in ("h100-ib", "a100-ib") for size in script.WORLD_SIZES}
    assert wins["constant", True] == set()
