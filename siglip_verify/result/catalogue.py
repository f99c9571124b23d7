"""What came of holding the verifier against known bugs and against losses that are right."""

from __future__ import annotations

import msgspec

from siglip_verify.records import Quantity, Verdict


class BugResult(msgspec.Struct, frozen=True, kw_only=True):
    """Whether one planted bug was caught; of several seeds, at the one where it went worst.

    Attributes:
        id, sentence, source: The entry of the catalogue.
        caught: mismatch, memory, or how a rank failed (raised, died, hung); empty if it was missed.
        seed: Where the draws started: at another seed it took no more cases.
        cases: How many cases it took, the one that caught it included.
        case: The case that caught it, as drawn.
        quantities: What was out of its bound there.
        findings: What was wrong with the messages there.
        diagnosis: The sentence that a user reads.
        amiss: In what it showed otherwise than the entry says, in words.
        missed_by: The weaker checkers that saw nothing wrong in as many cases of their own kind.
        elapsed_s: Seconds at all seeds, measured.
    """

    id: str
    sentence: str
    source: str
    caught: str
    seed: int
    cases: int
    case: str
    quantities: tuple[Quantity, ...]
    findings: tuple[str, ...]
    diagnosis: str
    amiss: tuple[str, ...]
    missed_by: tuple[str, ...]
    elapsed_s: float

    @property
    def passes(self) -> bool:
        """Whether it was caught, and as its entry says."""
        return bool(self.caught) and not self.amiss


class ControlResult(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a loss that is right, though written differently, was accepted; `case` is the first that was not."""

    id: str
    sentence: str
    verdict: Verdict
    cases: int
    case: str
    elapsed_s: float


class WeakerChecker(msgspec.Struct, frozen=True, kw_only=True):
    """What a checker that looks at less would have missed, of the `of` bugs that show in numbers."""

    name: str
    looks_at: str
    of: int
    missed: tuple[str, ...]


class CatalogueResult(msgspec.Struct, frozen=True, kw_only=True):
    """The verifier held against the catalogue of known bugs.

    Attributes:
        seeds: Where the draws started: bugs were searched from each, the rest was done from the first.
        bugs: One for each entry that was run.
        controls: One for each control that was run.
        weaker: What weaker checkers would have missed; empty where that was not looked at.
        elapsed_s: Seconds, measured.
    """

    seeds: tuple[int, ...]
    bugs: tuple[BugResult, ...]
    controls: tuple[ControlResult, ...] = ()
    weaker: tuple[WeakerChecker, ...] = ()
    elapsed_s: float

    @property
    def verdict(self) -> Verdict:
        """Say pass if every bug was caught as declared and every control accepted, unknown if nothing was run."""
        if not self.bugs and not self.controls:
            return "unknown"
        caught = all(bug.passes for bug in self.bugs)
        return "pass" if caught and all(control.verdict == "pass" for control in self.controls) else "mismatch"
