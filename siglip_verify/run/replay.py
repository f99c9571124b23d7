"""One case again, as a finished result of its own.

Here: the result of a single case. Not here: the line that asks for it (`declare`).
"""

from __future__ import annotations

from siglip_verify.adapt import LossSpec
from siglip_verify.case import Case
from siglip_verify.checks.step_messages import messages_of
from siglip_verify.records import Cell, Counterexample
from siglip_verify.result import LossResult
from siglip_verify.run.counting import unknown_operations
from siglip_verify.run.declare import judged_declaration, replay_line, shown_target, with_own_checks
from siglip_verify.run.diagnose import diagnose_mismatch
from siglip_verify.run.events import CaseJudged, CellDone, Listener, LossStarted
from siglip_verify.run.judge import CaseJudge
from siglip_verify.run.limits import load_traits
from siglip_verify.run.shares import all_shares, shares_by_dtype, worst_shares
from siglip_verify.world import Worlds


def run_one(worlds: Worlds, spec: LossSpec, case: Case, listener: Listener) -> LossResult:
    """Judge one case of a loss, and return it as a result of one cell.

    Raises:
        LossSpecError: The loss cannot be loaded or used as declared.
    """
    traits = load_traits(worlds, spec)
    listener(LossStarted(spec.name, 1))
    judge = CaseJudge(worlds, with_own_checks(spec), traits)
    watched = judge.watch(case)
    result = watched.result
    listener(CaseJudged(spec.name, result, shrinking=False))
    cell = Cell(
        exchange=case.exchange,
        world_size=case.world_size,
        verdict=result.verdict,
        cases=int(result.verdict != "unknown"),
        unknown_cases=int(result.verdict == "unknown"),
        worst=worst_shares([result]),
        shares=all_shares([result]),
        by_dtype=shares_by_dtype([result]),
        elapsed_s=result.elapsed_s,
    )
    listener(CellDone(spec.name, cell, 1))
    diagnosis = diagnose_mismatch(judge, result) if result.verdict == "mismatch" else None
    found = Counterexample(
        result=result, replay=replay_line(case, spec, worlds.timeout_s), calls=0, diagnosis=diagnosis
    )
    step = messages_of(result, watched.events)
    return LossResult(
        name=spec.name,
        target=shown_target(spec),
        declared=judged_declaration(spec),
        verdict=result.verdict,
        cells=(cell,),
        counterexamples=(found,) if result.verdict == "mismatch" else (),
        unknowns=(result,) if result.verdict == "unknown" else (),
        left_out=tuple(unknown_operations([step])),
        sample_step=step,
    )
