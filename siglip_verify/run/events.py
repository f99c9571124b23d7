"""What a run tells while it goes on. Whoever listens only shows; nothing comes back."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from siglip_verify.case import Exchange
from siglip_verify.records import CaseResult, Cell
from siglip_verify.result import BugResult, ControlResult, LossResult, Report
from siglip_verify.run.settings import Settings


class RunStarted(msgspec.Struct, frozen=True):
    """The settings hold, and processes are being started."""

    settings: Settings


class LossStarted(msgspec.Struct, frozen=True):
    """A loss was loaded; so many cases lie ahead at most."""

    name: str
    cases: int


class CaseJudged(msgspec.Struct, frozen=True):
    """One case has its verdict. `shrinking` cases come after a mismatch and are not counted."""

    name: str
    result: CaseResult
    shrinking: bool


class CellDone(msgspec.Struct, frozen=True):
    """All cases of one exchange at one world size are done, or will not be run."""

    name: str
    cell: Cell
    planned_cases: int


class Counting(msgspec.Struct, frozen=True):
    """The steps whose messages are put into the table are being run."""

    name: str
    exchange: Exchange
    world_size: int


class LossDone(msgspec.Struct, frozen=True):
    """Everything there is to say of one loss."""

    result: LossResult


class Planted(msgspec.Struct, frozen=True):
    """A known bug was planted, or a right loss held against the same check."""

    result: BugResult | ControlResult


class RunDone(msgspec.Struct, frozen=True):
    """The finished result."""

    report: Report


Event = RunStarted | LossStarted | CaseJudged | CellDone | Counting | LossDone | Planted | RunDone
Listener = Callable[[Event], None]
