"""All cases of one loss: cell by cell, with what is done when one fails or comes to no judgement.

Here: the order of the cells and the rules that end one early. Not here: the search within a cell (`search`), the
verdict of a case (`judge`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from siglip_verify.adapt import OURS
from siglip_verify.case import EXCHANGES, Case, Exchange, format_case
from siglip_verify.records import CaseResult, Cell, Counterexample, Quantity, Verdict, Worst
from siglip_verify.result import LossResult, worst
from siglip_verify.run.counting import message_table
from siglip_verify.run.declare import declaration, replay_line
from siglip_verify.run.events import CaseJudged, CellDone, Counting, Listener, LossStarted
from siglip_verify.run.judge import CaseJudge
from siglip_verify.run.limits import dimensions_of, load_traits, strided_case, strided_limit
from siglip_verify.run.search import Outcome, search
from siglip_verify.run.settings import LossPlan, Settings
from siglip_verify.run.strategies import allot, cases
from siglip_verify.world import Worlds

UNKNOWNS_ALLOWED = 1  # a second one ends the exchange


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
        LossSpecError: The loss cannot be loaded or used as declared.
    """

    def __init__(self, worlds: Worlds, plan: LossPlan, settings: Settings, listener: Listener) -> None:
        self._worlds = worlds
        self._spec = plan.spec
        self._settings = settings
        self._listener = listener
        self._traits = load_traits(worlds, plan.spec)
        self._dimensions, self._left_out = dimensions_of(plan.spec, self._traits)
        self._judge_case = CaseJudge(worlds, plan.spec, self._traits, planned=plan.spec.target == OURS)
        self._allotted = allot(plan.examples, settings.world_sizes)
        self._exchanges = settings.exchanges if self._traits.takes_exchange else settings.exchanges[:1]
        self._cells: list[Cell] = []
        self._counterexamples: list[Counterexample] = []
        self._unknowns: list[CaseResult] = []
        self._judged_a_group = False

    def __call__(self) -> LossResult:
        """Run every cell and return what was found."""
        spec = self._spec
        self._listener(LossStarted(spec.name, sum(self._allotted.values()) * len(self._exchanges)))
        for exchange in self._exchanges:
            self._run_exchange(exchange)
        self._try_strided_features()
        return LossResult(
            name=spec.name,
            target=spec.target,
            declared=declaration(spec),
            verdict=worst(
                [*(cell.verdict for cell in self._cells), *(f.result.verdict for f in self._counterexamples)]
            ),
            cells=tuple(self._cells),
            counterexamples=tuple(self._counterexamples),
            unknowns=tuple(self._unknowns),
            left_out=tuple(self._left_out),
            messages=tuple(message_table(self._worlds, spec, self._traits, self._steps_to_count())),
        )

    def _steps_to_count(self) -> Iterator[tuple[Exchange, int]]:
        """Say where a step can be counted: where cases came to a judgement, without a rank that hung or died."""
        for cell in self._cells:
            if cell.cases and not cell.unknown_cases:
                self._listener(Counting(self._spec.name, cell.exchange, cell.world_size))
                yield cell.exchange, cell.world_size

    def _try_strided_features(self) -> None:
        """Try on one case an exchange what losses of this interface do not promise; it is listed and not judged."""
        sizes = [world_size for world_size in self._settings.world_sizes if world_size > 1]
        if "transposed" in self._dimensions.layouts or not sizes or not self._judged_a_group:
            return
        for exchange in self._exchanges:
            result = self._judge_case(strided_case(exchange, sizes[0]))
            if result.verdict == "mismatch":
                self._add_counterexample(result)
            else:
                self._left_out.append(strided_limit(result))

    def _add_counterexample(self, result: CaseResult, calls: int = 0, *, reproducible: bool = True) -> None:
        replay = replay_line(result.case, self._spec)
        self._counterexamples.append(
            Counterexample(result=result, replay=replay, calls=calls, reproducible=reproducible)
        )

    def _run_exchange(self, exchange: Exchange) -> None:
        unknown: list[CaseResult] = []
        mismatch_found = False
        ended = ""
        if len(self._unknowns) > UNKNOWNS_ALLOWED and not self._judged_a_group:
            ended = "not run: no case of this loss with two or more ranks came to a judgement"
        for world_size, examples in self._allotted.items():
            if ended:
                self._add(Outcome(), exchange, world_size, unknown=0, note=ended)
                continue
            before = len(unknown)
            outcome = Outcome()
            try:
                search(
                    cases(exchange, [world_size], self._dimensions),
                    lambda case, outcome=outcome: self._judge(case, unknown, outcome),
                    outcome,
                    examples=examples,
                    seed=self._settings.seed + world_size * len(EXCHANGES) + EXCHANGES.index(exchange),
                    shrink=not mismatch_found,
                )
            except _ExchangeEnded:
                ended = f"ended: {len(unknown)} cases of {exchange} came to no judgement"
            self._add(outcome, exchange, world_size, unknown=len(unknown) - before, note=ended)
            if outcome.smallest is not None and not mismatch_found:
                mismatch_found = True
                self._add_counterexample(outcome.smallest, outcome.shrink_calls, reproducible=outcome.reproducible)
        self._unknowns.extend(unknown)

    def _judge(self, case: Case, unknown: list[CaseResult], outcome: Outcome) -> CaseResult:
        result = self._judge_case(case)
        self._listener(CaseJudged(self._spec.name, result, shrinking=outcome.first is not None))
        if result.verdict == "unknown":
            unknown.append(result)
            if len(unknown) > UNKNOWNS_ALLOWED:
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
            elapsed_s=sum(result.elapsed_s for result in outcome.results.values()),
            note=note,
        )
        self._cells.append(cell)
        self._listener(CellDone(self._spec.name, cell, self._allotted[world_size]))


def worst_shares(results: Iterable[CaseResult]) -> dict[Quantity, Worst]:
    """Return the worst share of each quantity over some cases, and the case that gave it."""
    found: dict[Quantity, Worst] = {}
    for result in results:
        for share in result.shares:
            if share.quantity not in found or not share.share <= found[share.quantity].share:
                found[share.quantity] = Worst(share=share.share, case=format_case(result.case))
    return found
