"""Warm worlds against processes that are started for each case: fresh interpreters, and forks of a preloaded process.

The case is one bidir step at W = 4, asked for by the parent and answered by every rank. A warm world has its ranks
already; a fork still has to join a group; a fresh interpreter first imports torch. What a property test costs, and
whether its counterexamples can be shrunk, hangs on this.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from siglip_verify.adapt import LossSpec
from siglip_verify.bench.measure import Comparison, Requirement, compare, in_turn
from siglip_verify.case import Case, format_case
from siglip_verify.records import RankRecord
from siglip_verify.run import step
from siglip_verify.run.limits import load_traits
from siglip_verify.world import Worlds

CASE = Case(exchange="bidir", world_size=4, batch=8, dim=64, dtype="float32", seed=1)
AT_LEAST = 100.0
WARM_CASES_A_TURN = 20
_START_S = 300.0


def warm_worlds(turns: int) -> Iterator[Comparison]:
    """Measure cases on a warm world, on a world forked for each, and on fresh interpreters for each.

    Args:
        turns: How often each is measured; one fresh case takes seconds.
    """
    spec = LossSpec()
    with Worlds(timeout_s=_START_S) as worlds:
        traits = load_traits(worlds, spec)

        def run() -> list[float]:
            return [_loss(reply) for reply in worlds.run(CASE.world_size, step.step, spec, traits, CASE)]

        expected = run()  # makes the world

        def warm() -> float:
            started = time.perf_counter()
            losses = [run() for _ in range(WARM_CASES_A_TURN)]
            elapsed_s = (time.perf_counter() - started) / WARM_CASES_A_TURN
            return _checked(elapsed_s, losses[-1], expected)

        def forked() -> float:
            worlds.discard(CASE.world_size)
            started = time.perf_counter()
            losses = run()
            return _checked(time.perf_counter() - started, losses, expected)

        def fresh() -> float:
            started = time.perf_counter()
            losses = _fresh_case()
            return _checked(time.perf_counter() - started, losses, expected)

        measured = in_turn({"fresh interpreters": fresh, "forks": forked, "warm world": warm}, turns)
    yield compare(
        "warm-worlds",
        f"one case ({CASE.exchange}, W = {CASE.world_size}, b = {CASE.batch}, d = {CASE.dim}), asked for and answered",
        measured,
        each="case",
        ratios={
            ("fresh interpreters", "warm world"): Requirement(bound="at least", ratio=AT_LEAST),
            ("forks", "warm world"): None,
        },
        notes={
            "fresh interpreters": "one for each rank and case: import torch, join a group",
            "forks": "of a process that has torch, for each case: join a group",
            "warm world": f"{WARM_CASES_A_TURN} cases one after the other a turn",
        },
    )


def _loss(reply: RankRecord | step.Rejected) -> float:
    assert isinstance(reply, RankRecord), reply
    return reply.loss


def _checked(elapsed_s: float, losses: list[float], expected: list[float]) -> float:
    if not all(math.isclose(loss, other, rel_tol=1e-6) for loss, other in zip(losses, expected, strict=True)):
        raise RuntimeError(f"contestants must compute the same losses; got {losses} and {expected}: mend the benchmark")
    return elapsed_s


def _fresh_case() -> list[float]:
    """Start an interpreter for each rank, and read from each its loss."""
    with tempfile.TemporaryDirectory(prefix="siglip-verify-bench-") as folder:
        ranks = [_start(rank, Path(folder)) for rank in range(CASE.world_size)]
        try:
            return [_answer(rank) for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
                rank.communicate()


def _start(rank: int, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "siglip_verify.bench.fresh_rank", str(rank), str(folder), format_case(CASE)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _answer(rank: subprocess.Popen[str]) -> float:
    out, errors = rank.communicate(timeout=_START_S)
    if rank.returncode:
        raise RuntimeError(
            f"a fresh interpreter ended with status {rank.returncode}; its last output:\n{errors[-2000:]}"
        )
    return json.loads(out.splitlines()[-1])
