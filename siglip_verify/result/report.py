"""The finished result of a run: one object, from which every report is rendered."""

from __future__ import annotations

import msgspec

from siglip_verify.case import Exchange
from siglip_verify.records import CaseResult, Cell, Counterexample, Matrix, Verdict
from siglip_verify.result.catalogue import CatalogueResult
from siglip_verify.result.compare import Modelled, StepCost
from siglip_verify.result.messages import MessageRow, StepMessages

SCHEMA_VERSION = 2


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was not checked on a loss, and why."""

    what: str
    why: str


class BlockCoverage(msgspec.Struct, frozen=True, kw_only=True):
    """Which rank counts, hears and labels whose texts in one exchange, counted by the coverage probe.

    Attributes:
        exchange: The exchange.
        world_size: W.
        matrices: How often rank i counts rank j's texts in forward, and how often rank j hears of it in backward; then
            how many of these texts are labelled as matches, as either tells.
    """

    exchange: Exchange
    world_size: int
    matrices: tuple[Matrix, ...]


class LossResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of one loss.

    Attributes:
        name: What to call it.
        target: Where it is.
        declared: Its convention and arguments, in words.
        verdict: The worst over its cells.
        cells: One for each exchange and world size.
        counterexamples: Shrunk; at most one for each exchange and world size.
        unknowns: Cases that came to no judgement.
        left_out: Dimensions that were not checked, and why.
        messages: What it sends, for the steps that were counted.
        sample_step: One of these steps, operation by operation: bidir where it was counted, at the largest W up to 5.
        coverage: Which blocks it counts, for each exchange that could be probed.
        costs: What its exchanges took and kept, at some world sizes.
    """

    name: str
    target: str
    declared: str
    verdict: Verdict
    cells: tuple[Cell, ...]
    counterexamples: tuple[Counterexample, ...] = ()
    unknowns: tuple[CaseResult, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    messages: tuple[MessageRow, ...] = ()
    sample_step: StepMessages | None = None
    coverage: tuple[BlockCoverage, ...] = ()
    costs: tuple[StepCost, ...] = ()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The finished result.

    Attributes:
        schema_version: Of this record; readers refuse another.
        verdict: mismatch if anything is one, else unknown if anything is, else pass.
        started_at: UTC, ISO 8601.
        elapsed_s: Wall-clock seconds of the run, measured.
        cases: Distinct cases judged, counted.
        environment: Versions and machine, in words.
        settings: The effective settings and where each came from.
        losses: One for each loss checked.
        catalogue: The same check held against known bugs; None where it was not.
        modelled: The exchanges on a cluster; None where it was not asked for.
    """

    schema_version: int = SCHEMA_VERSION
    verdict: Verdict
    started_at: str
    elapsed_s: float
    cases: int
    environment: dict[str, str]
    settings: dict[str, str]
    losses: tuple[LossResult, ...]
    catalogue: CatalogueResult | None = None
    modelled: Modelled | None = None

    @property
    def counterexamples(self) -> tuple[Counterexample, ...]:
        """Every counterexample, of every loss."""
        return tuple(found for loss in self.losses for found in loss.counterexamples)

    @property
    def unknowns(self) -> tuple[CaseResult, ...]:
        """Every case that came to no judgement, of every loss."""
        return tuple(case for loss in self.losses for case in loss.unknowns)

    @property
    def sample_step(self) -> StepMessages | None:
        """The sample step of the first loss that has one."""
        return next((loss.sample_step for loss in self.losses if loss.sample_step is not None), None)
