"""The pytest plugin: hold a loss against the oracle, or run any function on gloo ranks, from one's own tests.

    from siglip_verify import assert_equivalent

    def test_my_loss():
        assert_equivalent("my_pkg.loss:SigLipLoss", world_sizes="1-4")


    @pytest.mark.world_size(2, 4)
    def test_all_reduce_sums(world):
        def total():
            value = torch.tensor(float(dist.get_rank()))
            dist.all_reduce(value)
            return value.item()

        assert world.run(total) == [sum(range(world.size))] * world.size

The worlds are made when first asked for, one for each world size, and stay warm until the session ends; under
pytest-xdist every worker has its own. Importing this module imports pytest alone: no torch, and no process is started,
until a test asks for it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from siglip_verify.adapt import LossSpec
    from siglip_verify.result import Report
    from siglip_verify.world import Worlds

MARKER = "world_size(*sizes): run the test's `world` with so many gloo ranks, once for each size"
DEFAULT_TIMEOUT_S = 20.0
_WORLDS = pytest.StashKey["Worlds"]()


class World:
    """Ranks of one gloo group, in processes of their own.

    Attributes:
        size: Number of ranks.
    """

    def __init__(self, worlds: Worlds, size: int) -> None:
        self._worlds = worlds
        self.size = size

    def run(self, function: Callable[..., Any], *args: Any, timeout_s: float | None = None) -> list[Any]:
        """Run `function(*args)` on every rank and return what each rank returned, in rank order.

        Inside, the default process group is initialised: `torch.distributed.get_rank()` tells the rank. The function
        may be local to the test; it and its arguments are sent by value where they cannot be imported.

        Args:
            function: What to run.
            *args: Its arguments, the same on every rank.
            timeout_s: Seconds that the ranks may take, if not the session's.

        Raises:
            siglip_verify.world.WorldError: A rank raised, died or did not answer; the message names it. The next run
                gets a new world.
        """
        return self._worlds.run(self.size, function, *args, timeout_s=timeout_s)


def assert_equivalent(
    loss: str | LossSpec,
    *,
    exchanges: Sequence[str] = ("bidir", "shift", "reduce", "gather"),
    world_sizes: Sequence[int] | str = "1-4",
    examples: int = 40,
    seed: int = 0,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    **declared: Any,
) -> Report:
    """Assert that a distributed loss gives the loss and the gradients of one device.

    Args:
        loss: `module:attribute`, `file.py:attribute`, or a `LossSpec`.
        exchanges: Which exchanges.
        world_sizes: Numbers of ranks.
        examples: Cases for each exchange.
        seed: Where the draws start; the same seed gives the same cases.
        timeout_s: Seconds that a rank may take for one case.
        **declared: Fields of `LossSpec`, such as `reduction="sum"` or `args={"local_loss": True}`; in place of those
            of a `LossSpec` that is given.

    Returns:
        The finished result.

    Raises:
        AssertionError: The loss is wrong, or a rank died or hung; the message is the report.
        LossSpecError: The loss cannot be loaded or used as declared.
        SettingsError: A setting is out of range.
    """
    import msgspec

    from siglip_verify.adapt import LossSpec
    from siglip_verify.run.whole import check

    named = LossSpec(target=loss) if isinstance(loss, str) else loss
    spec = msgspec.structs.replace(named, **declared)
    report = check(
        spec,
        exchanges=exchanges,
        world_sizes=world_sizes,
        examples=examples,
        seed=seed,
        timeout_s=timeout_s,
        worlds=_session_worlds(),
    )
    if report.verdict != "pass":
        raise AssertionError(failure_text(report))
    return report


def failure_text(report: Report) -> str:
    """Return what a failing test shows: verdict, counterexamples with their diagnosis, ranks that failed."""
    from rich.console import Console

    from siglip_verify.report import render

    text = io.StringIO()
    render(report, Console(file=text, width=100, no_color=True, highlight=False))
    return text.getvalue()


@pytest.fixture
def world(request: pytest.FixtureRequest) -> World:
    """Gloo ranks for this test, as many as its `world_size` mark says; two without one."""
    return World(_worlds_of(request.config), getattr(request, "param", 2))


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark, and remember the session whose worlds `assert_equivalent` uses."""
    config.addinivalue_line("markers", MARKER)
    _configs.append(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End every process that the session started."""
    _configs.remove(config)
    if _WORLDS in config.stash:
        config.stash[_WORLDS].close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each of its world sizes."""
    mark = metafunc.definition.get_closest_marker("world_size")
    if mark is None:
        return
    if "world" not in metafunc.fixturenames:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: world_size marks tests that take the fixture `world`")
    if not mark.args or mark.kwargs or not all(isinstance(size, int) and size > 0 for size in mark.args):
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid}: world_size takes numbers of ranks, such as world_size(2, 4); "
            f"got {', '.join([*map(repr, mark.args), *(f'{k}={v!r}' for k, v in mark.kwargs.items())]) or 'none'}"
        )
    metafunc.parametrize("world", mark.args, indirect=True, ids=[f"W{size}" for size in mark.args])


_configs: list[pytest.Config] = []


def _session_worlds() -> Worlds | None:
    return _worlds_of(_configs[-1]) if _configs else None


def _worlds_of(config: pytest.Config) -> Worlds:
    if _WORLDS not in config.stash:
        from siglip_verify.world import Worlds

        config.stash[_WORLDS] = Worlds(timeout_s=DEFAULT_TIMEOUT_S)
    return config.stash[_WORLDS]
