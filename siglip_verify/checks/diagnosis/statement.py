"""What a hypothesis says once it holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from siglip_verify.checks.diagnosis.evidence import Evidence
from siglip_verify.records import Clue, Matrix


class Statement(NamedTuple):
    """A cause that was held against the numbers.

    Attributes:
        cause: Name of the cause, stable.
        sentence: What is wrong, without the world size.
        clues: What the sentence rests on.
        matrices: Pictures of its own.
    """

    cause: str
    sentence: str
    clues: tuple[Clue, ...] = ()
    matrices: tuple[Matrix, ...] = ()


Hypothesis = Callable[[Evidence], Statement | None]
