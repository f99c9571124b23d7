"""Finished results made by hand, one for each thing that can come out, and a strategy for all others."""

from __future__ import annotations

import itertools
from typing import Any

import hypothesis
import msgspec
from effort import examples
from hypothesis import strategies as st
from msgspec import inspect

from siglip_verify.case import EXCHANGES, Case, Exchange
from siglip_verify.checks.ledger import byte_matrix
from siglip_verify.records import (
    CaseResult,
    Cell,
    Counterexample,
    DTypeShares,
    Event,
    Finding,
    Matrix,
    Quantity,
    RankFailure,
    Share,
    Verdict,
    Worst,
)
from siglip_verify.result import (
    BlockCoverage,
    BugResult,
    CatalogueResult,
    ControlResult,
    LeftOut,
    LossResult,
    MessageRow,
    Modelled,
    ModelledStep,
    Report,
    StepCost,
    StepMessages,
    worst,
)

HOSTILE = "<script>alert(1)</script>"
QUANTITIES: tuple[Quantity, ...] = (
    "loss",
    "local_loss",
    "image_grad",
    "text_grad",
    "scale_grad",
    "bias_grad",
    "local_scale_grad",
    "local_bias_grad",
)
NASTY = f"{HOSTILE} [bold red]x[/] [/nope] \x1b[31mred\x1b[0m \x00 \u202e ]]> | ` * _ & \" ' \ufffe é 数 🧪"


# ------------------------------------------------------------------ by hand
def cell(exchange: Exchange, world_size: int, verdict: Verdict = "pass", **changes: Any) -> Cell:
    at = EXCHANGES.index(exchange) + 1
    cells: dict[str, Any] = {
        "cases": 20,
        "unknown_cases": 0,
        "worst": {
            quantity: Worst(
                share=(at * 7 + world_size * 3 + index * 5) % 40 / 97 * (1 if verdict == "pass" else 1e14),
                case=str(Case(exchange=exchange, world_size=world_size, batch=3, dim=5, seed=index)),
            )
            for index, quantity in enumerate(QUANTITIES)
        },
        "elapsed_s": 0.5 + world_size / 10,
    }
    worst: dict[Quantity, Worst] = (cells | changes)["worst"]
    cells["shares"] = {quantity: strewn(most.share, (cells | changes)["cases"]) for quantity, most in worst.items()}
    cells["by_dtype"] = {"float64": DTypeShares(cases=12, worst={name: most.share for name, most in worst.items()})}
    return Cell(exchange=exchange, world_size=world_size, verdict=verdict, **cells | changes)


def strewn(most: float, cases: int) -> tuple[float, ...]:
    """Shares of some cases, the largest first."""
    return tuple(float(f"{most * (1 - turn * 0.618 % 1) ** 3:.3g}") for turn in range(cases))


def block_coverage(exchange: Exchange, world_size: int = 4, unseen: tuple[int, int] | None = None) -> BlockCoverage:
    """What the probe sees of a right exchange, or of one in which a block is not counted."""
    ranks = range(world_size)
    ones = tuple(tuple(1.0 for _ in ranks) for _ in ranks)
    eye = tuple(tuple(float(i == j) for j in ranks) for i in ranks)
    seen = tuple(tuple(float((i, j) != unseen) for j in ranks) for i in ranks)
    named = [("counted in forward", seen, ones), ("heard of in backward", seen, ones)]
    named += [("positives in forward", eye, eye), ("positives in backward", eye, eye)]
    matrices = tuple(
        Matrix(title=title, rows="images of rank", columns="texts of rank", values=values, expected=expected)
        for title, values, expected in named
    )
    return BlockCoverage(exchange=exchange, world_size=world_size, matrices=matrices)


def step_cost(exchange: Exchange, world_size: int) -> StepCost:
    median_s = 0.002 * world_size ** (2 if exchange == "reduce" else 1)
    kept = 1024 * world_size + (512 if exchange in ("reduce", "gather") else 0)
    return StepCost(
        exchange=exchange,
        world_size=world_size,
        batch=8,
        dim=64,
        dtype="float32",
        seconds=(median_s * 1.5, median_s, median_s * 0.75),
        kept_bytes=kept,
    )


def modelled() -> Modelled:
    """Every form from 8 to 4,096 ranks."""
    forms = (*EXCHANGES, "bidir constant", "shift constant")
    return Modelled(
        cluster="h100-ib: 8 H100 a host",
        batch=2048,
        dim=1152,
        dtype="bfloat16",
        steps=tuple(
            ModelledStep(
                form=form,
                world_size=1 << power,
                calls=2 if form == "gather" else (1 << power) * (2 - form.endswith("constant")),
                sent_bytes=9.4e6 * (1 << power) * (1 + (form == "reduce")),
                held_bytes=70_000_000 if form.endswith("constant") else 45_000_000 << power,
                step_s=2e-4 * (1 + index) * (1 << power),
                fits=True,
            )
            for index, form in enumerate(forms)
            for power in range(3, 13)
        ),
        fastest="gather at W = 8 to 2,048; bidir constant at W = 4,096",
    )


def catalogue(**changes: Any) -> CatalogueResult:
    """Two bugs caught, one in numbers and one as a rank raised, and a right loss accepted."""
    fields: dict[str, Any] = {
        "id": "bidir-no-remainder",
        "sentence": "the last single hop of bidir is left out when W is even",
        "source": "a fork of open_clip",
        "caught": "mismatch",
        "seed": 0,
        "cases": 1,
        "case": str(Case(world_size=2)),
        "quantities": ("loss", "text_grad"),
        "findings": (),
        "diagnosis": "At W = 4, ranks 0 and 2 never see each other's texts: the last single hop is missing",
        "amiss": (),
        "missed_by": (),
        "elapsed_s": 0.5,
    }
    raised = fields | {"id": "raises", "caught": "raised", "quantities": (), "diagnosis": "no attribute"}
    control = ControlResult(
        id="textbook", sentence="the formula, gathered", verdict="pass", cases=25, case="", elapsed_s=1.0
    )
    found = {"seeds": (0,), "bugs": (BugResult(**fields | changes), BugResult(**raised)), "controls": (control,)}
    return CatalogueResult(**found, elapsed_s=4.5)


def message_row(exchange: Exchange, world_size: int, **changes: Any) -> MessageRow:
    others, block = world_size - 1, 8 * 64 * 4
    ring = exchange in ("bidir", "shift")
    sends = 2 * others if ring else 0
    collectives = 0 if ring else min(others, 1) * 2 * (world_size if exchange == "reduce" else 1)
    payload = sends * block + (0 if ring else min(others, 1) * 2 * world_size * block)
    row: dict[str, Any] = {
        "batch": 8,
        "dim": 64,
        "dtype": "float32",
        "planned_messages": sends,
        "planned_collectives": collectives,
        "planned_payload_bytes": payload,
        "counted_messages": sends,
        "counted_collectives": collectives,
        "counted_payload_bytes": payload,
        "counted_hops": (world_size // 2 if exchange == "bidir" else others) if ring else collectives // 2,
        "wire_bytes": payload + 144 * (sends + collectives),
        "lower_bound_bytes": 2 * others * block,
        "operations": f"{sends} send" if sends else f"{collectives} all_reduce" if collectives else "",
    }
    return MessageRow(exchange=exchange, world_size=world_size, **row | changes)


def loss(name: str = "siglip_verify.loss:SigLipLoss", **changes: Any) -> LossResult:
    fields: dict[str, Any] = {
        "target": name,
        "declared": "mean over ranks of sums divided by b",
        "cells": tuple(cell(exchange, size) for exchange in EXCHANGES for size in range(1, 5)),
        "messages": tuple(message_row(exchange, size) for exchange in EXCHANGES for size in range(1, 5)),
        "coverage": tuple(block_coverage(exchange) for exchange in EXCHANGES),
        "costs": tuple(step_cost(exchange, size) for size in (2, 4) for exchange in EXCHANGES),
    } | changes
    fields.setdefault("verdict", worst([each.verdict for each in fields["cells"]]))
    return LossResult(name=name, **fields)


def report(*losses: LossResult, **changes: Any) -> Report:
    fields: dict[str, Any] = {
        "verdict": worst([each.verdict for each in losses]),
        "started_at": "2026-01-02T03:04:05+00:00",
        "elapsed_s": 81.25,
        "cases": sum(each.cases for one in losses for each in one.cells),
        "environment": {"python": "3.11.9", "torch": "2.13.0+cpu", "back end": "gloo, one process a rank, on loopback"},
        "settings": {"exchanges": "bidir, shift, reduce, gather", "world sizes": "1-4", "seed": "0"},
        "modelled": modelled(),
    } | changes
    return Report(losses=losses, **fields)


def step_messages(world_size: int = 3) -> StepMessages:
    """The messages of one step of bidir with one hop a phase: every rank sends to both neighbours."""
    events: list[Event] = []
    for rank in range(world_size):
        for sequence, (phase, kind, way) in enumerate(
            itertools.product(("forward", "backward"), ("send", "recv"), (1, -1))
        ):
            peer = (rank + way) % world_size
            src, dst = (rank, peer) if kind == "send" else (peer, rank)
            start_s = 0.25 + sequence / 1024 + rank / 65536
            events.append(
                Event(
                    rank=rank,
                    sequence=sequence,
                    kind=kind,
                    op=f"c10d::{kind}",
                    phase="forward" if phase == "forward" else "backward",
                    hop=0,
                    src=src,
                    dst=dst,
                    tag=0,
                    dtype="float32",
                    shape=(8, 64),
                    payload_bytes=2048,
                    posted_s=start_s,
                    returned_s=start_s + 1 / 2048,
                )
            )
    return StepMessages(
        case=Case(world_size=world_size, batch=8, dim=64, dtype="float32"),
        events=tuple(events),
        wire=None,
        payload_matrix=byte_matrix(events, world_size),
    )


def passing() -> Report:
    comparison = loss(
        "open_clip:SigLipLoss",
        left_out=(LeftOut(what="chunk_size", why="the loss takes none"),),
        messages=tuple(
            message_row(
                exchange,
                size,
                planned_messages=None,
                planned_collectives=None,
                planned_payload_bytes=None,
                note="the wheel's gather goes back by W rooted scatters" if exchange == "gather" else "",
            )
            for exchange in EXCHANGES
            for size in range(1, 5)
        ),
    )
    return report(loss(sample_step=step_messages()), comparison, catalogue=catalogue())


def text_share(share: float = 4.1e14, **changes: Any) -> Share:
    fields: dict[str, Any] = {
        "quantity": "text_grad",
        "rank": 1,
        "index": (0, 0),
        "expected": 0.12345678901234566,
        "observed": 0.0,
        "error": 0.12345678901234566,
        "bound": 3.0111e-16,
    } | changes
    return Share(share=share, **fields)


def counterexample(**changes: Any) -> Counterexample:
    case = Case(exchange="bidir", world_size=2)
    result = CaseResult(
        case=case,
        verdict="mismatch",
        shares=(
            text_share(),
            text_share(0.25, quantity="image_grad", rank=0, index=(0, 3)),
            text_share(1.2e13, quantity="loss", rank=None, index=()),
        ),
        findings=(Finding(name="unmatched-send", detail="rank 0, hop 0: send to 1, which never receives it", rank=0),),
        elapsed_s=0.031,
    )
    fields: dict[str, Any] = {
        "result": result,
        "replay": f"siglip-verify replay '{case}' --loss my_loss.py:Loss",
        "calls": 213,
    } | changes
    return Counterexample(**fields)


def mismatching() -> Report:
    cells = tuple(
        cell(exchange, size, "mismatch" if exchange == "bidir" and size % 2 == 0 else "pass")
        for exchange in EXCHANGES
        for size in range(1, 5)
    )
    coverage = (block_coverage("bidir", unseen=(0, 2)), *(block_coverage(exchange) for exchange in EXCHANGES[1:]))
    return report(
        loss("my_loss.py:Loss", cells=cells, counterexamples=(counterexample(),), coverage=coverage, costs=()),
        catalogue=catalogue(caught="", cases=25),
    )


def failures() -> tuple[RankFailure, ...]:
    return (
        RankFailure(rank=0, kind="raised", blamed=False, detail="RuntimeError: Connection closed by peer"),
        RankFailure(
            rank=1,
            kind="raised",
            blamed=True,
            detail="ZeroDivisionError: division by zero",
            traceback="Traceback (most recent call last):\n"
            + "".join(f'  File "my_loss.py", line {line}, in forward\n' for line in range(40))
            + "ZeroDivisionError: division by zero\n",
            stderr_tail="warning: about to divide\n",
        ),
        RankFailure(rank=2, kind="died", blamed=False, detail="ended by SIGKILL"),
    )


def unknown_result() -> CaseResult:
    return CaseResult(
        case=Case(exchange="shift", world_size=3, batch=2),
        verdict="unknown",
        failures=failures(),
        elapsed_s=5.02,
    )


def unjudged() -> Report:
    cells = tuple(
        cell(exchange, size)
        if exchange != "shift" or size < 3
        else cell(
            exchange,
            size,
            "unknown",
            cases=0,
            unknown_cases=1 if size == 3 else 0,
            worst={},
            note="" if size == 3 else "ended: 2 cases of shift came to no judgement",
        )
        for exchange in EXCHANGES
        for size in range(1, 5)
    )
    return report(loss("my_loss.py:Loss", cells=cells, unknowns=(unknown_result(),)))


def hostile() -> Report:
    """Every text that can come from outside is nasty."""
    found = counterexample(replay=NASTY)
    found = msgspec.structs.replace(
        found,
        result=msgspec.structs.replace(
            found.result,
            findings=(Finding(name=NASTY, detail=NASTY),),
            shares=(text_share(float("nan"), observed=None, expected=float("-inf"), error=float("inf"), note=NASTY),),
            failures=(RankFailure(rank=0, kind="died", blamed=True, detail=NASTY, traceback=NASTY, stderr_tail=NASTY),),
        ),
    )
    cells = (cell("bidir", 1), cell("bidir", 2, "mismatch", note=NASTY), cell("gather", 2, "unknown", note=NASTY))
    nasty = loss(
        HOSTILE,
        target=NASTY,
        declared=NASTY,
        cells=cells,
        counterexamples=(found,),
        unknowns=(msgspec.structs.replace(unknown_result(), failures=found.result.failures),),
        left_out=(LeftOut(what=NASTY, why=NASTY),),
        messages=(message_row("bidir", 2, operations=NASTY, note=NASTY, dtype=NASTY),),
    )
    return report(nasty, environment={NASTY: NASTY}, settings={NASTY: NASTY}, started_at=NASTY)


def many(cases: int = 10_000) -> Report:
    """Many cases that pass, equally many for each of four exchanges at five world sizes, every share of each."""
    cells = tuple(cell(exchange, size, cases=cases // 20) for exchange in EXCHANGES for size in range(1, 6))
    return report(loss(cells=cells, sample_step=step_messages()))


def large() -> Report:
    """Ten thousand cases without judgement, a thousand counterexamples, sixteen world sizes, one very long text."""
    long = unknown_result()
    told = msgspec.structs.replace(long.failures[1], traceback="x" * 1_000_000)
    many = loss(
        cells=tuple(cell(exchange, size, "mismatch") for exchange in EXCHANGES for size in range(1, 17)),
        counterexamples=(counterexample(),) * 1_000,
        unknowns=(msgspec.structs.replace(long, failures=(told,)), *(long,) * 9_999),
        messages=tuple(message_row(exchange, size) for exchange in EXCHANGES for size in range(1, 17)),
    )
    return report(many)


# ------------------------------------------------------------------ all others
# Whole results are not shrunk: they are large, and the error names the field.
ANY_RESULT = hypothesis.settings(
    examples(15),
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
)


def reports() -> st.SearchStrategy[Report]:
    """Draw any result whose fields have the right types, plausible or not."""
    return _drawn(inspect.type_info(Report))


_TEXT = st.sampled_from([NASTY, HOSTILE, "", "nan", "inf", "two\nlines\r\n"]) | st.text(max_size=12)
_CASES = st.builds(Case, exchange=st.sampled_from(EXCHANGES), world_size=st.integers(1, 64), scale=st.floats(-1e9, 1e9))


def _drawn(kind: inspect.Type) -> st.SearchStrategy[Any]:
    match kind:
        case inspect.StructType() if kind.cls is Case:
            return _CASES
        case inspect.StructType():
            drawn = {field.name: _drawn(field.type) for field in kind.fields if field.name != "schema_version"}
            return st.builds(kind.cls, **drawn)
        case inspect.VarTupleType():
            return st.lists(_drawn(kind.item_type), max_size=2).map(tuple)
        case inspect.DictType():
            return st.dictionaries(_drawn(kind.key_type), _drawn(kind.value_type), max_size=2)
        case inspect.UnionType():
            return st.one_of(*map(_drawn, kind.types))
        case inspect.LiteralType():
            return st.sampled_from(kind.values)
        case inspect.IntType():
            least, most = kind.ge or 0, kind.le if kind.le is not None else (kind.lt or 1 << 40) - 1
            return st.one_of(st.integers(least, min(most, least + 9)), st.integers(least, most))
        case inspect.FloatType():
            return st.floats()
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.StrType():
            return _TEXT
        case _:
            raise NotImplementedError(f"draw {kind}")
