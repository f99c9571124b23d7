"""Warm worlds for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from siglip_verify.world import Worlds


@pytest.fixture(scope="session")
def worlds() -> Iterator[Worlds]:
    with Worlds(timeout_s=30) as worlds:
        yield worlds
