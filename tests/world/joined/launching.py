"""Start `siglip_verify` under launchers, and see how every rank ends and what rank 0 reported."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from siglip_verify.report import load
from siglip_verify.result import Report

ENDS = Path(__file__).with_name("ends.py")
BROKEN = Path(__file__).parents[2] / "run" / "broken.py"
LIMIT_S = 240


class Ended(NamedTuple):
    """How a run ended: the launchers' codes, each rank's own, rank 0's report, all that was printed."""

    launchers: list[int]
    codes: dict[int, int]
    report: Report
    output: str
    elapsed_s: float


def torchrun(folder: Path, arguments: Sequence[str], *, ranks: int = 4, agents: int = 1) -> Ended:
    """Run a command on some ranks, shared out over several agents of torchrun as over hosts."""
    place = ["--standalone"]
    if agents > 1:
        place = ["--nnodes", str(agents), "--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{free_port()}"]
    command = [sys.executable, "-m", "torch.distributed.run", *place, "--nproc-per-node", str(ranks // agents)]
    return _run(folder, [(command, {})] * agents, arguments)


def plainly(folder: Path, arguments: Sequence[str], *, ranks: int) -> Ended:
    """Run a command on some ranks as any launcher does that sets the variables: rank 0 has to serve the store."""
    place = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(ranks)}
    each = [([sys.executable], place | {"RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(ranks)]
    return _run(folder, each, arguments)


def _run(folder: Path, launchers: Sequence[tuple[list[str], dict[str, str]]], arguments: Sequence[str]) -> Ended:
    """Run and wait; whatever becomes of the ranks, none may leave a folder behind."""
    started_s = time.monotonic()
    temporary = folder / "temporary"
    temporary.mkdir()
    reports = ["--report-dir", str(folder / "reports"), "--report", "json"]
    usual = {name: value for name, value in os.environ.items() if name != "GITHUB_STEP_SUMMARY"}
    with ExitStack() as stack:
        output = stack.enter_context((folder / "output").open("w+"))
        processes = [
            subprocess.Popen(
                [*command, str(ENDS), str(folder), *arguments, *reports],
                env=usual | variables | {"OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)},
                stdout=output,
                stderr=output,
            )
            for command, variables in launchers
        ]
        for process in processes:
            stack.callback(process.kill)
        codes = [process.wait(LIMIT_S) for process in processes]
    assert not list(temporary.glob("siglip-verify-*")), "a folder of our own is left"
    return Ended(
        launchers=codes,
        codes={int(path.name.removeprefix("rank-")): int(path.read_text()) for path in folder.glob("rank-*")},
        report=load((folder / "reports" / "report.json").read_bytes()),
        output=(folder / "output").read_text(),
        elapsed_s=time.monotonic() - started_s,
    )


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]
