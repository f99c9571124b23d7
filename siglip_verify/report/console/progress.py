"""A listener that shows a run while it goes on.

On a terminal: one moving picture. Elsewhere: one line for each exchange and world size. A run that is broken off leaves
what it had found. Not here: the finished result (`final`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as RichTable
from rich.text import Text

from siglip_verify.case import Case
from siglip_verify.records import CaseResult, Cell
from siglip_verify.report import sections, words
from siglip_verify.report.console import final
from siglip_verify.result import LossResult
from siglip_verify.run.events import (
    CaseJudged,
    CellDone,
    Counting,
    Event,
    LossDone,
    LossStarted,
    Planted,
    RunDone,
    RunStarted,
)

_REFRESHES_PER_SECOND = 8


class Progress(msgspec.Struct, kw_only=True):
    """What is known of one loss while its cases are run.

    Attributes:
        name: What to call it.
        planned: Cases that lie ahead at most.
        settled: Of those, how many belong to cells that are done, whether they were run or not.
        judged: Cases judged.
        in_cell: Of those, how many in the cell under way.
        now: What is under way.
        nearest: The worst share so far.
        cells: The cells that are done.
        mismatches: For each exchange the case that failed last: the smallest so far.
        unknowns: Cases that came to no judgement.
        started_s: On the listener's clock.
        result: Everything there is to say, at the end.
    """

    name: str
    planned: int
    started_s: float
    settled: int = 0
    judged: int = 0
    in_cell: int = 0
    now: str = "starting"
    nearest: words.Nearest | None = None
    cells: list[Cell] = []
    mismatches: dict[str, CaseResult] = {}
    unknowns: list[CaseResult] = []
    result: LossResult | None = None

    def case_judged(self, result: CaseResult, *, shrinking: bool) -> None:
        """Take in the judgement of one case."""
        case = result.case
        self.now = f"{'shrinking ' if shrinking else ''}{case.exchange}, W = {case.world_size}"
        if result.verdict == "mismatch" and self._is_smaller(case, shrinking):
            self.mismatches[case.exchange] = result
        if shrinking:
            return
        self.judged += 1
        self.in_cell += 1
        if result.verdict == "unknown":
            self.unknowns.append(result)
        largest = words.worst_share(result.shares)
        if largest and (not self.nearest or words.severity(largest.share) > words.severity(self.nearest.share)):
            self.nearest = words.Nearest(largest.share, largest.quantity, str(case))

    def cell_done(self, cell: Cell, planned_cases: int) -> None:
        """Take in that a cell is done."""
        self.cells.append(cell)
        self.settled += planned_cases
        self.in_cell = 0

    def _is_smaller(self, case: Case, shrinking: bool) -> bool:
        """Whether a failing case is the first of its exchange, or comes of shrinking that one."""
        known = self.mismatches.get(case.exchange)
        return known is None or (shrinking and known.case.world_size == case.world_size)

    @property
    def done(self) -> int:
        """How many of the planned cases are behind us."""
        return min(self.settled + self.in_cell, self.planned)


class ConsoleListener:
    """Show the events of a run: `with ConsoleListener(console) as listener: report = run(settings, listener)`.

    The finished result is for `render(report, console)`. If the block is left before there is one, by Ctrl-C or an
    exception, what was found by then is printed: the cells that are done, the failing cases, those without judgement.

    Args:
        console: Where to; rich takes its width, colours and NO_COLOR from the environment. Nothing moves unless it is
            a terminal and the listener is used as a context manager.
        clock: Seconds, for elapsed times.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._losses: list[Progress] = []
        self._finished = False
        self._live: Live | None = None
        self._planted = ""
        self._started_s = clock()

    def __enter__(self) -> ConsoleListener:
        self._started_s = self._clock()
        if self._console.is_interactive and self._console.file.isatty():
            self._live = Live(
                console=self._console,
                get_renderable=self._picture,
                refresh_per_second=_REFRESHES_PER_SECOND,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_moving()
        if not self._finished and self._losses:
            self._broken_off()

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case RunStarted():
                self._line("starting processes; cases are counted, errors and seconds are measured")
            case LossStarted():
                progress = Progress(name=words.one_line(event.name), planned=event.cases, started_s=self._clock())
                self._losses.append(progress)
                self._line(f"{progress.name}: at most {words.plural(event.cases, 'case')}")
            case CaseJudged():
                self._case_judged(event)
            case CellDone():
                self._losses[-1].cell_done(event.cell, event.planned_cases)
                self._line(_cell_line(event.cell))
            case Counting():
                self._losses[-1].now = f"counting messages of {event.exchange}, W = {event.world_size}"
            case LossDone():
                self._losses[-1].result = event.result
            case Planted():
                self._planted = sections.bug_line(event.result)
                self._line(self._planted)
            case RunDone():
                is_moving = self._live is not None
                self._stop_moving()
                self._finished = True
                if not is_moving:
                    final.say(self._console)  # apart from the log

    def _case_judged(self, event: CaseJudged) -> None:
        progress, case = self._losses[-1], event.result.case
        progress.case_judged(event.result, shrinking=event.shrinking)
        if event.result.verdict != "pass" and not event.shrinking:
            self._line(f"  {case.exchange} W={case.world_size}: {event.result.verdict} in {case}")

    def _line(self, text: str) -> None:
        """Print a line of the log; a moving picture says the same by itself."""
        if self._live is None:
            final.say(self._console, f"[{self._clock() - self._started_s:7.1f} s] {text}")

    def _stop_moving(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    # -------------------------------------------------------------- while it runs
    def _picture(self) -> Group:
        if not self._losses:
            return Group(Text(f"starting processes  {self._elapsed(self._started_s)}"))
        planted = [Text(f"known bugs  {self._planted}")] if self._planted else []
        return Group(*(self._loss_picture(progress) for progress in self._losses), *planted)

    def _loss_picture(self, progress: Progress) -> RichTable:
        grid = RichTable.grid(padding=(0, 2))
        grid.add_column(ratio=1, no_wrap=True, overflow="crop")
        grid.add_column(justify="right", no_wrap=True)
        if progress.result is not None:
            verdict = progress.result.verdict
            said = Text(f"{verdict}, {words.plural(progress.judged, 'case')}", style=final.STYLES[verdict])
            grid.add_row(Text(final.encodable(progress.name, self._console)), said)
            return grid
        grid.expand = True
        elapsed = self._elapsed(progress.started_s)
        grid.add_row(Text(final.encodable(progress.name, self._console), style="bold"), Text(elapsed))
        done = f"{progress.done:,} of at most {words.plural(progress.planned, 'case')}"
        grid.add_row(Text(f"  {progress.now}"), Text(done))
        nearest = f"worst {words.nearest_in_words(progress.nearest)}" if progress.nearest else "no share yet"
        grid.add_row(ProgressBar(total=max(progress.planned, 1), completed=progress.done), Text(nearest, style="dim"))
        return grid

    def _elapsed(self, since_s: float) -> str:
        return f"{self._clock() - since_s:.1f} s"

    # -------------------------------------------------------------- when it is broken off
    def _broken_off(self) -> None:
        """Print what was found before the end."""
        console = self._console
        elapsed = words.seconds(self._clock() - self._started_s)
        judged = words.plural(sum(progress.judged for progress in self._losses), "case")
        final.say(console)
        final.say(console, f"Broken off after {elapsed}: {judged} judged, no verdict on the rest", style="bold yellow")
        for progress in self._losses:
            final.found_so_far(
                progress.name, progress.cells, list(progress.mismatches.values()), progress.unknowns, console
            )


def _cell_line(cell: Cell) -> str:
    text = f"  {cell.exchange} W={cell.world_size}: {cell.verdict}, {words.plural(cell.cases, 'case')}"
    nearest = words.nearest([cell])
    text += f", worst {words.nearest_in_words(nearest)}" if nearest else ""
    return f"{text}; {words.one_line(cell.note)}" if cell.note else text
