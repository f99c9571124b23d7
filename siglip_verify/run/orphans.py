"""The fault that leaves nobody to judge: the parent is killed, and its ranks must go with it.

Here: a parent in a process of its own, and what is left after its death. Not here: the other faults (`faults`).
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import msgspec

from siglip_verify.adapt import LossSpec
from siglip_verify.case import Case
from siglip_verify.fault import Fault, FaultOutcome
from siglip_verify.run import step
from siglip_verify.run.limits import load_traits
from siglip_verify.world import Worlds
from siglip_verify.world.census import Surroundings

_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from siglip_verify.world import Worlds; worlds = Worlds(preload=()); "
    "worlds.start(); "  # torch is imported in both at once
    "from siglip_verify.run.orphans import be_killed; be_killed(worlds, sys.argv[2])"
)


class _Job(msgspec.Struct, frozen=True):
    spec: LossSpec
    fault: Fault
    case: Case


def kill_parent(place: Surroundings, spec: LossSpec, fault: Fault, case: Case, *, within_s: float) -> FaultOutcome:
    """Have a rank of another parent kill that parent in the middle of a step, and see that all of it is gone.

    Args:
        place: Where what is left shows.
        spec: The loss.
        fault: The point of the step.
        case: The step.
        within_s: How long after its death something of it may last, seconds.
    """
    processes, files = place.processes(), place.files()
    job = msgspec.json.encode(_Job(spec, fault, case)).decode()
    parent = subprocess.Popen([sys.executable, "-c", _CODE, json.dumps(sys.path), job], stdout=subprocess.PIPE)
    wrong: list[str] = []
    with parent:
        assert parent.stdout is not None
        said = parent.stdout.readline()  # ends with the process, whatever becomes of it
        started = time.monotonic()
        pids = set(json.loads(said)) if said else set[int]()
        try:
            status = parent.wait(within_s)
        except subprocess.TimeoutExpired:
            parent.kill()
            status = None
    if len(pids) != 1 + case.world_size:
        wrong.append(f"the parent had {len(pids)} processes, in place of a template and {case.world_size} ranks")
    if status != -signal.SIGKILL:
        wrong.append(f"the parent ended with status {status} in place of being killed: the fault was not set off")
    while (place.processes() - processes or place.files() - files) and time.monotonic() - started < within_s:
        time.sleep(0.01)
    elapsed_s = time.monotonic() - started
    left: list[str] = []
    if outlived := place.processes() - processes:
        left.append(f"{len(outlived)} processes outlive their parent")
    if lasting := place.files() - files:
        left.append(f"{len(lasting)} files outlive their parent")
    return FaultOutcome(
        fault=fault,
        case=case,
        verdict=None,
        said=f"the parent and {len(pids)} processes gone {elapsed_s:.2f} s after the step began",
        elapsed_s=elapsed_s,
        left=tuple(left),
        wrong=tuple(wrong),
    )


def be_killed(worlds: Worlds, job: str) -> None:
    """Be a parent whose rank will kill it: run the step as it is, say what was started, run it with the fault."""
    chosen = msgspec.json.decode(job, type=_Job)
    traits = load_traits(worlds, chosen.spec)
    worlds.discard(1)
    worlds.run(chosen.case.world_size, step.step, chosen.spec, traits, chosen.case)
    print(json.dumps(worlds.pids()), flush=True)
    worlds.run(chosen.case.world_size, step.faulty_step, chosen.spec, traits, chosen.case, chosen.fault)
