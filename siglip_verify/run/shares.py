"""Errors as shares of their bounds, gathered from the cases of one cell."""

from __future__ import annotations

from collections.abc import Iterable

from siglip_verify.case import DType, format_case
from siglip_verify.records import CaseResult, DTypeShares, Quantity, Worst


def worst_shares(results: Iterable[CaseResult]) -> dict[Quantity, Worst]:
    """Return the worst share of each quantity over some cases, and the case that gave it."""
    found: dict[Quantity, Worst] = {}
    for result in results:
        for share in result.shares:
            if share.quantity not in found or not share.share <= found[share.quantity].share:
                found[share.quantity] = Worst(share=share.share, case=format_case(result.case))
    return found


def all_shares(results: Iterable[CaseResult]) -> dict[Quantity, tuple[float, ...]]:
    """Return the share of each quantity in every case, to three digits: what can be seen in a picture."""
    found: dict[Quantity, list[float]] = {}
    for result in results:
        for share in result.shares:
            found.setdefault(share.quantity, []).append(float(f"{share.share:.3g}"))
    return {quantity: tuple(shares) for quantity, shares in found.items()}


def shares_by_dtype(results: Iterable[CaseResult]) -> dict[DType, DTypeShares]:
    """Return how many cases had features of each dtype, and the worst share of each quantity in them."""
    of: dict[DType, list[CaseResult]] = {}
    for result in results:
        of.setdefault(result.case.dtype, []).append(result)
    return {
        dtype: DTypeShares(
            cases=sum(result.verdict != "unknown" for result in some),
            worst={quantity: worst.share for quantity, worst in worst_shares(some).items()},
        )
        for dtype, some in of.items()
    }
