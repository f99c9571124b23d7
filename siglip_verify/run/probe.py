"""The coverage probe of an exchange: which blocks a loss counts, run for the report whether it passes or not."""

from __future__ import annotations

from typing import NamedTuple

from siglip_verify.case import Case, DType, Exchange
from siglip_verify.checks.coverage import coverage, probe_cases
from siglip_verify.checks.expected import normalizers
from siglip_verify.records import CaseResult
from siglip_verify.result import BlockCoverage
from siglip_verify.run.judge import CaseJudge

LARGEST_WORLD_SIZE = 8  # a picture that can still be read


class Probed(NamedTuple):
    """What the probe saw, if its runs ended, and what was found wrong in either of them."""

    seen: BlockCoverage | None
    wrong: tuple[CaseResult, ...]


def probe(judge: CaseJudge, exchange: Exchange, world_size: int, dtype: DType = "float64") -> Probed:
    """Run the two cases of the probe, judge them as any other, and solve them for what is counted.

    Args:
        judge: Judges cases of the loss.
        exchange: Which exchange.
        world_size: W.
        dtype: Of the features, where the loss does not take the widest.
    """
    cases = probe_cases(Case(exchange=exchange, world_size=world_size, dtype=dtype, seed=1))
    runs = [judge.watch(case) for case in cases]
    wrong = tuple(watched.result for watched in runs if watched.result.verdict != "pass")
    first, second = (watched.records for watched in runs)
    if not first or not second:
        return Probed(None, wrong)
    solved = coverage(cases[0], first, second, normalizers(cases[0], judge.spec))
    return Probed(BlockCoverage(exchange=exchange, world_size=world_size, matrices=solved.matrices()), wrong)
