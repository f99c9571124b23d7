"""All cases of one loss: cell by cell, with what is done when one fails or comes to no judgement.

Here: the order of the cells and the rules that end one early. Not here: the search within a cell (`search`), the
verdict of a case (`judge`).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

import msgspec

from siglip_verify.adapt import OURS, LossSpec, LossSpecError, Traits
from siglip_verify.case import EXCHANGES, Case, Exchange, format_case
from siglip_verify.records import CaseResult, Cell, Counterexample, Quantity, Verdict, Worst
from siglip_verify.result import LeftOut, LossResult, worst
from siglip_verify.run import step
from siglip_verify.run.counting import message_table
from siglip_verify.run.events import CaseJudged, CellDone, Counting, Listener, LossStarted
from siglip_verify.run.judge import CaseJudge
from siglip_verify.run.search import Outcome, search
from siglip_verify.run.settings import LossPlan, Settings
from siglip_verify.run.strategies import Dimensions, allot, cases
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
        return LossResult(
            name=spec.name,
            target=spec.target,
            declared=declaration(spec),
            verdict=worst([cell.verdict for cell in self._cells]),
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
                self._counterexamples.append(
                    Counterexample(
                        result=outcome.smallest,
                        replay=replay_line(outcome.smallest.case, self._spec),
                        calls=outcome.shrink_calls,
                        reproducible=outcome.reproducible,
                    )
                )
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


def run_one(worlds: Worlds, spec: LossSpec, case: Case, listener: Listener) -> LossResult:
    """Judge one case of a loss, and return it as a result of one cell.

    Raises:
        LossSpecError: The loss cannot be loaded or used as declared.
    """
    traits = load_traits(worlds, spec)
    listener(LossStarted(spec.name, 1))
    result = CaseJudge(worlds, spec, traits, planned=spec.target == OURS)(case)
    listener(CaseJudged(spec.name, result, shrinking=False))
    cell = Cell(
        exchange=case.exchange,
        world_size=case.world_size,
        verdict=result.verdict,
        cases=int(result.verdict != "unknown"),
        unknown_cases=int(result.verdict == "unknown"),
        worst=worst_shares([result]),
        elapsed_s=result.elapsed_s,
    )
    listener(CellDone(spec.name, cell, 1))
    found = Counterexample(result=result, replay=replay_line(case, spec), calls=0)
    return LossResult(
        name=spec.name,
        target=spec.target,
        declared=declaration(spec),
        verdict=result.verdict,
        cells=(cell,),
        counterexamples=(found,) if result.verdict == "mismatch" else (),
        unknowns=(result,) if result.verdict == "unknown" else (),
    )


def load_traits(worlds: Worlds, spec: LossSpec) -> Traits:
    """Load a loss in a rank and return what it takes.

    Raises:
        LossSpecError: It cannot be loaded.
    """
    (reply,) = worlds.run(1, step.traits, spec)
    if isinstance(reply, step.Rejected):
        raise LossSpecError(reply.why)
    return reply


def dimensions_of(spec: LossSpec, traits: Traits) -> tuple[Dimensions, list[LeftOut]]:
    """Return the values that a loss's cases may take, and what is left out because the loss does not take it."""
    of, left_out = Dimensions(), list[LeftOut]()
    if spec.target != OURS:
        of = msgspec.structs.replace(of, layouts=("contiguous",), scalars=("0-dim",))
        left_out += [
            LeftOut(what="strided features", why="not promised by losses of this interface; judged on contiguous ones"),
            LeftOut(
                what="scale and bias of another dtype or of shape [1]", why="not promised by losses of this interface"
            ),
        ]
    if not traits.takes_chunk_size:
        of = msgspec.structs.replace(of, chunk_sizes=(0,))
        left_out.append(LeftOut(what="chunk_size", why="the loss takes none"))
    if not traits.takes_exchange:
        left_out.append(LeftOut(what="exchanges", why="the loss takes none: its cases stand under the first one named"))
    if not spec.row_wise:
        of = msgspec.structs.replace(of, upstream=("one", "scaled"))
        left_out.append(LeftOut(what="upstream gradients that differ by rank", why="local values are not row-wise"))
    if spec.log_scale:
        of = msgspec.structs.replace(of, regimes=tuple(regime for regime in of.regimes if regime[0] > 0))
        left_out.append(LeftOut(what="zero and negative scale", why="the loss keeps the logarithm of its scale"))
    return of, left_out


def worst_shares(results: Iterable[CaseResult]) -> dict[Quantity, Worst]:
    """Return the worst share of each quantity over some cases, and the case that gave it."""
    found: dict[Quantity, Worst] = {}
    for result in results:
        for share in result.shares:
            if share.quantity not in found or not share.share <= found[share.quantity].share:
                found[share.quantity] = Worst(share=share.share, case=format_case(result.case))
    return found


def declaration(spec: LossSpec) -> str:
    """Return what was declared of a loss, in words."""
    words = [f"{spec.reduction} over ranks of sums divided by {spec.normalizer}"]
    if not spec.row_wise:
        words.append("local values not row-wise")
    if spec.scale_parameter:
        words.append(f"own parameters {spec.scale_parameter} and {spec.bias_parameter}")
    words.extend(f"{name}={value}" for name, value in spec.args.items())
    return ", ".join(words)


def replay_line(case: Case, spec: LossSpec) -> str:
    """Return the shell line that runs one case of a loss again."""
    words = ["siglip-verify", "replay", format_case(case), *declared_flags(spec)]
    return shlex.join(words)


def declared_flags(spec: LossSpec) -> list[str]:
    """Return the flags that declare a loss on the command line; none for ours."""
    default = LossSpec()
    flags: list[str] = []
    if spec.target != OURS:
        flags += ["--loss", spec.target]
    for name, value in spec.args.items():
        flags += ["--arg", f"{name}={value}"]
    for field in ("reduction", "normalizer", "scale_parameter", "bias_parameter"):
        if getattr(spec, field) != getattr(default, field):
            flags += [f"--{field.replace('_', '-')}", str(getattr(spec, field))]
    if not spec.row_wise:
        flags.append("--no-row-wise")
    if spec.log_scale:
        flags.append("--log-scale")
    return flags
