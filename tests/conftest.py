"""Fixtures that every test may use: warm worlds, once for each test process."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

from siglip_verify.world import Worlds

hypothesis.settings.register_profile(
    "tests",
    deadline=None,
    database=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],  # says how busy the machine is, not what is wrong
)
hypothesis.settings.load_profile("tests")


@pytest.fixture(scope="session")
def worlds() -> Iterator[Worlds]:
    """Warm gloo worlds that stay for the session."""
    with Worlds(timeout_s=60) as pool:
        yield pool
