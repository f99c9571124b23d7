"""How a planted bug showed, held against what its entry says of it.

Here: pure functions from what was judged to words. Not here: the entries (`entry`), running them (`run.catalogue`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from siglip_verify.bugs.entry import Bug
from siglip_verify.checks.inputs import INPUT_FINDINGS
from siglip_verify.checks.memory import MEMORY_FINDINGS
from siglip_verify.records import CaseResult, Quantity


def outcome_of(caught: CaseResult) -> str:
    """Say how a bug showed: by its memory, by how a rank failed (raised, died, hung), or else as a mismatch.

    A rank that failed comes first: what is found in the messages of a step that hung does not make it a wrong number.
    Input that was overwritten is an outcome where it is all that shows.
    """
    if any(finding.name in MEMORY_FINDINGS for finding in caught.findings):
        return "memory"
    kinds = [failure.kind for failure in caught.failures if failure.blamed] or [f.kind for f in caught.failures]
    if kinds:
        return kinds[0]
    names = {finding.name for finding in caught.findings}
    return "input" if names and names <= set(INPUT_FINDINGS) and not beyond_bound(caught) else caught.verdict


def beyond_bound(caught: CaseResult) -> tuple[Quantity, ...]:
    """Return the quantities that are out of their bound."""
    return tuple(share.quantity for share in caught.shares if not share.share <= 1)


def amiss(bug: Bug, caught: CaseResult, diagnosis: str) -> Iterator[str]:
    """Say what is otherwise than the entry declares: the outcome, the world size, the quantities, the diagnosis."""
    outcome, case = outcome_of(caught), caught.case
    if outcome not in bug.outcomes:
        yield f"outcome {outcome} in place of {' or '.join(bug.outcomes)}"
    if not bug.where.has_world_size(case.world_size):
        yield f"shows at W = {case.world_size}, where it is right"
    beyond = set(beyond_bound(caught))
    if bug.quantities and not beyond & set(bug.quantities):
        yield f"shows in none of {', '.join(bug.quantities)}"
    if others := sorted(beyond - set(bug.quantities)):
        yield f"shows in {', '.join(others)} as well"
    if not re.search(bug.diagnosis, diagnosis, re.IGNORECASE):
        yield f"the diagnosis does not say {bug.diagnosis}"
