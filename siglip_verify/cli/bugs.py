"""`siglip-verify bugs`: the catalogue of known bugs, each planted and looked for."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import Console

from siglip_verify.cli.exit_codes import EXIT_CODES
from siglip_verify.errors import UsageError
from siglip_verify.report import bugs as bug_report
from siglip_verify.run.catalogue import QUICK, all_controls, chosen_bugs, run_catalogue
from siglip_verify.run.settings import checked_seed, checked_timeout
from siglip_verify.world import Worlds


def bugs(
    *,
    only: Annotated[tuple[str, ...], Parameter(help="Ids of the catalogue; may be repeated.")] = (),
    quick: Annotated[bool, Parameter(help="One bug of each kind, and nothing else.")] = False,
    seed: Annotated[tuple[int, ...], Parameter(help="Where the draws start; may be repeated.")] = (0,),
    timeout: Annotated[float, Parameter(help="Seconds that a rank may take for one case of a bug that hangs.")] = 5.0,
    output: Annotated[
        Literal["text", "json", "markdown"], Parameter(name="--format", help="What is printed.")
    ] = "text",
    json: Annotated[bool, Parameter(help="The same as `--format json`.")] = False,
) -> int:
    """Plant every known bug in a correct loss, and see whether the check catches it and says what it is.

    Of several seeds each bug is searched from every one, and shown as it came at the worst. The full run also holds
    right losses that are written differently against the same check, and says what weaker checkers (the loss alone,
    two ranks alone, ...) would have missed, both from the first seed. It is no pass if a bug is missed, or shows
    otherwise than its entry declares: in its outcome, its quantities, its world sizes or what the diagnosis says.

    ```
    siglip-verify bugs
    siglip-verify bugs --only gather-no-grad --only bidir-ping-pong
    siglip-verify bugs --quick --seed 1 --seed 2 --json
    ```
    """
    if json and output == "markdown":
        raise UsageError("one form is printed; got --json beside --format markdown: leave one out")
    checked_timeout(timeout)
    for each in seed:
        checked_seed(each)
    chosen = chosen_bugs(only or (QUICK if quick else ()))
    whole = not only and not quick
    told = Console(stderr=True)
    with Worlds(timeout_s=timeout) as worlds:
        result = run_catalogue(
            worlds,
            chosen,
            seeds=seed,
            controls=all_controls() if whole else (),
            weaker=whole,
            progress=lambda done: told.print(bug_report.line(done), style="dim", markup=False, highlight=False),
        )
    if json or output == "json":
        print(bug_report.json(result).decode(), end="")
    elif output == "markdown":
        print(bug_report.markdown(result), end="")
    else:
        bug_report.render(result, Console())
    return EXIT_CODES[result.verdict]
