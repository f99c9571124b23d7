"""The finished ledger: each statement with what came out, and the figures that it rests on.

Here: frozen records that survive JSON. Not here: any judgement (one module a subject).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from siglip_verify.result import Basis

SCHEMA_VERSION = 1

Answer = Literal["holds", "holds with a condition", "does not hold", "not checkable here"]


class Figure(msgspec.Struct, frozen=True):
    """One number that an answer rests on.

    Attributes:
        what: What it is of, and where.
        value: The number.
        unit: Its unit; empty for a plain number or share.
        basis: counted, measured or modelled.
    """

    what: str
    value: float
    unit: str
    basis: Basis


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What came out of checking a statement.

    Attributes:
        answer: In a few words.
        because: In a sentence or two, with the decisive figures.
        figures: All of them.
    """

    answer: Answer
    because: str
    figures: tuple[Figure, ...] = ()


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One statement of the ledger.

    Attributes:
        id: Its name.
        says: The statement.
        source: Who makes it.
        how: How it was checked, and by what rule it is answered.
        finding: What came out.
        elapsed_s: Seconds, measured.
    """

    id: str
    says: str
    source: str
    how: str
    finding: Finding
    elapsed_s: float


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """The finished result.

    Attributes:
        schema_version: Of this record.
        rows: One for each statement.
        elapsed_s: Seconds, measured.
        environment: Versions and machine, in words.
    """

    schema_version: int = SCHEMA_VERSION
    rows: tuple[Row, ...]
    elapsed_s: float
    environment: dict[str, str]
