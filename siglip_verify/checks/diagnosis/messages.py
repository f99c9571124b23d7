"""What findings and failures say in one sentence: causes that need no numbers."""

from __future__ import annotations

from siglip_verify.checks.diagnosis.evidence import Evidence
from siglip_verify.checks.diagnosis.statement import Statement
from siglip_verify.checks.failures import failure_sentence
from siglip_verify.records import Clue

_SHOWN = 4

# What findings mean for the loss, plainest cause first; of several, the first is said.
_CAUSES: dict[str, str] = {
    "self-send": "a rank sends to itself",
    "deadlock": "ranks wait for each other in a ring and none can go on, a deadlock: post sends and receives together",
    "collective-order": "ranks issue their collectives in different order",
    "collective-size": "ranks hand over blocks of different size in one collective",
    "dtype-differs": "the two ends of a message hold different dtypes, so its bits are read as something else",
    "size-differs": "the two ends of a message differ in size: ranks do not hold as many rows",
    "unwaited-receive": "a receive buffer is read before the wait for its message",
    "narrow-wire": "features are sent in a narrower dtype than they have",
}
_CONSEQUENCES: dict[str, str] = {  # of what the numbers may say better
    "unmatched-send": "a rank sends what its destination never receives",
    "unmatched-receive": "a rank waits for what its source never sends",
    "differs-from-plan": "the messages are not those that the exchange should send",
}
_BESIDE_MESSAGES: dict[str, str] = {
    "input-changed": "the loss overwrites what its caller handed it",
    "memory-grows": "what a step keeps is not what its form promises",
}


def messages_at_fault(evidence: Evidence) -> Statement | None:
    """A finding names the cause by itself."""
    return _said(evidence, _CAUSES)


def overwritten_or_kept(evidence: Evidence) -> Statement | None:
    """A finding names what was overwritten or kept."""
    return _said(evidence, _BESIDE_MESSAGES, prefix="")


def messages_that_differ(evidence: Evidence) -> Statement | None:
    """The numbers say nothing, and messages are missing or not those of the plan."""
    return _said(evidence, _CONSEQUENCES)


def _said(evidence: Evidence, meanings: dict[str, str], prefix: str = "messages-") -> Statement | None:
    findings = evidence.found.findings or (evidence.plain.findings if evidence.plain else ())
    for name, meaning in meanings.items():
        first, *others = [finding.detail for finding in findings if finding.name == name] or [""]
        if first:
            clues = tuple(Clue(title=name, text=detail) for detail in others[:_SHOWN])
            return Statement(f"{prefix}{name}", f"{meaning} ({first})", clues)
    return None


def failed_ranks(evidence: Evidence) -> Statement | None:
    """Ranks gave no record."""
    found = evidence.found
    return (
        Statement("ranks-failed", failure_sentence(found.failures, found.case.world_size)) if found.failures else None
    )
