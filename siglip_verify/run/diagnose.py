"""The runs that a diagnosis needs: a plain case that still fails, other world sizes, the coverage probe.

Some twenty steps on warm worlds: one or two seconds. A shrunk case is the smallest that fails, and says little: at
b = d = 1 many faults look alike. So the same fault is looked for in a case that is large and plain; where it does not
show there, the case is made plain field by field, and the fields that resist are what the fault needs.

Here: choosing and making runs. Not here: what they say (`checks.diagnosis`).
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Iterable
from typing import Any

import msgspec

from siglip_verify.adapt import LossSpecError
from siglip_verify.case import DTYPES, Case, DType
from siglip_verify.checks.counts import operations
from siglip_verify.checks.coverage import Coverage, coverage, probe_cases
from siglip_verify.checks.diagnosis import Evidence, Observation, diagnose
from siglip_verify.checks.diagnosis.fit import MAX_WORLD_SIZE
from siglip_verify.checks.expected import normalizers
from siglip_verify.checks.failures import failure_sentence
from siglip_verify.records import CaseResult, Clue, Diagnosis, Verdict
from siglip_verify.run.judge import CaseJudge, Watched

WORLD_SIZES = (1, 2, 3, 4, 5)
MOST_TELLING = (4, 5, 3, 2)  # at 4 all hops of every exchange differ from each other; at 2 most faults look alike
_LEAST_TIMEOUT_S = 5.0
_BUDGET_S = 12.0
_NOTES = 3
_PLAIN = Case(seed=1)
# Fields made plain, in this order; those named together only make sense together.
_FIELDS: tuple[tuple[str, ...], ...] = (
    ("features", "source"),
    ("rows",),
    ("batch", "dim"),
    ("batch",),
    ("dim",),
    ("dtype", "scalars"),
    ("scale", "bias"),
    ("layout",),
    ("upstream",),
    ("frozen",),
    ("call",),
    ("scalars",),
    ("chunk_size",),
)


def diagnose_mismatch(judge: CaseJudge, found: CaseResult, fails_at: Iterable[int] = ()) -> Diagnosis:
    """Say what is wrong with a loss that fails on a case; a run that does not end becomes evidence.

    Args:
        judge: Judges cases of this loss.
        found: A case that fails, as small as can be.
        fails_at: World sizes at which any case of the same exchange fails, whether or not a plain one does.
    """
    try:
        return _Runs(judge, found).diagnosis({found.case.world_size, *fails_at})
    except Exception as error:  # the case fails whatever can be said of it, and the verdict must not be lost
        return _failed(found, error)


def _failed(found: CaseResult, error: Exception) -> Diagnosis:
    """Say that the diagnosis itself failed, and why."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return Diagnosis(
        sentence=f"the loss fails, and so does its diagnosis, with {type(error).__name__}: {error}",
        cause="diagnosis-failed",
        evidence=(Clue(title="raised in", text=f"{last.name}, {last.filename}:{last.lineno}"),),
        smallest_world_size=found.case.world_size,
        smallest_batch=found.case.batch,
    )


class _Runs:
    """The runs made for one diagnosis."""

    def __init__(self, judge: CaseJudge, found: CaseResult) -> None:
        self._judge = judge
        self._found = found
        self._dtype: DType = min(judge.spec.dtypes or DTYPES, key=DTYPES.index)  # the widest
        self._notes: list[Clue] = []
        self._closed: set[int] = set()
        self._timeout_s = min(judge.worlds.timeout_s, max(_LEAST_TIMEOUT_S, 20 * found.elapsed_s))
        self._give_up_s = time.monotonic() + _BUDGET_S

    def diagnosis(self, fails_at: Iterable[int]) -> Diagnosis:
        """Make the runs and say what they show."""
        if not self._found.shares:  # ranks failed: to run it again would only fail again, perhaps by hanging
            return diagnose(Evidence(found=self._found, verdicts={}))
        case = self._found.case
        plain = plain_case(case, dtype=self._dtype)
        seen = self._at_world_sizes(plain)
        if not _failing(seen):
            plain = self._made_plain(case)
            seen = self._at_world_sizes(plain)
        world_size = next((size for size in (*MOST_TELLING, case.world_size, *seen) if size in _failing(seen)), None)
        chosen = None if world_size is None else seen[world_size].result.case
        modelled = None if chosen is None or chosen.rows == "ragged" else chosen  # models have as many rows everywhere
        again = None if modelled is None else self._watch(modelled)
        verdicts: dict[int, Verdict] = {size: watched.result.verdict for size, watched in seen.items()}
        return diagnose(
            Evidence(
                found=self._found,
                plain=None if modelled is None else self._observation(seen[modelled.world_size]),
                again=None if again is None else self._observation(again),
                needs=() if chosen is None else needs(plain, self._dtype),
                coverage=None if chosen is None else self._coverage(chosen),
                verdicts={**verdicts, **dict.fromkeys(fails_at, "mismatch")},
                notes=tuple(self._notes[:_NOTES]),
            )
        )

    def _at_world_sizes(self, case: Case) -> dict[int, Watched]:
        """Run a case at each world size that is tried, its own first."""
        others = () if case.source else (size for size in WORLD_SIZES if size <= self._judge.worlds.most_ranks)
        sizes = dict.fromkeys((case.world_size, *others))
        runs = {size: self._watch(at_world_size(case, size, self._dtype)) for size in sizes}
        return {size: watched for size, watched in sorted(runs.items()) if watched is not None}

    def _made_plain(self, case: Case) -> Case:
        """Make a case plain field by field, as far as it goes on failing."""
        for fields in _FIELDS:
            if case.source and {"batch", "dim"} & {*fields}:
                continue  # given features have the rows that they have
            plain = plain_case(case, None if "batch" in fields else case.batch, self._dtype)
            changed = msgspec.structs.replace(case, **{field: getattr(plain, field) for field in fields})
            if changed != case and (watched := self._watch(changed)) and watched.result.verdict == "mismatch":
                case = changed
        return case

    def _coverage(self, case: Case) -> Coverage | None:
        probes = probe_cases(case)
        runs = [self._watch(probe, "the probe") for probe in probes]
        records = [watched.records for watched in runs if watched is not None and watched.records]
        if len(records) < len(probes):
            return None
        return coverage(probes[0], records[0], records[1], normalizers(probes[0], self._judge.spec))

    def _observation(self, watched: Watched) -> Observation:
        result = watched.result
        return Observation(
            spec=self._judge.spec,
            case=result.case,
            records=watched.records,
            shares=result.shares,
            findings=result.findings,
            operations=operations(watched.events),
        )

    def _watch(self, case: Case, what: str = "a run") -> Watched | None:
        """Run a case, unless its world size did not answer before or time is over."""
        if case.world_size in self._closed or time.monotonic() > self._give_up_s:
            return None
        try:
            watched = self._judge.watch(case, timeout_s=self._timeout_s)
        except LossSpecError as error:
            return self._note(case, what, f"is not possible: {error}")
        if watched.records:
            return watched
        if any(failure.kind == "hung" for failure in watched.result.failures):
            self._closed.add(case.world_size)  # every further run would take as long
        why = failure_sentence(watched.result.failures, case.world_size, watched.result.reason)
        return self._note(case, what, f"did not end: {why}")

    def _note(self, case: Case, what: str, text: str) -> None:
        """Keep what went wrong as evidence."""
        self._notes.append(Clue(title=f"{what} at W = {case.world_size}", text=f"{text} ({case})"))


# ------------------------------------------------------------------ cases
def plain_case(case: Case, batch: int | None = None, dtype: DType = "float64") -> Case:
    """Return a case of the same exchange and W in which every fault that can show does, and all are told apart.

    Args:
        case: Says exchange and W.
        batch: Rows on each rank, where a fault may need just so many; None for a number that tells faults apart.
        dtype: Of features, the widest that the loss is made for.
    """
    return msgspec.structs.replace(
        _PLAIN,
        exchange=case.exchange,
        world_size=case.world_size,
        batch=batch or telling_batch(case.world_size),
        dim=telling_dim(case.world_size, batch or telling_batch(case.world_size)),
        dtype=dtype,
    )


def at_world_size(case: Case, world_size: int, dtype: DType = "float64") -> Case:
    """Return a plain case, or one made plain as far as it goes, at another W."""
    if world_size == case.world_size:
        return case
    batch = case.batch if needs(case, dtype) else telling_batch(world_size)  # a fault may need just this batch
    dim = max(case.dim, telling_dim(world_size, batch)) if case.dim > 1 else case.dim
    return msgspec.structs.replace(case, world_size=world_size, batch=batch, dim=dim)


def telling_dim(world_size: int, batch: int) -> int:
    """Return d so that all texts are independent and a gradient has more numbers than there are blocks.

    It is the same for every W that is tried, so that a fault of large or small d is not taken for one of some W.
    """
    sizes = (world_size, *WORLD_SIZES)
    most_texts = max(size * max(batch, telling_batch(size)) for size in sizes)
    return max(2 * most_texts, *(size**2 for size in sizes if size <= MAX_WORLD_SIZE))


def telling_batch(world_size: int) -> int:
    """Return b so that W, b, W b and b b all differ, and b b rows of a block are more than W blocks."""
    batch = max(3, math.ceil(math.sqrt(2 * world_size)) if world_size <= MAX_WORLD_SIZE else 3)
    return next(b for b in range(batch, batch + 4) if world_size not in (b, b * b))


def needs(case: Case, dtype: DType = "float64") -> tuple[tuple[str, str], ...]:
    """List the fields in which a case is not plain; but d, and the rows of given features, which they have."""
    plain = msgspec.structs.replace(plain_case(case, dtype=dtype), dim=case.dim, source=case.source)
    if case.source:
        plain = msgspec.structs.replace(plain, batch=case.batch)
    fields: Iterable[str] = dict.fromkeys(field for fields in _FIELDS for field in fields)
    values: dict[str, Any] = {field: getattr(case, field) for field in fields}
    return tuple((field, str(value)) for field, value in values.items() if value != getattr(plain, field))


def _failing(seen: dict[int, Watched]) -> list[int]:
    return [size for size, watched in seen.items() if watched.result.verdict == "mismatch"]
