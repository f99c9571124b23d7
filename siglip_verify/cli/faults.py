"""`siglip-verify faults`: ranks that die, hang or run out of something, and what is said of them."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from siglip_verify.case import EXCHANGES, Exchange
from siglip_verify.cli.output import show_faults
from siglip_verify.errors import UsageError
from siglip_verify.fault import KINDS, Kind
from siglip_verify.records import Phase
from siglip_verify.run.fault_plans import ANYWHERE, Place, in_a_row, matrix
from siglip_verify.run.settings import parse_world_sizes


def faults(
    *,
    only: Annotated[tuple[Kind, ...], Parameter(help="Kinds of fault; may be repeated.")] = (),
    exchange: Annotated[tuple[Exchange, ...], Parameter(help="Which exchanges; may be repeated.")] = (),
    world_sizes: Annotated[str, Parameter(help="Numbers of ranks, such as `2-4`.")] = "2-4",
    rank: Annotated[int | None, Parameter(help="In which rank; drawn if not named.")] = None,
    phase: Annotated[Phase | None, Parameter(help="In forward or backward; drawn if not named.")] = None,
    hop: Annotated[int | None, Parameter(help="At which hop, counted from 0; drawn if not named.")] = None,
    number: Annotated[
        int | None, Parameter(name="--in-a-row", help="So many random faults, in place of one of each.")
    ] = None,
    seed: Annotated[int, Parameter(help="Where the draws start.")] = 0,
    timeout: Annotated[float, Parameter(help="Seconds that a rank may take in a step with a fault.")] = 3.0,
    output: Annotated[Literal["text", "json"], Parameter(name="--format", help="What is printed.")] = "text",
) -> int:
    """Have a rank die, hang or run out of something in the middle of a step, and hold what is said of it against that.

    Each kind of fault is set off at every exchange and W, in a rank, phase and hop that are drawn or named. The verdict
    must be `unknown` (`mismatch` where a message was truncated), name the rank and the hop, and come within the timeout
    and 5 s; no process and no file may be left, and the next case must pass.

    ```
    siglip-verify faults
    siglip-verify faults --only stopped --only truncated --exchange reduce --world-sizes 2
    siglip-verify faults --only killed --exchange shift --world-sizes 4 --rank 2 --phase backward --hop 1
    siglip-verify faults --in-a-row 200
    ```

    Faults are set off in this package's own loss. They show how its verdicts on yours are to be read when a rank fails.
    """
    sizes = parse_world_sizes(world_sizes)
    if min(sizes) < 2:
        raise UsageError(f"a fault is set off in a message, so W is at least 2; got --world-sizes {world_sizes!r}")
    place = Place(rank, phase, hop)
    if number is not None and (number < 1 or only or exchange or place != ANYWHERE):
        raise UsageError("--in-a-row takes a number of at least 1, and no kind, exchange, rank, phase or hop beside it")
    acts = (
        matrix(
            seed=seed,
            timeout_s=timeout,
            kinds=only or KINDS,
            exchanges=exchange or EXCHANGES,
            world_sizes=sizes,
            at=place,
        )
        if number is None
        else in_a_row(number, seed=seed, timeout_s=timeout)
    )
    return show_faults(acts, timeout_s=timeout, seed=seed, output=output)
