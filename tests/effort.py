"""How hard a property tries: a number of examples that the profile multiplies, so that none is left out of it."""

from __future__ import annotations

from hypothesis import settings

_IN_MAKE_TEST = 50


def examples(number: int) -> settings:
    """Draw so many examples in `make test`, and in another profile as many times more as it draws of others."""
    return settings(max_examples=max(1, number * settings.default.max_examples // _IN_MAKE_TEST))
