"""All cases of one loss: cell by cell, with what is done when one fails or comes to no judgement.

Here: the order of the cells and the rules that end one early. Not here: the search within a cell (`search`), the
verdict of a case (`judge`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from siglip_verify import given
from siglip_verify.adapt import LossSpecError
from siglip_verify.case import EXCHANGES, Case, Exchange, itemsize
from siglip_verify.checks.counts import message_row
from siglip_verify.checks.memory import flat
from siglip_verify.records import CaseResult, Cell, Counterexample, Verdict
from siglip_verify.result import BlockCoverage, LeftOut, LossResult, StepCost, StepMessages, worst
from siglip_verify.run import cost, probe
from siglip_verify.run.counting import count_step, sample_of, table_case, unknown_operations
from siglip_verify.run.declare import (
    check_line,
    exchanges_of,
    form_of,
    judged_declaration,
    promises_flat_memory,
    replay_line,
    shown_target,
    with_own_checks,
)
from siglip_verify.run.diagnose import diagnose_mismatch
from siglip_verify.run.events import CaseJudged, CellDone, Counting, Listener, LossStarted
from siglip_verify.run.judge import CaseJudge
from siglip_verify.run.limits import dimensions_of, load_traits, strided_case, strided_limit
from siglip_verify.run.search import Outcome, hung, search
from siglip_verify.run.settings import LossPlan, Settings
from siglip_verify.run.shares import all_shares, shares_by_dtype, worst_shares
from siglip_verify.run.strategies import allot, cases
from siglip_verify.world import WorldError, Worlds

UNKNOWNS_ALLOWED = 1  # a second one ends the exchange
HANGS_ALLOWED = 1  # likewise of mismatches that only the deadline ended


class _ExchangeEnded(BaseException):  # not an Exception: Hypothesis would shrink it
    """Too many cases of this exchange came to no judgement."""


class LossRun:
    """Checks one loss on every exchange and world size that the settings name.

    Cells are run exchange by exchange, world sizes ascending, so the first failing cell of an exchange has the
    smallest failing W; that one is shrunk. Larger world sizes are still searched, without shrinking: which of them
    fail is the plainest hint to the cause.

    A second case without judgement ends its exchange. If by then not one case with two or more ranks was judged, the
    loss cannot be run at all, and its other exchanges are not tried.

    Raises:
        LossSpecError: The loss cannot be loaded or used as declared. Once a mismatch was found, the result says that.
    """

    def __init__(self, worlds: Worlds, plan: LossPlan, settings: Settings, listener: Listener) -> None:
        self._worlds = worlds
        self._spec = plan.spec
        self._settings = settings
        self._listener = listener
        self._traits = load_traits(worlds, plan.spec)
        self._dimensions, self._left_out = dimensions_of(plan.spec, self._traits)
        self._judge_case = CaseJudge(worlds, with_own_checks(plan.spec), self._traits)
        self._allotted = allot(plan.examples, settings.world_sizes)
        self._exchanges = settings.exchanges if self._traits.takes_exchange else settings.exchanges[:1]
        if has := exchanges_of(plan.spec, self._exchanges):  # without one the loss itself says why
            if lacking := [each for each in self._exchanges if each not in has]:
                self._left_out.append(LeftOut(what=", ".join(lacking), why="exchanges that have no such form"))
            self._exchanges = has
        self._cells: list[Cell] = []
        self._counterexamples: list[Counterexample] = []
        self._unknowns: list[CaseResult] = []
        self._judged_a_group = False
        self._failed: set[tuple[Exchange, int]] = set()  # where a rank gave no record

    def __call__(self) -> LossResult:
        """Run every cell and return what was found."""
        spec = self._spec
        self._listener(LossStarted(spec.name, sum(self._allotted.values()) * len(self._exchanges)))
        for exchange in self._exchanges:
            self._run_exchange(exchange)
        counted: list[StepMessages] = []
        coverage: list[BlockCoverage] = []
        costs: list[StepCost] = []
        with self._keeping_what_was_found("strided features"):
            self._try_strided_features()
        with self._keeping_what_was_found("messages"):
            counted = self._count_steps()
        with self._keeping_what_was_found("which blocks are counted"):
            coverage = self._probe()
        with self._keeping_what_was_found("times"):
            costs = self._measure()
            self._judge_kept(costs)
        return LossResult(
            name=spec.name,
            target=shown_target(spec),
            declared=judged_declaration(spec),
            verdict=worst(
                [
                    *(cell.verdict for cell in self._cells),
                    *(found.result.verdict for found in self._counterexamples),
                    *(result.verdict for result in self._unknowns),
                ]
            ),
            cells=tuple(self._cells),
            counterexamples=tuple(self._counterexamples),
            unknowns=tuple(self._unknowns),
            left_out=(*self._left_out, *unknown_operations(counted)),
            messages=tuple(
                message_row(
                    step.case,
                    step.events,
                    step.wire,
                    form=form_of(spec, self._worlds.gather_backward),
                    has_plan=self._traits.takes_exchange,
                )
                for step in counted
            ),
            sample_step=sample_of(counted),
            coverage=tuple(coverage),
            costs=tuple(costs),
        )

    @contextlib.contextmanager
    def _keeping_what_was_found(self, what: str) -> Generator[None]:
        """Say what could not be run and why, where a mismatch would be lost with the error; else let it out."""
        try:
            yield
        except (LossSpecError, WorldError) as error:
            if not self._counterexamples:
                raise
            self._left_out.append(LeftOut(what=what, why=f"not run: {error}"))

    def _count_steps(self) -> list[StepMessages]:
        """Count a step of every exchange and world size where no rank failed; what is wrong there counts as a case."""
        steps: list[StepMessages] = []
        for cell in self._ended():
            self._listener(Counting(self._spec.name, cell.exchange, cell.world_size))
            case = table_case(cell.exchange, cell.world_size, self._dimensions.dtypes)
            step = count_step(self._worlds, self._spec, self._traits, case)
            if cell.verdict == "pass":
                self._take_in(
                    CaseResult(case=case, verdict=step.verdict, findings=step.findings, failures=step.failures)
                )
            if not step.failures:
                steps.append(step)
        return steps

    def _ended(self) -> list[Cell]:
        """Return the cells in which cases were judged and no rank failed: further steps will end there too."""
        if self._worlds.lost:
            return []
        return [cell for cell in self._cells if cell.cases and (cell.exchange, cell.world_size) not in self._failed]

    def _probe(self) -> list[BlockCoverage]:
        """Probe each exchange at the largest W at which a picture can be read."""
        seen: list[BlockCoverage] = []
        for exchange in self._exchanges:
            cells = [c for c in self._ended() if c.exchange == exchange and c.world_size <= probe.LARGEST_WORLD_SIZE]
            for cell in cells[-1:]:
                self._listener(Counting(self._spec.name, exchange, cell.world_size))
                probed = probe.probe(self._judge_case, exchange, cell.world_size, self._dimensions.dtypes[0])
                seen += [probed.seen] if probed.seen is not None else []
                if cell.verdict == "pass":
                    for result in probed.wrong[:1]:
                        self._take_in(result)
        return seen

    def _measure(self) -> list[StepCost]:
        """Time a step of each exchange that passes, and count what it keeps; a rank that fails gives no judgement."""
        costs: list[StepCost] = []
        for world_size in cost.timed_world_sizes(self._settings.world_sizes):
            passed = [c for c in self._ended() if c.world_size == world_size and c.verdict == "pass"]
            cases = [table_case(cell.exchange, world_size, self._dimensions.dtypes) for cell in passed]
            for case in cases[:1]:
                self._listener(Counting(self._spec.name, case.exchange, world_size))
            try:
                costs += cost.step_costs(self._worlds, self._spec, self._traits, cases)
            except WorldError as error:
                if not error.failures:
                    raise
                self._take_in(CaseResult(case=cases[0], verdict="unknown", failures=error.failures))
        return costs

    def _judge_kept(self, costs: list[StepCost]) -> None:
        """Judge what steps keep, where the form of the loss promises that it does not grow with W."""
        if not promises_flat_memory(self._spec):
            self._left_out.append(
                LeftOut(what="memory", why="this loss promises nothing of it here: it is counted only")
            )
            return
        for exchange in self._exchanges:
            kept = {each.world_size: each.kept_bytes for each in costs if each.exchange == exchange}
            case = table_case(exchange, max(kept, default=1), self._dimensions.dtypes)
            if findings := flat(kept, case.batch * case.dim * itemsize(case.dtype)):
                sizes = ",".join(map(str, kept))
                self._add_counterexample(
                    CaseResult(case=case, verdict="mismatch", findings=tuple(findings)),
                    replay=check_line(exchange, sizes, self._spec, self._settings.timeout_s),
                )

    def _take_in(self, result: CaseResult) -> None:
        """Add what is wrong with a step beside the cases, where those of its cell showed nothing."""
        if result.verdict == "mismatch":
            self._add_counterexample(result)
        elif result.verdict == "unknown":
            self._unknowns.append(result)

    def _try_strided_features(self) -> None:
        """Try on one case an exchange what losses of this interface do not promise; it is listed and not judged."""
        if "transposed" in self._dimensions.layouts:
            return
        for exchange in self._exchanges:
            passed = [c.world_size for c in self._cells if c.exchange == exchange and c.verdict == "pass"]
            if self._worlds.lost:
                return
            several = [world_size for world_size in passed if world_size > 1]
            if not several or len(passed) < len(self._settings.world_sizes):
                continue  # what fails on contiguous features says nothing on strided ones
            result = self._judge_case(strided_case(exchange, several[0], self._dimensions.dtypes[0]))
            if result.verdict == "mismatch":
                self._add_counterexample(result)
            else:
                self._left_out.append(strided_limit(result))

    def _add_counterexample(
        self, result: CaseResult, calls: int = 0, *, reproducible: bool = True, replay: str = ""
    ) -> None:
        """Add a case that fails, diagnosed; its exchange's cells should be done, for they say at which W it fails."""
        fails_at = [c.world_size for c in self._cells if c.exchange == result.case.exchange and c.verdict == "mismatch"]
        self._counterexamples.append(
            Counterexample(
                result=result,
                replay=replay or replay_line(result.case, self._spec, self._settings.timeout_s),
                calls=calls,
                reproducible=reproducible,
                diagnosis=diagnose_mismatch(self._judge_case, result, fails_at),
            )
        )

    def _run_exchange(self, exchange: Exchange) -> None:
        unknown: list[CaseResult] = []
        found: Outcome | None = None  # the first search that ends in a mismatch, at the smallest W
        found_given: list[CaseResult] = []
        ended, hangs = "", 0
        if len(self._unknowns) > UNKNOWNS_ALLOWED and not self._judged_a_group:
            ended = "not run: no case of this loss with two or more ranks came to a judgement"
        if self._worlds.lost:
            ended = f"not run: {self._worlds.lost}"
        for world_size, examples in self._allotted.items():
            if ended:
                self._add(Outcome(), exchange, world_size, unknown=0, note=ended)
                continue
            before = len(unknown)
            outcome = Outcome()
            try:
                found_given += self._judge_given(exchange, world_size, unknown, outcome)
                search(
                    cases(exchange, [world_size], self._dimensions),
                    lambda case, outcome=outcome: self._judge(case, unknown, outcome),
                    outcome,
                    examples=examples,
                    seed=self._settings.seed + world_size * len(EXCHANGES) + EXCHANGES.index(exchange),
                    shrink=found is None,
                )
            except _ExchangeEnded:
                why = self._worlds.lost or f"{len(unknown)} cases of {exchange} came to no judgement"
                ended = f"ended: {why}"
            except LossSpecError as error:
                if not (outcome.smallest or found or found_given or self._counterexamples):
                    raise
                ended = f"ended: {error}"
            hangs += outcome.smallest is not None and hung(outcome.smallest)
            if hangs > HANGS_ALLOWED:
                ended = f"ended: {hangs} cases of {exchange} hung, with findings that say why"
            self._add(outcome, exchange, world_size, unknown=len(unknown) - before, note=ended)
            if found is None and outcome.smallest is not None:
                found = outcome
        self._unknowns.extend(unknown)
        for result in found_given[:1]:
            self._add_counterexample(result)
        if found is not None and found.smallest is not None:
            self._add_counterexample(found.smallest, found.shrink_calls, reproducible=found.reproducible)

    def _judge_given(
        self, exchange: Exchange, world_size: int, unknown: list[CaseResult], outcome: Outcome
    ) -> list[CaseResult]:
        """Judge the user's own batch, where there is one and this world size divides it; return it where it fails."""
        if self._settings.features is None:
            return []
        for case in given.cases(self._settings.features, exchange, [world_size]).values():
            outcome.results[case] = self._judge(case, unknown, outcome)
        return [result for result in outcome.results.values() if result.verdict == "mismatch"]

    def _judge(self, case: Case, unknown: list[CaseResult], outcome: Outcome) -> CaseResult:
        result = self._judge_case(case)
        self._listener(CaseJudged(self._spec.name, result, shrinking=outcome.first is not None))
        if result.failures:
            self._failed.add((case.exchange, case.world_size))
        if result.verdict == "unknown":
            unknown.append(result)
            if len(unknown) > UNKNOWNS_ALLOWED or self._worlds.lost:
                raise _ExchangeEnded
        elif case.world_size > 1:
            self._judged_a_group = True
        return result

    def _add(self, outcome: Outcome, exchange: Exchange, world_size: int, *, unknown: int, note: str) -> None:
        verdicts: list[Verdict] = [result.verdict for result in outcome.results.values()]
        if unknown:
            verdicts.append("unknown")
        cell = Cell(
            exchange=exchange,
            world_size=world_size,
            verdict=worst(verdicts),
            cases=sum(verdict != "unknown" for verdict in verdicts),
            unknown_cases=unknown,
            worst=worst_shares(outcome.results.values()),
            shares=all_shares(outcome.results.values()),
            by_dtype=shares_by_dtype(outcome.results.values()),
            elapsed_s=sum(result.elapsed_s for result in outcome.results.values()),
            note=note,
        )
        self._cells.append(cell)
        self._listener(CellDone(self._spec.name, cell, self._allotted[world_size]))
