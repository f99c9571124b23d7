"""Fixtures that every test may use: warm worlds, once for each test process."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Generator, Iterator

import hypothesis
import pytest
import torch

from siglip_verify.cli import bugs, claims, train
from siglip_verify.run import whole
from siglip_verify.world import CHECKPOINTS, Worlds

torch.set_num_threads(1)  # with two in each of several test processes, diagnosis takes five times as long

NO_SHRINKING = (hypothesis.Phase.explicit, hypothesis.Phase.generate)  # a mutant is caught or not, by whatever example
for name, (examples, phases) in {
    "tests": (50, tuple(hypothesis.Phase)),  # `make test`
    "long": (500, tuple(hypothesis.Phase)),  # `make test-long`
    "mutants": (50, NO_SHRINKING),  # `make mutants`
}.items():
    hypothesis.settings.register_profile(
        name,
        max_examples=examples,
        phases=phases,
        deadline=None,
        database=None,
        derandomize="CI" in os.environ,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],  # says how busy the machine is, not what is wrong
    )
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tests"))

# A suite that a shell starts in the background ignores Ctrl-C, and so would the programs that it starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def worlds() -> Iterator[Worlds]:
    """Warm gloo worlds that stay for the session; jobs of test modules import what these import."""
    with Worlds(timeout_s=60, preload=(*CHECKPOINTS, "hypothesis.strategies", "pytest")) as pool:
        yield pool


@pytest.fixture
def warm(worlds: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let checks and commands of this process run on the session's worlds; to start their own takes seconds."""

    @contextlib.contextmanager
    def lent(timeout_s: float) -> Generator[Worlds]:
        usual_s, worlds.timeout_s = worlds.timeout_s, timeout_s
        try:
            yield worlds
        finally:
            worlds.timeout_s = usual_s

    for module in (whole, bugs, train, claims):
        monkeypatch.setattr(module, "Worlds", lent)
