"""The ledger: every statement measured and answered, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from siglip_verify.claims import blocks, cost, hops, softmax_beside, trained
from siglip_verify.claims.result import Finding, Ledger, Row
from siglip_verify.claims.statement import Lab, Statement
from siglip_verify.errors import UsageError
from siglip_verify.run.environment import environment
from siglip_verify.world import WorldError, Worlds

_MODULES = (hops, cost, softmax_beside, trained, blocks)
_ORDER = (
    "bidir-steps",
    "bidir-most-efficient",
    "shift-steps",
    "shift-slightly-slower",
    "reduce-one-at-a-time",
    "reduce-less-efficient",
    "gather-most-memory",
    "gather-simplest",
    "pairs-independent",
    "memory-below-softmax",
    "bias-needed",
    "features-normalised",
    "local-and-remote-blocks",
)
_BY_ID: dict[str, Statement[Any]] = {each.id: each for module in _MODULES for each in module.STATEMENTS}
STATEMENTS: dict[str, Statement[Any]] = {name: _BY_ID[name] for name in _ORDER}
"""By id, as they are told."""


def check_claims(
    worlds: Worlds, only: Iterable[str] = (), progress: Callable[[Row], object] = lambda row: None
) -> Ledger:
    """Check what is said of the loss, statement by statement.

    A statement whose measurement cannot be made here (a rank fails, scikit-learn is missing) is answered with that.

    Args:
        worlds: Where the ranks are.
        only: Ids of statements; none means all.
        progress: Called with each row.

    Raises:
        UsageError: There is no such statement.
    """
    names = list(only) or list(STATEMENTS)
    for name in names:
        if name not in STATEMENTS:
            raise UsageError(f"a statement is one of {', '.join(STATEMENTS)}; got {name!r}")
    started = time.perf_counter()
    lab = Lab(worlds)
    rows: list[Row] = []
    for name in names:
        rows.append(row_of(STATEMENTS[name], lab))
        progress(rows[-1])
    return Ledger(rows=tuple(rows), elapsed_s=time.perf_counter() - started, environment=environment())


def row_of(statement: Statement[Any], lab: Lab) -> Row:
    """Measure and answer one statement."""
    started = time.perf_counter()
    try:
        finding = statement.judge(statement.measure(lab))
    except (UsageError, WorldError) as error:
        finding = Finding(answer="not checkable here", because=" ".join(str(error).split()))
    return Row(
        id=statement.id,
        says=statement.says,
        source=statement.source,
        how=statement.how,
        finding=finding,
        elapsed_s=time.perf_counter() - started,
    )
