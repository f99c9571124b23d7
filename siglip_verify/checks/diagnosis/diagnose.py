"""From evidence to one sentence: the hypotheses in the order of their plainness, the first that holds is said.

Here: the order, and what stands around the sentence. Not here: any hypothesis.
"""

from __future__ import annotations

from siglip_verify.checks.coverage import probe_cases
from siglip_verify.checks.diagnosis import counts, factors, gradients, labels, messages, terms, values, words
from siglip_verify.checks.diagnosis.evidence import Evidence
from siglip_verify.checks.diagnosis.statement import Hypothesis, Statement
from siglip_verify.records import Clue, Diagnosis

MESSAGES: tuple[Hypothesis, ...] = (messages.messages_at_fault, messages.overwritten_or_kept, messages.failed_ranks)

NUMBERS: tuple[Hypothesis, ...] = (
    values.differs_between_runs,
    values.not_a_number,
    values.upstream_ignored,
    values.softplus_beyond_its_threshold,
    factors.everything_times_a_factor,
    counts.blocks_not_counted_once,
    counts.pairs_not_counted_once,
    counts.blocks_weigh_otherwise,
    labels.positives_on_wrong_pairs,
    gradients.gradients_on_wrong_ways,
    terms.another_scale_or_bias,
    terms.scale_clamped,
    terms.other_texts,
    terms.saved_texts_overwritten,
    terms.rows_weigh_wrongly,
    values.local_value_reduced,
    values.right_over_all_ranks,
    values.right_only_at_small_logits,
    values.narrower_precision,
    messages.messages_that_differ,
    values.kept_from_the_step_before,
    values.only_some_ranks,
)


def diagnose(evidence: Evidence) -> Diagnosis:
    """Say what is wrong with a loss, as far as the evidence goes.

    A hypothesis is said only if it holds for the numbers that were recorded: a model of it predicts each of them to
    within the bounds of the case, or they are as it says by themselves. Where none holds, the sentence says that.
    """
    by_messages = _first(MESSAGES, evidence)
    by_numbers = _first(NUMBERS, evidence)
    said = by_messages or by_numbers or _nothing(evidence)
    also = [Clue(title="the numbers", text=by_numbers.sentence)] if by_messages and by_numbers else []
    case = evidence.found.case
    return Diagnosis(
        sentence=_at(evidence) + said.sentence,
        cause=said.cause,
        evidence=(*said.clues, *also, *_circumstances(evidence, said), *evidence.notes),
        matrices=(*said.matrices, *(evidence.coverage.matrices() if evidence.coverage else ())),
        fails_at=evidence.sizes("mismatch"),
        passes_at=evidence.sizes("pass"),
        smallest_world_size=case.world_size,
        smallest_batch=case.batch,
    )


def _first(hypotheses: tuple[Hypothesis, ...], evidence: Evidence) -> Statement | None:
    return next((found for hypothesis in hypotheses if (found := hypothesis(evidence))), None)


def _nothing(evidence: Evidence) -> Statement:
    """Say that no hypothesis holds, and which were tried."""
    seen = evidence.plain
    tried = [str(hypothesis.__doc__).split("\n")[0].rstrip(".") for hypothesis in (*MESSAGES, *NUMBERS)]
    if evidence.needed("rows"):
        return Statement(
            "ragged", "only ranks with different numbers of rows go wrong: their padding, their divisor or their rows"
        )
    if seen is None:
        return Statement(
            "unknown", "no case failed and ended when it was run again: a race, such as something read before a wait"
        )
    wrong = words.listed(sorted(quantity.replace("_", " ") for quantity in seen.wrong))
    clue = Clue(title="tried", text="; ".join(tried))
    return Statement("unknown", f"nothing known fits: {wrong} {'are' if len(seen.wrong) > 1 else 'is'} wrong", (clue,))


def _at(evidence: Evidence) -> str:
    """Say at which W this was seen, and what a case must have for it to show."""
    case = evidence.plain.case if evidence.plain else evidence.found.case
    needs = [f"{name} = {value}" for name, value in evidence.needs if name not in ("scale", "bias")]
    return f"At W = {case.world_size}{' with ' + words.listed(needs) if needs else ''}, "


def _circumstances(evidence: Evidence, said: Statement) -> list[Clue]:
    """Say in which cases this was seen, and at which world sizes it is not."""
    clues: list[Clue] = []
    if evidence.plain is not None:
        clues.append(Clue(title="seen in" if said.cause == "unknown" else "holds in", text=str(evidence.plain.case)))
    if pattern := _pattern(evidence.sizes("mismatch"), evidence.sizes("pass")):
        clues.append(Clue(title="world sizes", text=pattern))
    if evidence.coverage is not None and evidence.plain is not None:
        zero, one = probe_cases(evidence.plain.case)
        clues.append(Clue(title="probe", text=f"{zero}; and the same with bias={one.bias}"))
    return clues


def _pattern(fails: tuple[int, ...], passes: tuple[int, ...]) -> str:
    """Say what the failing world sizes have in common."""
    if not fails or not passes:
        return ""
    parity = fails[0] % 2
    all_alike = all(size % 2 == parity for size in fails) and not any(size % 2 == parity for size in passes if size > 1)
    if len(fails) > 1 and all_alike:
        return f"only {'odd' if parity else 'even'} W fail"
    return f"W = {min(fails)} and larger fail, smaller W pass" if max(passes) < min(fails) else ""
