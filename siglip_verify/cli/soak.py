"""`siglip-verify soak`: random cases and random faults for some minutes, and what leaks meanwhile."""

from __future__ import annotations

import secrets
from typing import Annotated, Literal

from cyclopts import Parameter

from siglip_verify.cli.output import show_faults
from siglip_verify.errors import UsageError
from siglip_verify.run.fault_plans import soak as draw


def soak(
    *,
    minutes: Annotated[float, Parameter(help="How long.")] = 5.0,
    seed: Annotated[int | None, Parameter(help="Where the draws start; default: a new one, shown.")] = None,
    timeout: Annotated[float, Parameter(help="Seconds that a rank may take in a step with a fault.")] = 3.0,
    output: Annotated[Literal["text", "json"], Parameter(name="--format", help="What is printed.")] = "text",
) -> int:
    """Judge random cases and set off random faults in turn, and see that nothing leaks.

    Counts cases, faults and rebuilt worlds; processes and temporary files that are left; and by how much descriptors
    and memory of the processes that last have grown. Exits with 1 on any leak or wrong outcome.

    ```
    siglip-verify soak
    siglip-verify soak --minutes 60 --seed 1
    ```
    """
    if not 0 < minutes <= 10_000:
        raise UsageError(f"minutes must be more than 0 and at most 10000; got {minutes:g}")
    chosen = secrets.randbelow(1 << 32) if seed is None else seed
    return show_faults(draw(minutes, seed=chosen, timeout_s=timeout), timeout_s=timeout, seed=chosen, output=output)
