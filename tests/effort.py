"""How hard a property tries: a number of examples that the profile multiplies, so that none is left out of it."""

from __future__ import annotations

from hypothesis import settings

_USUAL = 50


def examples(number: int) -> settings:
    """Draw so many examples where a profile draws 50 of others, and in proportion where it draws more or fewer."""
    return settings(max_examples=max(1, number * settings.default.max_examples // _USUAL))
