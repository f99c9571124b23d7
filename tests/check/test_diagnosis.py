"""Diagnosis from records alone: the sentence names what was planted, and nothing is claimed that was not.

Oracle: what was planted, in all ranks of a loss computed block by block in one process (`one_process`), without the
models that the hypotheses are made of. Sees: a hypothesis that holds for right numbers or for noise, one that is said
of another fault, wrong ranks in a sentence, an order that puts a vague cause before a plain one.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pytest
import torch
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from one_process import Array, Block, block, both_directions, changed, records
from torch import Tensor

from siglip_verify import features
from siglip_verify.adapt import LossSpec
from siglip_verify.case import Case, Exchange
from siglip_verify.checks import equivalence
from siglip_verify.checks.coverage import coverage, probe_cases
from siglip_verify.checks.diagnosis import Evidence, Observation, diagnose
from siglip_verify.checks.diagnosis.counts import in_words
from siglip_verify.checks.diagnosis.diagnose import MESSAGES, NUMBERS
from siglip_verify.checks.diagnosis.evidence import _estimates
from siglip_verify.checks.diagnosis.words import factor
from siglip_verify.checks.expected import expected
from siglip_verify.oracle import Estimate
from siglip_verify.records import CaseResult, Clue, Diagnosis, Finding, RankFailure, RankRecord, Verdict

Records = Callable[[Case], Sequence[RankRecord]]
WORLD_SIZES = (1, 2, 4)
OWN = np.eye(4)


def plain(world_size: int = 4, batch: int = 3, exchange: Exchange = "bidir", **changes: object) -> Case:
    dim = max(2 * world_size * batch, world_size**2)
    case = Case(exchange=exchange, world_size=world_size, batch=batch, dim=dim, seed=1)
    return msgspec.structs.replace(case, **changes)


def observe(case: Case, seen: Sequence[RankRecord], spec: LossSpec | None = None, operations: str = "") -> Observation:
    declared = spec or LossSpec()
    shares = equivalence.judge(case, seen, expected(case, declared), row_wise=declared.row_wise)
    return Observation(spec=declared, case=case, records=tuple(seen), shares=shares, operations=operations)


def evidence(
    planted: Records,
    case: Case | None = None,
    *,
    spec: LossSpec | None = None,
    fails: Sequence[int] = (2, 3, 4, 5),
    passes: Sequence[int] = (1,),
    needs: tuple[tuple[str, str], ...] = (),
    findings: tuple[Finding, ...] = (),
    operations: str = "",
) -> Evidence:
    case = case or plain()
    zero, one = probe_cases(case)
    seen = observe(case, planted(case), spec, operations)
    normalizers = (spec or LossSpec()).normalizers((zero.batch,) * case.world_size)
    verdicts: dict[int, Verdict] = dict.fromkeys(fails, "mismatch")
    return Evidence(
        found=CaseResult(case=Case(), verdict="mismatch", shares=seen.shares, findings=findings),
        plain=seen,
        again=seen,
        needs=needs,
        coverage=coverage(zero, planted(zero), planted(one), normalizers),
        verdicts=verdicts | dict.fromkeys(passes, "pass"),
    )


def said_of(planted: Records, case: Case | None = None, **rest: object) -> Diagnosis:
    return diagnose(evidence(planted, case, **rest))  # type: ignore[arg-type]


def noise(*fields: str) -> Records:
    """Return what gives records whose gradients hold noise, another each time."""
    generator = np.random.default_rng(0)

    def added(grad: Array) -> Array:
        return grad + generator.standard_normal(grad.shape)

    return lambda case: changed(records(case), **dict.fromkeys(fields, added))


def ring(*offsets: int, world_size: int = 4) -> Array:
    """[W, W] of 1 where rank i counts the rank so many places to its right."""
    i, k = np.indices((world_size, world_size))
    return np.isin((k - i) % world_size, offsets).astype(np.float64)


# ------------------------------------------------------------------ nothing is claimed that does not hold
@pytest.mark.parametrize("world_size", WORLD_SIZES)
@pytest.mark.parametrize("needs", [(), (("upstream", "by-rank"),), (("chunk_size", "2"),)])
def test_no_hypothesis_holds_for_right_numbers(world_size: int, needs: tuple[tuple[str, str], ...]) -> None:
    of = evidence(records, plain(world_size, upstream="by-rank" if needs else "one"), needs=needs)
    assert [hypothesis.__name__ for hypothesis in (*MESSAGES, *NUMBERS) if hypothesis(of)] == []


@examples(10)
@given(
    st.sampled_from(["loss", "image_grad", "text_grad", "scale_grad", "bias_grad"]),
    st.integers(0, 1 << 20),
    st.floats(1e-3, 10),
)
def test_numbers_that_no_fault_explains_are_called_that(field: str, seed: int, size: float) -> None:
    generator = np.random.default_rng(seed)

    def noisy(case: Case) -> list[RankRecord]:
        return changed(
            records(case), **{field: lambda value: value + size * generator.standard_normal(np.shape(value))}
        )

    seen = evidence(noisy)
    found = diagnose(seen)
    assert found.cause in ("unknown", "narrow-precision")
    if found.cause == "narrow-precision":
        assert is_off_by_at_most(MOST_OF_BFLOAT16, seen)
    if found.cause == "unknown":
        assert found.sentence.startswith("At W = 4, nothing known fits: ")
        assert field.replace("_", " ") in found.sentence
        (tried,) = [clue.text for clue in found.evidence if clue.title == "tried"]
        assert tried.count(";") == len(MESSAGES) + len(NUMBERS) - 1


MOST_OF_BFLOAT16 = 1 / 16  # eight steps of 2 ** -7


def is_off_by_at_most(share: float, of: Evidence) -> bool:
    """Tell whether every quantity but the bias is off by so much of its largest element, or less."""
    assert of.plain is not None
    pairs = zip(records(of.plain.case), of.plain.records, strict=True)
    fields = ("loss", "image_grad", "text_grad", "scale_grad")
    right, seen = zip(*([[getattr(each, name) for name in fields] for each in pair] for pair in pairs), strict=True)
    return all(
        np.abs(np.subtract(expected, observed)).max() <= share * np.abs(expected).max()
        for expected, observed in zip(zip(*right, strict=True), zip(*seen, strict=True), strict=True)
    )


def test_a_case_that_does_not_fail_again_is_called_a_race() -> None:
    found = diagnose(Evidence(found=CaseResult(case=Case(world_size=3), verdict="mismatch"), verdicts={3: "pass"}))
    assert found.cause == "unknown"
    assert found.sentence == (
        "At W = 3, no case failed and ended when it was run again: a race, such as something read before a wait"
    )


# ------------------------------------------------------------------ blocks
COUNTS: dict[str, tuple[Exchange, Array, str]] = {
    "the last single hop": (
        "bidir",
        ring(0, 1, 3),
        "ranks 0 and 2 never see each other's texts, nor ranks 1 and 3: the last single hop is missing",
    ),
    "no hop": (
        "bidir",
        np.eye(4),
        "ranks never see each other's texts, every rank counts its own block alone",
    ),
    "the last hop of shift": (
        "shift",
        ring(0, 2, 3),
        "rank 0 never sees the texts of rank 1, and so on around the ring: the last hop is missing",
    ),
    "the rank opposite twice": (
        "bidir",
        ring(0, 1, 2, 3) + ring(2),
        "ranks 0 and 2 count each other's texts twice, as do ranks 1 and 3: the last hop comes from both sides",
    ),
    "own texts twice": (
        "reduce",
        np.ones((4, 4)) + np.eye(4),
        "every rank counts its own texts twice, once as they should be and then as negatives",
    ),
    "own texts twice after all hops": (
        "shift",
        np.ones((4, 4)) + np.eye(4),
        "every rank counts its own texts twice, once as they should be and then as negatives: one hop too many",
    ),
    "the neighbour again and again": (
        "shift",
        ring(0) + 3 * ring(3),
        (
            "rank 0 never sees the texts of ranks 1 and 2 and counts those of rank 3 three times, and so on around the "
            "ring: what arrives is not passed on"
        ),
    ),
    "ranks 1 and 3 of four": (
        "gather",
        np.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 1, 1.0]]),
        "ranks 1 and 3 never see each other's texts",
    ),
    "one rank alone": (
        "gather",
        np.array([[1, 0, 0, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1.0]]),
        "rank 0 never sees the texts of ranks 1 and 2",
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_it_names_the_ranks_that_do_not_see_each_other_once(name: str) -> None:
    exchange, counted, sentence = COUNTS[name]
    fails, passes = ((2, 4), (1, 3, 5)) if "hop" in name or "twice" in name else ((4,), (1,))
    found = said_of(functools.partial(records, counted=counted), plain(exchange=exchange), fails=fails, passes=passes)
    assert found.sentence == f"At W = 4, {sentence}"
    assert found.matrices[0].values == tuple(map(tuple, counted.tolist()))


@examples(10)
@given(st.sampled_from([2, 3, 4]), st.data())
def test_any_count_of_blocks_is_read_off_and_explains_every_number(world_size: int, data: st.DataObject) -> None:
    shape = (world_size, world_size)
    counted = data.draw(arrays.arrays(np.float64, shape, elements=st.integers(0, 3).map(float)))
    counted[np.diag_indices(world_size)] = np.maximum(1, np.diag(counted))  # else labels are missing too
    if (counted == counted[0, 0]).all():
        return
    found = said_of(functools.partial(records, counted=counted), plain(world_size))
    assert found.cause == ("blocks-unseen" if (counted == 0).any() else "blocks-repeated")
    named = {int(number) for number in re.findall(r"\d+", found.sentence.removeprefix(f"At W = {world_size}"))}
    assert named <= set(range(world_size)) | set(counted.ravel().astype(int).tolist())


def test_of_many_ranks_that_differ_a_few_are_named() -> None:
    counted = np.ones((5, 5))
    counted[0, 1] = counted[1, 3] = counted[2, 0] = counted[3, 1] = 0
    assert in_words(counted) == (
        "rank 0 never sees the texts of rank 1; rank 1 never sees the texts of rank 3; 2 more ranks alike"
    )


def test_counts_are_read_off_the_gradients_where_the_probe_failed() -> None:
    _, counted, sentence = COUNTS["the last single hop"]
    of = evidence(functools.partial(records, counted=counted), passes=(1, 3, 5), fails=(2, 4))
    found = diagnose(dataclasses.replace(of, coverage=None))
    assert found.sentence == f"At W = 4, {sentence}"


def test_the_texts_of_one_rank_in_every_block_are_called_that() -> None:
    counted, positives = np.zeros((4, 4)), np.zeros((4, 4))
    counted[:, 1], positives[:, 1] = 4, 1
    found = said_of(functools.partial(records, counted=counted, positives=positives))
    assert found.sentence == "At W = 4, every rank sees only rank 1's texts, four times, and never the others'"


def weighed(weights: Array) -> Records:
    """Blocks whose sums weigh something each, positives and negatives alike."""

    def of_block(i: int, k: int) -> Block:
        return lambda *of: float(weights[i, k]) * block(*of)

    return functools.partial(records, of_block=of_block)


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        (np.full((4, 4), 1 / 4) + 3 / 4 * OWN, "remote blocks count 0.25 times (1/W), and not once"),
        (np.full((4, 4), 1 / 3) + 2 / 3 * OWN, "remote blocks count 0.333 times (1/b), and not once"),
        (np.full((4, 4), 1 / 2) + 1 / 2 * OWN, "remote blocks count 0.5 times, and not once"),
        (
            np.ones((4, 4)) - OWN / 2,
            ("blocks do not count once each: rank 0 counts rank 0's texts 0.5 times, and so on around the ring"),
        ),
        (
            np.ones((4, 4)) - np.diag([1, 0, 0], 1) * 2 / 3,
            "blocks do not count once each: rank 0 counts rank 1's texts 0.333 times",
        ),
        (
            np.ones((4, 4)) - OWN[0][:, None] * OWN[2] / 2 + OWN[3][:, None] * OWN[0],
            (
                "blocks do not count once each: rank 0 counts rank 2's texts 0.5 times; "
                "rank 3 counts rank 0's texts twice"
            ),
        ),
    ],
    ids=["1/W", "1/b", "half", "own blocks", "one block", "two blocks"],
)
@pytest.mark.parametrize("is_probed", [True, False])
def test_it_says_what_blocks_weigh(weights: Array, sentence: str, is_probed: bool) -> None:
    of = evidence(weighed(weights))
    found = diagnose(of if is_probed else dataclasses.replace(of, coverage=None))
    assert (found.cause, found.sentence) == ("blocks-weighed", f"At W = 4, {sentence}")


def test_blocks_that_do_not_weigh_as_the_probe_counts_are_not_said_to() -> None:
    noisy = noise("image_grad")
    quarter = weighed(np.full((4, 4), 1 / 4) + 3 / 4 * OWN)
    of = evidence(quarter)
    other = observe(plain(), noisy(plain()))
    assert diagnose(dataclasses.replace(of, plain=other, again=other)).cause == "unknown"


@pytest.mark.parametrize("world_size", WORLD_SIZES)
@pytest.mark.parametrize(
    ("cause", "sentence", "beside"),
    [
        ("positives-as-negatives", "positive pairs are counted as negatives too", 1),
        ("own-negatives-unseen", "the own block's negatives are left out", -1),
    ],
)
def test_it_says_which_pairs_of_the_own_block_are_not_counted_once(
    world_size: int, cause: str, sentence: str, beside: int
) -> None:
    def of_block(i: int, k: int) -> Block:
        def own(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, positive: bool) -> Tensor:
            as_negatives = torch.nn.functional.softplus(scale * image @ text.T + bias)
            extra = as_negatives.diagonal().sum() if beside > 0 else as_negatives.diagonal().sum() - as_negatives.sum()
            return block(image, text, scale, bias, positive) + extra

        return own if i == k else block

    found = said_of(functools.partial(records, of_block=of_block), plain(world_size), fails=(1, 2, 4), passes=())
    assert (found.cause, found.sentence) == (cause, f"At W = {world_size}, {sentence}")


def test_saturated_positives_are_not_blamed_for_a_fault_beside_them() -> None:
    """At z < -40 a positive pair adds nothing as a negative: models with it and without it predict the same."""
    astray = functools.partial(records, home=to(lambda i, k: k + 1))
    found = said_of(astray, plain(scale=1.0, bias=-60.0), needs=(("bias", "-60.0"),))
    assert found.cause not in ("positives-as-negatives", "own-negatives-unseen")


LOST = "ranks 0 and 2 never see each other's texts, nor ranks 1 and 3"


@pytest.mark.parametrize(
    ("counted", "passes", "sentence"),
    [
        (ring(0, 1, 3), (1, 3), f"{LOST}: the last single hop is missing"),
        (ring(0, 1, 3), (1,), LOST),
        (ring(0, 1, 3), (1, 6), LOST),
        (
            ring(0, 1, 3) + ring(0),
            (1, 3),
            (
                f"{LOST}; every rank counts its own texts twice, once as they should be and then as negatives: "
                "a block goes back to where it came from"
            ),
        ),
        (1 - OWN[0][:, None] * OWN[2][None, :], (1, 3), "rank 0 never sees the texts of rank 2"),
    ],
    ids=["odd W pass", "nothing passes", "an even W passes", "back again", "one rank alone"],
)
def test_a_hop_of_bidir_is_blamed_only_where_the_counts_and_other_world_sizes_say_so(
    counted: Array, passes: tuple[int, ...], sentence: str
) -> None:
    found = said_of(functools.partial(records, counted=counted), fails=(2, 4), passes=passes)
    assert found.sentence == f"At W = 4, {sentence}"


def test_two_ranks_that_do_not_see_each_other_lack_the_last_single_hop_too() -> None:
    found = said_of(functools.partial(records, counted=np.eye(2)), plain(2), fails=(2, 4), passes=(1, 3))
    assert found.sentence == (
        "At W = 2, ranks never see each other's texts, every rank counts its own block alone: "
        "the last single hop is missing"
    )


def test_ranks_are_paired_only_where_each_is_in_one_pair_and_none_misses_itself() -> None:
    itself, twice = np.ones((4, 4)), np.ones((4, 4))
    itself[0, 0] = itself[1, 2] = itself[2, 1] = 0
    assert in_words(itself) == (
        "rank 0 never sees the texts of rank 0; rank 1 never sees the texts of rank 2; 1 more rank alike"
    )
    twice[0, 1] = twice[1, 0] = twice[0, 2] = twice[2, 0] = 0
    assert in_words(twice) == (
        "rank 0 never sees the texts of ranks 1 and 2; rank 1 never sees the texts of rank 0; 1 more rank alike"
    )


def test_what_a_rank_lacks_and_what_it_counts_too_often_are_both_said() -> None:
    counted = np.ones((3, 3))
    counted[0] = [1, 0, 2]
    assert in_words(counted) == "rank 0 never sees the texts of rank 1 and counts those of rank 2 twice"


@pytest.mark.parametrize(
    ("counted", "sentence"),
    [
        ([[2.0]], "every rank counts its own texts twice, once as they should be and then as negatives"),
        ([[0.0, 2.0], [0.0, 2.0]], "every rank sees only rank 1's texts, twice, and never the others'"),
        (
            [[0.0, 1.0], [0.0, 2.0]],
            (
                "rank 0 never sees the texts of rank 0; "
                "rank 1 never sees the texts of rank 0 and counts those of rank 1 twice"
            ),
        ),
    ],
    ids=["one rank", "one rank's", "one rank's, not as often"],
)
def test_the_texts_of_one_rank_alone_are_said_where_that_is_all(counted: list[list[float]], sentence: str) -> None:
    assert in_words(np.array(counted)) == sentence


@pytest.mark.parametrize(
    ("counted", "remark"),
    [
        (ring(0, 3), ""),
        (np.ones((4, 4)) + 2 * OWN, ""),
        (ring(0, world_size=3) + 2 * ring(2, world_size=3), ": what arrives is not passed on"),
    ],
    ids=["two hops missing", "own texts three times", "the neighbour again at W = 3"],
)
def test_a_hop_of_shift_is_blamed_only_where_the_counts_say_so(counted: Array, remark: str) -> None:
    case = plain(len(counted), exchange="shift")
    found = said_of(functools.partial(records, counted=counted), case, fails=(2, 3, 4), passes=(1,))
    assert found.sentence == f"At W = {len(counted)}, {in_words(counted)}{remark}"


def test_one_pair_that_counts_each_others_texts_too_often_is_said_in_one_clause() -> None:
    counted = np.ones((3, 3))
    counted[0, 1] = counted[1, 0] = 3
    assert in_words(counted) == "ranks 0 and 1 count each other's texts three times"


def test_zeros_in_the_place_of_texts_are_told_from_texts_that_are_left_out() -> None:
    def of_block(i: int, k: int) -> Block:
        return block if i == k else lambda image, text, *rest: block(image, 0 * text, *rest)

    found = said_of(functools.partial(records, of_block=of_block))
    assert found.cause == "blocks-unseen"
    assert found.sentence.endswith(": zeros stand in their place")


def test_zeros_are_told_beside_texts_that_count_twice_and_labels_that_are_missing() -> None:
    def of_block(i: int, k: int) -> Block:
        return (lambda image, text, *rest: block(image, 0 * text, *rest)) if (i, k) == (0, 1) else block

    twice, unlabelled = np.ones((4, 4)), np.eye(4)
    twice[0, 2], unlabelled[3, 3] = 2, 0
    found = said_of(functools.partial(records, of_block=of_block, counted=twice))
    sentence = "rank 0 never sees the texts of rank 1"
    assert found.sentence == f"At W = 4, {sentence} and counts those of rank 2 twice: zeros stand in their place"
    found = said_of(functools.partial(records, of_block=of_block, positives=unlabelled))
    assert found.sentence == f"At W = 4, {sentence}: zeros stand in their place"


def test_one_ranks_texts_in_every_block_are_told_from_its_block_counted_for_all() -> None:
    """A gather into one buffer: what is in it is one rank's, and gradients go home as if it were not."""

    def of_rank_1(case: Case) -> list[RankRecord]:
        texts = features.draw(case).texts[1].double()

        def of_block(i: int, k: int) -> Block:
            return lambda image, text, *rest: block(image, text + (texts - text).detach(), *rest)

        return records(case, of_block=of_block)

    assert said_of(of_rank_1).sentence == (
        "At W = 4, every rank sees only rank 1's texts, four times, and never the others': "
        "every block holds the texts of one rank"
    )


# ------------------------------------------------------------------ labels
LABELS: dict[str, tuple[Array, str]] = {
    "everywhere": (
        np.ones((4, 4)),
        "the diagonals of remote blocks are labelled positive, where only the own block's should be",
    ),
    "at rank 0": (
        np.eye(4)[[0, 0, 0, 0]],
        "every rank looks for its positives in rank 0's texts: the label offset rank x b is missing",
    ),
    "at the rank on its host": (
        np.eye(4)[[0, 1, 0, 1]],
        (
            "rank 2 looks for its positives in rank 0's texts; rank 3 looks for its positives in rank 1's texts: "
            "rank modulo 2 is taken for the rank"
        ),
    ),
    "one rank on": (
        np.roll(np.eye(4), 1, 1),
        "rank 0 looks for its positives in rank 1's texts, and so on around the ring",
    ),
    "nowhere": (np.zeros((4, 4)), "no pair is labelled positive"),
    "in one block more": (
        np.eye(4) + np.eye(4)[:, [1, 0, 2, 3]] * [[1], [0], [0], [0]],
        "rank 0 labels the diagonal against ranks 0 and 1 positive",
    ),
    "at all ranks but one": (np.diag([1, 0, 1, 1]), "rank 1 labels no pair positive"),
}


@pytest.mark.parametrize("name", LABELS)
def test_it_names_where_positives_are_looked_for(name: str) -> None:
    positives, sentence = LABELS[name]
    found = said_of(functools.partial(records, positives=positives))
    assert (found.cause, found.sentence) == ("labels", f"At W = 4, {sentence}")


def flipped(of_rank: Array, *, diagonal: bool = False) -> Records:
    """Every pair of some blocks [W, W] is labelled positive; with `diagonal`, matches are not, as by a wrong sign."""

    def of_block(i: int, k: int) -> Block:
        def positives(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, positive: bool) -> Tensor:
            z = scale * image @ text.T + bias
            labels = torch.ones_like(z)
            if diagonal and positive:
                labels -= 2 * torch.eye(len(z)).to(z)
            return -torch.nn.functional.logsigmoid(labels * z).sum()

        return positives if of_rank[i, k] else block

    return functools.partial(records, of_block=of_block)


@pytest.mark.parametrize(
    ("of_rank", "sentence"),
    [
        (
            ring(1),
            (
                "rank 0 labels every pair with the texts of rank 1 positive, and so on around the ring: "
                "the sign of such a block's labels is wrong"
            ),
        ),
        (
            OWN[1][:, None] * (OWN[2] + OWN[3]),
            (
                "rank 1 labels every pair with the texts of ranks 2 and 3 positive: "
                "the sign of such a block's labels is wrong"
            ),
        ),
        (1 - OWN, "every pair of remote blocks is labelled positive: the sign of their labels is wrong"),
        (OWN, "every pair of the own block is labelled positive: the sign of its labels is wrong"),
        (np.ones((4, 4)), "every pair of all blocks is labelled positive: the sign of their labels is wrong"),
    ],
    ids=["one of a ring", "two of one rank", "remote", "own", "all"],
)
def test_blocks_whose_every_pair_is_positive_are_called_that(of_rank: Array, sentence: str) -> None:
    found = said_of(flipped(of_rank))
    assert (found.cause, found.sentence) == ("labels", f"At W = 4, {sentence}")


@pytest.mark.parametrize("world_size", [1, 4])
def test_a_sign_that_is_wrong_in_every_label_is_called_that(world_size: int) -> None:
    case = plain(world_size)
    found = said_of(flipped(np.ones((world_size, world_size)), diagonal=True), case, fails=(1, 2, 4), passes=())
    assert found.sentence == f"At W = {world_size}, matches are labelled negative and all other pairs positive"


@examples(10)
@given(st.permutations(range(3)))
def test_it_names_a_pair_where_positives_do_not_match_row_by_row(order: list[int]) -> None:
    def of_block(i: int, k: int) -> Block:
        def shuffled(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, positive: bool) -> Tensor:
            return block(image, text[order] if positive else text, scale, bias, positive)

        return shuffled

    if order == sorted(order):
        return
    found = said_of(functools.partial(records, of_block=of_block))
    row = next(row for row, text in enumerate(order) if row != text)
    pair = f"image {row} of rank 0 is paired with text {order[row]} of rank 0"
    assert found.sentence == f"At W = 4, positives do not match row by row: {pair}"


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (
            [[0.5, 0.5, 0], [0, 1, 0], [0, 0, 1]],
            "positives do not match row by row: image 0 of rank 0 is paired with text 1 of rank 0 with weight 0.5",
        ),
        (
            [[1, 0, 0], [0.25, 1, 0], [0, 0, 1]],
            "positives do not match row by row: image 1 of rank 0 is paired with text 0 of rank 0 with weight 0.25",
        ),
        (
            [[1, 0, 0], [0, 2, 0], [0, 0, 1]],
            "positives do not match row by row: image 1 of rank 0 is paired with text 1 of rank 0 with weight 2",
        ),
        ([[1, 0, 0], [0, 0, 0], [0, 0, 1]], "row 1 of rank 0 has no positive at all, and others with it"),
    ],
    ids=["smoothed", "one more", "twice", "none"],
)
@pytest.mark.parametrize("needs", [(), (("chunk_size", "2"),)], ids=str)
def test_it_names_the_first_pair_with_a_wrong_label(
    labels: list[list[float]], sentence: str, needs: tuple[tuple[str, str], ...]
) -> None:
    def labelled(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, positive: bool) -> Tensor:
        z = scale * image @ text.T + bias
        return block(image, text, scale, bias, False) - positive * (torch.tensor(labels).to(z) * z).sum()

    def of_block(i: int, k: int) -> Block:
        return labelled

    planted = functools.partial(records, of_block=of_block)
    found = said_of(planted, plain(chunk_size=2 if needs else 0), needs=needs)
    assert found.cause == "labels"
    assert found.sentence.endswith(f", {sentence}")


def test_positives_that_are_shared_between_two_blocks_are_said_of_both() -> None:
    def of_block(i: int, k: int) -> Block:
        share = 0.5 if i == 1 and k in (1, 2) else float(i == k)

        def shared(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, positive: bool) -> Tensor:
            z = scale * image @ text.T + bias
            return block(image, text, scale, bias, False) - share * z.diagonal().sum()

        return shared

    found = said_of(functools.partial(records, of_block=of_block))
    assert found.sentence == "At W = 4, rank 1 labels the diagonal against ranks 1 and 2 positive"


def test_positives_that_begin_anew_in_every_chunk_are_called_that() -> None:
    def anew(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, positive: bool) -> Tensor:
        if not positive:
            return block(image, text, scale, bias, False)
        chunks = [(rows, text[: len(rows)], text[len(rows) :]) for rows in image.split(2)]
        return torch.stack(
            [
                block(rows, first, scale, bias, True) + block(rows, rest, scale, bias, False)
                for rows, first, rest in chunks
            ]
        ).sum()

    def of_block(i: int, k: int) -> Block:
        return anew

    found = said_of(functools.partial(records, of_block=of_block), plain(chunk_size=2), needs=(("chunk_size", "2"),))
    sentence = "positives begin anew at the first text in every chunk of 2 rows"
    assert found.sentence == f"At W = 4 with chunk_size = 2, {sentence}"


# ------------------------------------------------------------------ factors, and other declarations
@pytest.mark.parametrize(
    ("value", "named", "hint"),
    [
        (4.0, "W (4)", ""),
        (0.25, "1/W (0.25)", "is this a loss for summed gradients? try --reduction sum --normalizer N"),
        (3.0, "b (3)", "is this a sum over pairs? try --normalizer 1"),
        (1 / 3, "1/b (0.333)", "is this a mean over the b x b pairs of each block? try --normalizer b*b"),
        (1 / 12, "1/N (0.0833)", ""),
        (0.5, "1/2", ""),
        (-1.0, "-1", ""),
        (1.5, "1.5", ""),
    ],
)
def test_one_factor_in_everything_is_named_with_the_declaration_that_fits(value: float, named: str, hint: str) -> None:
    found = said_of(functools.partial(records, factor=value))
    sentence = f"At W = 4, loss and all gradients are equal to the oracle times {named}"
    assert found.sentence == (f"{sentence}: {hint}" if hint else sentence)
    if hint:
        flags = hint.partition("try ")[2]
        assert ("another declaration", f"every number fits with {flags}") in [(c.title, c.text) for c in found.evidence]


def test_another_declaration_is_tried_with_what_else_is_declared() -> None:
    """A loss of both directions has no local values of its own, whatever it is divided by."""
    by_pairs = LossSpec(row_wise=False, normalizer="1")
    found = said_of(lambda case: both_directions(case), spec=by_pairs)
    assert found.sentence.endswith(": is this a mean over the rank's own images? try --normalizer b")


def test_a_loss_that_is_declared_as_a_sum_and_is_a_mean_is_told_the_flag_back() -> None:
    found = said_of(records, spec=LossSpec(normalizer="1"))
    assert found.sentence.endswith(": is this a mean over the rank's own images? try --normalizer b")


def test_factors_are_named_by_what_they_are_made_of() -> None:
    assert [factor(value, 4, 3, 1e-6) for value in (4, 1 / 4, 3, 12, 9, 1 / 9, 0.125, 0.123)] == [
        "W (4)",
        "1/W (0.25)",
        "b (3)",
        "N (12)",
        "b*b (9)",
        "1/(b*b) (0.111)",
        "1/8",
        "0.123",
    ]


# ------------------------------------------------------------------ gradients on wrong ways
def to(target: Callable[[Array, Array], Array], world_size: int = 4) -> Array:
    """A home [j, i, k] in which the gradient of block (i, k) reaches rank target(i, k) once."""
    i, k = np.indices((world_size, world_size))
    return (np.arange(world_size)[:, None, None] == target(i, k) % world_size).astype(np.float64)


def instead(home: Array, targets: dict[tuple[int, int], int | None]) -> Array:
    """The same home, but for the gradients of some blocks (i, k), which reach another rank or none."""
    changed_home = home.copy()
    for (i, k), rank in targets.items():
        changed_home[:, i, k] = 0 if rank is None else np.eye(len(home))[rank]
    return changed_home


HOMES: dict[str, tuple[Array, str, str]] = {
    "nowhere else": (
        OWN[:, :, None] * OWN[:, None, :],
        "text-gradient-not-exchanged",
        "no gradient comes home to the text features from other ranks: backward sends nothing",
    ),
    "nowhere": (
        np.zeros((4, 4, 4)),
        "leaf-without-gradient",
        "text features get a gradient of zeros: what backward computes is lost",
    ),
    "the rank that computed it": (
        to(lambda i, k: i),
        "gradient-stays",
        "the gradient of other ranks' texts stays on the rank that computed it: backward sends nothing home",
    ),
    "the wrong direction": (
        to(lambda i, k: 2 * i - k),
        "gradient-direction",
        (
            "text gradients go the wrong direction around the ring, to another rank: "
            "what rank 0 has for rank 1's texts reaches rank 3"
        ),
    ),
    "the next rank": (
        to(lambda i, k: k + 1),
        "gradient-to-another-rank",
        (
            "text gradients come home to another rank: "
            "what rank 0 has for its own texts reaches rank 1, and so on around the ring"
        ),
    ),
    "everyone, of own blocks": (
        np.broadcast_to(OWN[None], (4, 4, 4)),
        "gradient-to-another-rank",
        (
            "every rank's text gradient is the sum of what all ranks have for their own texts: "
            "that reaches other ranks, and what they have for it is lost"
        ),
    ),
    "two ranks, one of them twice": (
        to(lambda i, k: k) + 2 * to(lambda i, k: k + 1) * (1 - OWN[None]),
        "gradient-to-another-rank",
        (
            "text gradients reach another rank or none: rank 0's gradient holds what rank 0 has for its own texts, "
            "what rank 0 has for rank 3's texts twice, what rank 1 has for rank 0's texts and 4 more"
        ),
    ),
    "half to the owner, half to the next": (
        (to(lambda i, k: k) + to(lambda i, k: k + 1)) / 2,
        "gradient-to-another-rank",
        (
            "text gradients reach another rank or none: rank 0's gradient holds what rank 0 has for its own texts "
            "0.5 times, what rank 0 has for rank 3's texts 0.5 times, what rank 1 has for rank 0's texts 0.5 times "
            "and 5 more"
        ),
    ),
    "home, by rank as often": (
        to(lambda i, k: k) * np.arange(1, 5)[:, None, None],
        "gradient-weights",
        "text features get the own block's gradient unevenly and the remote blocks' unevenly",
    ),
    "home, but for one": (
        instead(to(lambda i, k: k), {(1, 3): None}),
        "gradient-lost-on-the-way",
        "text gradients are lost on the way home: what rank 1 computed for rank 3's texts",
    ),
    "home, but for the rank opposite": (
        instead(to(lambda i, k: k), {(i, (i + 2) % 4): None for i in range(4)}),
        "gradient-lost-on-the-way",
        "text gradients are lost on the way home: what rank 2 computed for rank 0's texts, and so on around the ring",
    ),
    "home, but for one, and one twice": (
        instead(to(lambda i, k: k), {(1, 3): None}) + instead(np.zeros((4, 4, 4)), {(0, 2): 2}),
        "gradient-weights",
        "text features get the own block's gradient once and the remote blocks' unevenly",
    ),
    "three at rank 0, one of them nowhere": (
        instead(to(lambda i, k: k), {(3, 0): None, (1, 2): 3}),
        "gradient-to-another-rank",
        (
            "text gradients reach another rank or none: rank 0's gradient holds what rank 0 has for its own texts, "
            "what rank 1 has for rank 0's texts and what rank 2 has for rank 0's texts"
        ),
    ),
    "four at rank 0, none of another's": (
        instead(to(lambda i, k: k), {(3, 1): None, (1, 2): 3}),
        "gradient-to-another-rank",
        (
            "text gradients reach another rank or none: rank 0's gradient holds what rank 0 has for its own texts, "
            "what rank 1 has for rank 0's texts, what rank 2 has for rank 0's texts and 1 more"
        ),
    ),
    "none or rank 1": (
        to(lambda i, k: k + 1) * (OWN[1] @ OWN)[None, :, None],
        "gradient-to-another-rank",
        "text gradients reach another rank or none: rank 0's gradient holds what rank 1 has for rank 3's texts",
    ),
    "none at rank 0, whose own goes astray": (
        to(lambda i, k: k) * (1 - OWN[0]) + to(lambda i, k: 0 * k + 2) * OWN[0] * OWN[0][:, None],
        "gradient-to-another-rank",
        "text gradients reach another rank or none: rank 0's gradient is empty",
    ),
    "home, multiplied": (
        4 * to(lambda i, k: k),
        "gradient-factor",
        "the gradients of text features are the oracle's times W (4)",
    ),
    "home, remote ones twice": (
        to(lambda i, k: k) * (2 - OWN[None]),
        "gradient-weights",
        "text features get the own block's gradient once and the remote blocks' twice",
    ),
}


@pytest.mark.parametrize("name", HOMES)
def test_it_says_where_text_gradients_go(name: str) -> None:
    home, cause, sentence = HOMES[name]
    found = said_of(functools.partial(records, home=home), operations="forward 1 all_gather")
    assert (found.cause, found.sentence) == (cause, f"At W = 4, {sentence}")


@examples(10)
@given(st.lists(st.integers(0, 2), min_size=9, max_size=9))
def test_any_way_home_is_read_off_although_remote_blocks_look_alike_to_the_probe(targets: list[int]) -> None:
    reached = np.array(targets).reshape(3, 3)
    if (reached == np.arange(3)).all():
        return
    home = (np.arange(3)[:, None, None] == reached).astype(np.float64)
    found = said_of(functools.partial(records, home=home), plain(3))
    assert found.cause.startswith("gradient-")
    if "reaches rank" in found.sentence:
        words = re.search(r"what rank (\d) has for (?:rank (\d)'s|its own) texts reaches rank (\d)", found.sentence)
        assert words is not None
        i, j = int(words[1]), int(words[3])
        assert reached[i, int(words[2]) if words[2] else i] == j


@pytest.mark.parametrize(
    ("places", "cause", "sentence"),
    [
        (
            (1, 4),
            "gradient-direction",
            (
                "text gradients go the wrong direction around the ring, to another rank: "
                "what rank 0 has for rank 1's texts reaches rank 4"
            ),
        ),
        (
            (2, 3),
            "gradient-to-another-rank",
            "text gradients come home to another rank: what rank 0 has for rank 2's texts reaches rank 3",
        ),
        (
            (1,),
            "gradient-to-another-rank",
            "text gradients come home to another rank: what rank 0 has for rank 1's texts reaches rank 4",
        ),
    ],
    ids=["both neighbours", "two places away", "one neighbour"],
)
def test_the_direction_of_a_ring_is_that_of_its_neighbours(places: tuple[int, ...], cause: str, sentence: str) -> None:
    """At W = 5 the gradients of some blocks go the other way, and the rest come home."""

    def target(i: Array, k: Array) -> Array:
        return np.where(np.isin((k - i) % 5, places), 2 * i - k, k)

    found = said_of(functools.partial(records, home=to(target, 5)), plain(5))
    assert (found.cause, found.sentence) == (cause, f"At W = 5, {sentence}")


def test_image_gradients_that_reach_another_rank_are_said_of_images() -> None:
    def turned(case: Case) -> list[RankRecord]:
        seen = records(case)
        return [changed([each], image_grad=seen[(each.rank + 1) % len(seen)].image_grad)[0] for each in seen]

    found = said_of(turned)
    assert found.sentence == (
        "At W = 4, image gradients come home to another rank: "
        "what rank 0 has for its own images reaches rank 3, and so on around the ring"
    )
    assert found.matrices[0].title == "rank that the image gradient reaches"
    assert found.matrices[0].expected[1] == (1.0,) * 4
    assert found.matrices[0].values[1] == (0.0,) * 4


def test_images_and_texts_that_both_go_astray_are_both_said_and_shown() -> None:
    def turned(case: Case) -> list[RankRecord]:
        seen = records(case)
        beside = [seen[(each.rank + 1) % len(seen)] for each in seen]
        return [
            changed([each], image_grad=other.image_grad, text_grad=other.text_grad)[0]
            for each, other in zip(seen, beside, strict=True)
        ]

    found = said_of(turned)
    images, texts = found.sentence.split("; ")
    assert images.startswith("At W = 4, image gradients come home to another rank: ")
    assert texts.startswith("text gradients come home to another rank: ")
    assert [matrix.title for matrix in found.matrices[:2]] == [
        "rank that the image gradient reaches",
        "rank that the text gradient reaches",
    ]


def test_the_picture_shows_which_rank_a_gradient_reaches() -> None:
    found = said_of(functools.partial(records, home=to(lambda i, k: 2 * i - k)))
    assert found.matrices[0].title == "rank that the text gradient reaches"
    assert found.matrices[0].values[0] == (0.0, 3.0, 2.0, 1.0)
    assert found.matrices[0].expected[0] == (0.0, 1.0, 2.0, 3.0)


def detached(*names: str) -> Records:
    def of_block(i: int, k: int) -> Block:
        def cut(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, positive: bool) -> Tensor:
            leaves = {"image": image, "text": text, "scale": scale, "bias": bias}
            held = {name: leaf.detach() if name in names and i != k else leaf for name, leaf in leaves.items()}
            return block(held["image"], held["text"], held["scale"], held["bias"], positive)

        return cut

    return functools.partial(records, of_block=of_block)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("image",), "image features get no gradient from remote blocks"),
        (("scale",), "logit_scale gets no gradient from remote blocks"),
        (("bias",), "logit_bias gets no gradient from remote blocks"),
        (("scale", "bias"), "logit_scale and logit_bias get no gradient from remote blocks"),
        (
            ("image", "text", "scale", "bias"),
            (
                "image features, text features, logit_scale and logit_bias get no gradient from remote blocks: "
                "they enter the loss as plain numbers"
            ),
        ),
    ],
)
@pytest.mark.parametrize("row_wise", [True, False])
def test_it_names_the_leaves_that_remote_blocks_do_not_reach(
    names: tuple[str, ...], sentence: str, row_wise: bool
) -> None:
    found = said_of(detached(*names), spec=LossSpec(row_wise=row_wise))
    assert (found.cause, found.sentence) == ("remote-gradient-lost", f"At W = 4, {sentence}")


@pytest.mark.parametrize(
    ("features", "names"), [("identical", ("scale",)), ("identical", ("scale", "bias")), ("orthogonal", ("bias",))]
)
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_it_names_them_where_ranks_are_so_alike_that_shares_of_theirs_explain_the_numbers_too(
    world_size: int, names: tuple[str, ...], features: str
) -> None:
    found = said_of(detached(*names), plain(world_size, features=features))
    leaves = " and ".join(f"logit_{name}" for name in names)
    sentence = f"At W = {world_size}, {leaves} get{'s' if len(names) == 1 else ''} no gradient from remote blocks"
    assert found.sentence == sentence


@pytest.mark.parametrize("features", ["identical", "orthogonal"])
def test_where_blocks_are_alike_no_share_of_a_gradient_is_made_up(features: str) -> None:
    astray = functools.partial(records, home=to(lambda i, k: k + 1))
    assert said_of(astray).cause == "gradient-to-another-rank"
    assert said_of(astray, plain(features=features)).cause == "unknown"


def test_it_names_a_leaf_that_the_own_block_does_not_reach() -> None:
    def of_block(i: int, k: int) -> Block:
        return lambda image, text, scale, bias, positive: block(
            image, text, scale.detach() if i == k else scale, bias, positive
        )

    found = said_of(functools.partial(records, of_block=of_block))
    assert found.sentence == (
        "At W = 4, logit_scale gets the own block's gradient not at all and the remote blocks' once"
    )


@pytest.mark.parametrize(
    ("field", "leaf"),
    [
        ("image_grad", "image features get"),
        ("text_grad", "text features get"),
        ("scale_grad", "logit_scale gets"),
        ("bias_grad", "logit_bias gets"),
    ],
)
def test_a_gradient_that_is_missing_is_told_from_one_of_zeros(field: str, leaf: str) -> None:
    found = said_of(lambda case: changed(records(case), **{field: None}))
    assert (found.cause, found.sentence) == ("leaf-without-gradient", f"At W = 4, {leaf} no gradient on any rank")
    zeros = said_of(lambda case: changed(records(case), **{field: lambda grad: 0 * grad}))
    assert zeros.sentence == f"At W = 4, {leaf} a gradient of zeros: what backward computes is lost"


@pytest.mark.parametrize(
    ("operations", "same_upstream", "is_silent"),
    [
        ("forward 3 send, 3 recv", False, True),
        ("forward 3 send, 3 recv", True, False),
        ("forward 3 send, 3 recv; backward 3 send, 3 recv", False, False),
        ("", False, False),
    ],
)
def test_backward_sends_nothing_where_what_was_posted_says_so(
    operations: str, same_upstream: bool, is_silent: bool
) -> None:
    found = said_of(detached("text"), spec=LossSpec(same_upstream=same_upstream), operations=operations)
    assert found.cause == "text-gradient-not-exchanged"
    assert found.sentence == (
        "At W = 4, no gradient comes home to the text features from other ranks"
        + ": backward sends nothing" * is_silent
    )


def test_gradients_with_factors_of_their_own_are_said_one_after_the_other() -> None:
    found = said_of(lambda case: changed(records(case), text_grad=lambda g: 4 * g, image_grad=lambda g: g / 3))
    assert found.sentence == (
        "At W = 4, the gradients of image features are the oracle's times 1/b (0.333); "
        "the gradients of text features are the oracle's times W (4)"
    )


def test_two_faults_of_the_gradient_are_both_said() -> None:
    scale_lost = detached("scale")
    found = said_of(lambda case: changed(scale_lost(case), text_grad=lambda grad: 4 * grad))
    assert found.sentence == (
        "At W = 4, logit_scale gets no gradient from remote blocks; "
        "the gradients of text features are the oracle's times W (4)"
    )


def test_a_loss_of_both_directions_without_a_gradient_home_has_half_of_every_remote_block() -> None:
    found = said_of(lambda case: both_directions(case, gradient_comes_home=False), spec=LossSpec(row_wise=False))
    assert found.sentence == (
        "At W = 4, image features get the own block's gradient once and the remote blocks' 0.5 times; "
        "text features get the own block's gradient once and the remote blocks' 0.5 times"
    )


# ------------------------------------------------------------------ terms
def altered(change: Callable[..., tuple[Tensor, ...]], where: str) -> Records:
    def of_block(i: int, k: int) -> Block:
        if where != "all" and (i == k) == (where == "remote"):
            return block
        return lambda image, text, scale, bias, positive: block(*change(image, text, scale, bias), positive)

    return functools.partial(records, of_block=of_block)


@pytest.mark.parametrize(
    ("change", "where", "sentence"),
    [
        (lambda x, y, t, c: (x, y, t, 0 * c), "remote", "logit_bias is left out of the logits of remote blocks"),
        (lambda x, y, t, c: (x, y, t, 0 * c), "all", "logit_bias is left out of the logits"),
        (lambda x, y, t, c: (x, y, t, -c), "all", "logit_bias enters the logits with the wrong sign"),
        (lambda x, y, t, c: (x, y, 1 + 0 * t, c), "remote", "logit_scale is left out of the logits of remote blocks"),
        (lambda x, y, t, c: (x, y, t * t, c), "all", "logit_scale is applied twice in the logits"),
        (lambda x, y, t, c: (x, y, t.exp(), c), "all", "logit_scale is exponentiated once more in the logits"),
        (
            lambda x, y, t, c: (x, y, t.log(), c),
            "all",
            "the logarithm of logit_scale stands for the scale in the logits",
        ),
        (lambda x, y, t, c: (x, y, 1 / t, c), "all", "the logits are divided by logit_scale"),
        (lambda x, y, t, c: (x, y, 1 / t, c), "own", "the logits of the own block are divided by logit_scale"),
        (lambda x, y, t, c: (x, y, t, 2 * c), "all", "logit_bias is added twice in the logits"),
        (lambda x, y, t, c: (x, y, t, 2 * c), "own", "logit_bias is added twice in the logits of the own block"),
        (lambda x, y, t, c: (x, y, t, t * c), "all", "logit_bias is multiplied by logit_scale in the logits"),
    ],
)
def test_it_names_the_term_that_is_wrong(change: Callable[..., tuple[Tensor, ...]], where: str, sentence: str) -> None:
    assert said_of(altered(change, where)).sentence == f"At W = 4, {sentence}"


@pytest.mark.parametrize("world_size", [1, 4])
def test_it_names_a_term_that_is_wrong_in_positive_pairs_alone(world_size: int) -> None:
    def without_bias(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, positive: bool) -> Tensor:
        own = torch.eye(len(image), dtype=image.dtype) * positive
        z = scale * image @ text.T + bias * (1 - own)
        return -torch.nn.functional.logsigmoid((2 * own - 1) * z).sum()

    def of_block(i: int, k: int) -> Block:
        return without_bias

    case = plain(world_size)
    found = said_of(functools.partial(records, of_block=of_block), case, fails=(1, 2, 4), passes=())
    assert found.cause == "bias-dropped"
    assert found.sentence == f"At W = {world_size}, logit_bias is left out of the logits of positive pairs"


Texts = Callable[[Sequence[Tensor], Sequence[Tensor], int, int], Tensor]


def holding(what: Texts, where: str) -> Records:
    """Blocks that hold something else than their texts; gradients go on to whose texts should be there."""

    def planted(case: Case) -> list[RankRecord]:
        inputs = features.draw(case)
        texts, images = ([rows.double() for rows in of] for of in (inputs.texts, inputs.images))

        def of_block(i: int, k: int) -> Block:
            if where == "remote" and i == k:
                return block
            held = what(texts, images, i, k)
            return lambda image, text, *rest: block(image, text + (held - text).detach(), *rest)

        return records(case, of_block=of_block)

    return planted


ANOTHERS_TEXTS: list[tuple[str, Texts, str]] = [
    (
        "texts-summed",
        lambda texts, images, i, k: sum(texts, 0 * texts[0]),
        "the sum of all ranks' texts: an all-reduce to which every rank adds its own, without a mask",
    ),
    (
        "texts-averaged",
        lambda texts, images, i, k: sum(texts, 0 * texts[0]) / len(texts),
        "the mean of all ranks' texts",
    ),
    ("images-for-texts", lambda texts, images, i, k: images[k], "images where texts should be"),
    ("rows-reversed", lambda texts, images, i, k: texts[k].flip(0), "the texts in reverse order of rows"),
]


@pytest.mark.parametrize(("cause", "what", "said"), ANOTHERS_TEXTS, ids=[name for name, _, _ in ANOTHERS_TEXTS])
@pytest.mark.parametrize(("where", "blocks"), [("all", "every block holds"), ("remote", "remote blocks hold")])
def test_it_names_what_blocks_hold_in_place_of_their_texts(
    cause: str, what: Texts, said: str, where: str, blocks: str
) -> None:
    found = said_of(holding(what, where))
    assert (found.cause, found.sentence) == (cause, f"At W = 4, {blocks} {said}")


def test_blocks_of_own_texts_and_of_zeros_are_called_that() -> None:
    own = said_of(holding(lambda texts, images, i, k: texts[i], "remote"))
    assert (own.cause, own.sentence) == ("own-texts", "At W = 4, every block holds the rank's own texts")
    zeros = said_of(holding(lambda texts, images, i, k: 0 * texts[k], "all"))
    assert zeros.cause == "texts-zero"
    assert zeros.sentence == (
        "At W = 4, every block holds zeros where texts should be: read without a wait for them, or never received"
    )


@pytest.mark.parametrize(
    ("distance", "whose"), [(0, "the rank's own texts"), (1, "only one rank's texts (rank 1's on rank 0)")]
)
def test_backward_that_finds_other_texts_than_forward_left_is_called_that(distance: int, whose: str) -> None:
    """Its image gradients alone are of those texts, or all that is computed after the loss."""

    def saved(case: Case) -> list[RankRecord]:
        texts = [rows.double() for rows in features.draw(case).texts]

        def of_block(i: int, k: int) -> Block:
            held = texts[(i + distance) % len(texts)]

            def overwritten(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, positive: bool) -> Tensor:
                product = image.detach() @ text.T + (image - image.detach()) @ held.T
                labels = 2 * torch.eye(len(image), dtype=image.dtype) * positive - 1
                return -torch.nn.functional.logsigmoid(labels * (scale * product + bias)).sum()

            return block if i == k else overwritten

        return records(case, of_block=of_block)

    found = said_of(saved)
    assert (found.cause, found.sentence) == (
        "saved-texts-overwritten",
        f"At W = 4, the image gradient of remote blocks is computed with {whose}: what backward needs was overwritten",
    )
    other = holding(lambda texts, images, i, k: texts[(i + distance) % len(texts)], "remote")

    def after_the_loss(case: Case) -> list[RankRecord]:
        return [changed([wrong], loss=right.loss)[0] for wrong, right in zip(other(case), records(case), strict=True)]

    found = said_of(after_the_loss)
    assert (found.cause, found.sentence) == (
        "backward-of-other-texts",
        f"At W = 4, the gradient of remote blocks is computed with {whose}, which forward did not use there",
    )


def weighing(*weights: float) -> Records:
    def weighed(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, positive: bool) -> Tensor:
        labels = 2 * torch.eye(len(image), dtype=image.dtype) * positive - 1
        each = torch.nn.functional.logsigmoid(labels * (scale * image @ text.T + bias))
        return -(torch.tensor(weights).to(each)[:, None] * each).sum()

    def of_block(i: int, k: int) -> Block:
        return weighed

    return functools.partial(records, of_block=of_block)


@pytest.mark.parametrize(
    ("weights", "needs", "cause", "said"),
    [
        ((1, 2, 0.5), (), "row-weights", "image rows do not weigh alike: row 0: 1, row 1: 2, row 2: 0.5"),
        (
            (0.75, 0.75, 1.5),
            (("chunk_size", "2"),),
            "chunk-weights",
            "chunks weigh alike, however many rows they have (weights of the rows: rows 0-1: 0.75, row 2: 1.5)",
        ),
        (
            (1, 1, 0),
            (("chunk_size", "2"),),
            "chunk-weights",
            "the rows of a last chunk that is not full are dropped (weights of the rows: rows 0-1: 1, row 2: 0)",
        ),
    ],
)
def test_it_names_what_image_rows_weigh(
    weights: tuple[float, ...], needs: tuple[tuple[str, str], ...], cause: str, said: str
) -> None:
    found = said_of(weighing(*weights), plain(chunk_size=2 if needs else 0), needs=needs)
    assert found.cause == cause
    assert found.sentence == f"At W = 4{' with chunk_size = 2' if needs else ''}, {said}"


def test_rows_that_weigh_wrongly_are_said_with_the_chunk_that_it_needs() -> None:
    def dropped(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, positive: bool) -> Tensor:
        return block(image[:2], text[:2], scale, bias, positive) + block(image[:2], text[2:], scale, bias, False)

    def of_block(i: int, k: int) -> Block:
        return dropped

    planted = functools.partial(records, of_block=of_block)
    found = said_of(planted, plain(chunk_size=2), needs=(("chunk_size", "2"),))
    assert found.sentence.startswith(
        "At W = 4 with chunk_size = 2, the rows of a last chunk that is not full are dropped"
    )


# ------------------------------------------------------------------ numbers as such
def test_a_local_loss_that_is_the_mean_over_ranks_is_called_that() -> None:
    def reduced(case: Case) -> list[RankRecord]:
        seen = records(case)
        return changed(seen, loss=sum(record.loss for record in seen) / len(seen))

    found = said_of(reduced)
    assert found.cause == "local-loss-reduced"
    assert found.sentence == (
        "At W = 4, the loss is the mean over ranks, the same on every rank, and not the rank's own"
    )
    assert ("if that is meant", "declare it with --no-row-wise") in [(c.title, c.text) for c in found.evidence]


def test_a_loss_whose_ranks_all_return_that_of_the_whole_matrix_is_told_the_flag() -> None:
    def whole(case: Case) -> list[RankRecord]:
        seen = records(case)
        means = {
            name: sum(getattr(record, name) for record in seen) / len(seen)
            for name in ("loss", "scale_grad", "bias_grad")
        }
        return changed(seen, **means)

    found = said_of(whole)
    assert (found.cause, found.sentence) == (
        "right-over-all-ranks",
        (
            "At W = 4, every rank returns the loss, gradient of the scale and gradient of the bias of all ranks "
            "together, and not its own part: is that meant? try --no-row-wise"
        ),
    )
    assert all(share.share <= 1 for share in observe(plain(), whole(plain()), LossSpec(row_wise=False)).shares)
    assert "--no-row-wise" not in said_of(whole, needs=(("call", "second"),)).sentence
    doubled = said_of(lambda case: changed(whole(case), text_grad=lambda grad: 2 * grad))
    assert "--no-row-wise" not in doubled.sentence


def test_a_loss_of_both_directions_that_is_declared_as_one_of_rows_is_told_the_flag() -> None:
    found = said_of(both_directions)
    assert found.sentence == (
        "At W = 4, the loss, gradient of the scale and gradient of the bias of single ranks are wrong, and right in "
        "the mean over ranks: is that meant? try --no-row-wise"
    )


def test_a_part_of_a_scalar_gradient_on_another_rank_is_told_the_flag_of_its_own_reduction() -> None:
    spec = LossSpec(reduction="sum", normalizer="N")

    def moved(case: Case) -> list[RankRecord]:
        first, *others = records(case, factor=1 / 4)
        first, last = (
            changed([each], bias_grad=lambda grad, by=by: grad + by)[0]
            for each, by in ((first, 0.125), (others[-1], -0.125))
        )
        return [first, *others[:-1], last]

    found = said_of(moved, spec=spec)
    assert found.sentence == (
        "At W = 4, the gradient of the bias of single ranks is wrong, and right in the sum over ranks: "
        "is that meant? try --no-row-wise"
    )


def test_a_loss_that_is_wrong_in_its_second_step_alone_keeps_something() -> None:
    noisy = noise("image_grad")
    found = said_of(noisy, needs=(("call", "second"),))
    assert (found.cause, found.sentence) == (
        "kept-state",
        (
            "At W = 4 with call = second, what the loss kept from the step before goes into this one; "
            "its first step is right"
        ),
    )
    assert said_of(noisy, needs=(("call", "first"),)).cause == "unknown"


@pytest.mark.parametrize(("predicted", "growth"), [(2.0, 1.0), (0.5, 1.0), (8.0, 4.0), (-8.0, 4.0)])
def test_bounds_of_a_prediction_are_the_largest_and_grow_as_it_does(predicted: float, growth: float) -> None:
    """Four times what the oracle's may be off, as a model rounds, too."""

    def estimate(*numbers: float) -> Estimate:
        return Estimate(*(torch.tensor([each], dtype=torch.float64) for each in numbers))

    of = [estimate(-2.0, 3.0, 7.0), estimate(1.0, 5.0, 6.0)]
    (made,) = _estimates([np.array([predicted])], of, np.array([predicted, 0.0]))
    assert (made.value.item(), made.magnitude.item(), made.underflow.item()) == (
        predicted,
        4 * 5.0 * growth,
        4 * 7.0 * growth,
    )
    (made,) = _estimates([np.array([predicted])], [estimate(0.0, 3.0, 7.0)], np.array([predicted]))
    assert (made.magnitude.item(), made.underflow.item()) == (4 * 3.0, 4 * 7.0)


def test_nan_with_peers_and_not_alone_points_to_memory_read_too_early() -> None:
    found = said_of(lambda case: changed(records(case), image_grad=lambda grad: grad * math.nan))
    assert found.cause == "not-finite-with-peers"
    assert "the loss or a gradient is inf or nan on every rank, and never on one rank alone" in found.sentence
    found = said_of(lambda case: changed(records(case), loss=math.inf), passes=())
    assert found.sentence == "At W = 4, the loss or a gradient is inf or nan on every rank"


@pytest.mark.parametrize(("scale", "is_large"), [(120.0, True), (10.0, True), (9.5, False)])
@pytest.mark.parametrize("needed", [True, False])
def test_large_logits_are_blamed_where_it_takes_them(scale: float, is_large: bool, needed: bool) -> None:
    noise = np.random.default_rng(0)
    needs = (("scale", f"{scale}"),) if needed else ()
    blamed = is_large and needed
    where = f"where logits are large (t = {scale:g}, c = -10), and right at t = 3.7"

    def noisy(case: Case) -> list[RankRecord]:
        return changed(records(case), image_grad=lambda grad: grad + noise.standard_normal(grad.shape))

    found = said_of(noisy, plain(scale=scale, bias=-10.0), needs=needs)
    assert found.cause == ("large-logits" if blamed else "unknown")
    assert found.sentence.endswith(f"the numbers are wrong {where}") == blamed
    found = said_of(lambda case: changed(records(case), loss=math.nan), plain(scale=scale, bias=-10.0), needs=needs)
    assert found.cause == ("large-logits" if blamed else "not-finite-with-peers")
    said = "At W = 4, the loss or a gradient is inf or nan on every rank"
    digits = "digits are lost there, as by log(sigmoid(z)) in two steps"
    assert found.sentence.startswith(
        f"{said} {where}: {digits}" if blamed else f"{said}, and never on one rank alone: memory"
    )


@pytest.mark.parametrize("most", [100.0, 50.0])
@pytest.mark.parametrize("world_size", [1, 4])
@pytest.mark.parametrize("is_flat", [True, False])
def test_a_scale_that_is_clamped_is_called_that_and_not_rounding(most: float, world_size: int, is_flat: bool) -> None:
    def clamped(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, positive: bool) -> Tensor:
        held = scale.clamp(max=most) if is_flat else scale - (scale - most).clamp(min=0).detach()
        return block(image, text, held, bias, positive)

    def of_block(i: int, k: int) -> Block:
        return clamped

    planted = functools.partial(records, of_block=of_block)
    found = said_of(planted, plain(world_size, scale=120.0, bias=-60.0), needs=(("scale", "120.0"),))
    flat = ", and gets no gradient there" * is_flat
    assert (found.cause, found.sentence) == (
        "scale-clamped",
        f"At W = {world_size}, the scale is clamped at {most:g}: t = 120 enters the logits as {most:g}{flat}",
    )


def softplus_of_a_label(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, positive: bool) -> Tensor:
    z = scale * image @ text.T + bias
    labels = 2 * torch.eye(len(z), dtype=z.dtype) * positive - 1
    return torch.nn.functional.softplus(-labels * z).sum()


def softplus_less_positives(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, positive: bool) -> Tensor:
    z = scale * image @ text.T + bias
    return torch.nn.functional.softplus(z).sum() - positive * z.diagonal().sum()


@examples(20)
@given(
    st.sampled_from([softplus_of_a_label, softplus_less_positives]),
    st.integers(1, 5),
    st.sampled_from([(120.0, -60.0, "random"), (3.7, -0.6, "unnormalized")]),
    st.integers(0, 1 << 10),
)
def test_a_softplus_with_a_threshold_is_called_that_wherever_it_shows(
    formula: Block, world_size: int, large: tuple[float, float, str], seed: int
) -> None:
    scale, bias, features = large
    case = plain(world_size, scale=scale, bias=bias, features=features, seed=seed)
    of = evidence(functools.partial(records, of_block=lambda i, k: formula), case, needs=(("scale", f"{scale}"),))
    assert of.plain is not None
    if of.plain.wrong:
        found = diagnose(of)
        assert (found.cause, found.sentence) == (
            "softplus-threshold",
            (
                f"At W = {world_size}, torch's softplus drops exp(-z) beyond its threshold of 20, an error of up to "
                "2e-9 that float64 shows; logsigmoid has none"
            ),
        )


@pytest.mark.parametrize("formula", [softplus_of_a_label, softplus_less_positives])
def test_a_softplus_with_a_threshold_is_no_excuse_for_another_fault(formula: Block) -> None:
    case = plain(features="unnormalized")
    planted = functools.partial(records, of_block=lambda i, k: formula)
    assert said_of(planted, case).cause == "softplus-threshold"
    assert said_of(lambda case: changed(planted(case), text_grad=lambda grad: grad + 1e-9), case).cause != (
        "softplus-threshold"
    )
    noisy = said_of(lambda case: changed(records(case), image_grad=lambda grad: grad + 1e-9), case)
    assert noisy.cause != "softplus-threshold"


def test_what_was_tried_is_said_where_nothing_fits() -> None:
    found = said_of(noise("image_grad"))
    assert found.sentence == "At W = 4, nothing known fits: image grad is wrong"
    (tried,) = [clue.text.split("; ") for clue in found.evidence if clue.title == "tried"]
    assert tried[:3] == [
        "A finding names the cause by itself",
        "A finding names what was overwritten or kept",
        "Ranks gave no record",
    ]
    assert tried[-1] == "Some ranks are right and others are not"
    assert all(each == each.strip().rstrip(".") and each.count("\n") == 0 for each in tried)
    assert len(tried) == len(MESSAGES) + len(NUMBERS)
    both = said_of(noise("image_grad", "text_grad"))
    assert both.sentence == "At W = 4, nothing known fits: image grad and text grad are wrong"


def test_what_only_unequal_rows_show_is_said_to_be_that() -> None:
    found = said_of(noise("image_grad"), needs=(("rows", "1,3,3,3"),))
    assert (found.cause, found.sentence) == (
        "ragged",
        (
            "At W = 4 with rows = 1,3,3,3, only ranks with different numbers of rows go wrong: "
            "their padding, their divisor or their rows"
        ),
    )


def test_errors_as_large_as_a_narrower_dtype_rounds_are_called_that() -> None:
    def rounded(case: Case) -> list[RankRecord]:
        return changed(records(case), text_grad=lambda grad: grad.astype(np.float32).astype(np.float64))

    found = said_of(rounded)
    assert found.sentence == (
        "At W = 4, errors are as large as float32 rounds, where everything is float64: "
        "something may be narrower on its way"
    )


def narrowed(dtype: torch.dtype, what: str) -> Records:
    """Features rounded to a dtype, or whole blocks computed in it."""

    def rounded(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, positive: bool) -> Tensor:
        if what == "block":
            return block(*(each.to(dtype) for each in (image, text, scale, bias)), positive).double()
        return block(image.to(dtype).double(), text.to(dtype).double(), scale, bias, positive)

    def of_block(i: int, k: int) -> Block:
        return rounded

    return functools.partial(records, of_block=of_block)


@examples(10)
@given(
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    st.sampled_from(["features", "block"]),
    st.integers(1, 5),
    st.integers(1, 59),
)
def test_what_is_rounded_to_a_narrower_dtype_is_called_that(
    dtype: torch.dtype, what: str, world_size: int, seed: int
) -> None:
    found = said_of(narrowed(dtype, what), plain(world_size, seed=seed))
    assert found.cause == "narrow-precision"


@pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
def test_errors_within_the_wide_bound_of_a_narrower_dtype_are_no_rounding(share: float) -> None:
    """More of one pair in each rank's own block: tens of percent, and still less than bfloat16 is allowed."""

    def more(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, positive: bool) -> Tensor:
        pair = block(image[:1], text[1:2], scale, bias, False)
        return block(image, text, scale, bias, positive) + positive * share * pair

    def of_block(i: int, k: int) -> Block:
        return more

    of = evidence(functools.partial(records, of_block=of_block))
    assert of.plain is not None
    coarse = msgspec.structs.replace(of.plain.case, dtype="bfloat16")
    assert all(each.share <= 1 for each in equivalence.judge(coarse, of.plain.records, of.plain.reference))
    assert diagnose(of).cause != "narrow-precision"


def test_an_upstream_gradient_that_is_ignored_is_not_called_a_factor() -> None:
    def ignored(case: Case) -> list[RankRecord]:
        return records(msgspec.structs.replace(case, upstream="one"))

    found = said_of(ignored, plain(upstream="scaled"), needs=(("upstream", "scaled"),))
    assert found.cause == "upstream-ignored"


def test_other_numbers_each_time_are_called_a_race() -> None:
    seen = evidence(records)
    assert seen.plain is not None
    again = observe(seen.plain.case, records(seen.plain.case, factor=2.0))
    found = diagnose(Evidence(found=seen.found, plain=seen.plain, again=again, verdicts=seen.verdicts))
    assert found.cause == "race"
    alone = dataclasses.replace(seen, again=again, verdicts={1: "mismatch", 2: "mismatch", 4: "mismatch"})
    assert (diagnose(alone).cause, diagnose(alone).sentence) == (
        "random",
        (
            "At W = 4, the same case gives other numbers each time it is run, and one rank alone fails too, which "
            "waits for no message: something random is in it, such as dropout, or memory that was never written"
        ),
    )


def test_ranks_that_are_right_are_told_from_those_that_are_not() -> None:
    generator = np.random.default_rng(0)

    def some(case: Case) -> list[RankRecord]:
        seen = records(case)
        return [seen[0], *changed(seen[1:], image_grad=lambda grad: generator.standard_normal(grad.shape))]

    assert said_of(some, operations="forward 4 all_gather").sentence == (
        "At W = 4, only rank 0 computes the right loss and image gradient, ranks 1, 2 and 3 not"
    )

    def nearly(case: Case) -> list[RankRecord]:
        """A loss far above 1, off by half the tolerance."""
        first, *others = some(case)
        assert first.loss > 4
        return [*changed([first], loss=lambda loss: loss * (1 + 0.5e-7)), *others]

    assert said_of(nearly, plain(scale=100.0, bias=0.0)).sentence == (
        "At W = 4, only rank 0 computes the right loss and image gradient, ranks 1, 2 and 3 not"
    )
    found = said_of(some, operations="forward 4 reduce")
    assert found.cause == "some-ranks"
    assert found.sentence == (
        "At W = 4, only rank 0 computes the right loss and image gradient, ranks 1, 2 and 3 not: "
        "a rooted reduce leaves its result on its root alone"
    )


# ------------------------------------------------------------------ messages, failures, circumstances
def test_a_finding_that_names_the_cause_comes_before_numbers_and_leaves_them_as_evidence() -> None:
    finding = Finding(name="narrow-wire", detail="rank 0: forward hop 0 send of 2 bytes bfloat16 to rank 1", rank=0)
    found = said_of(functools.partial(records, counted=ring(0, 1, 3)), findings=(finding,))
    assert found.sentence == f"At W = 4, features are sent in a narrower dtype than they have ({finding.detail})"
    assert any(clue.title == "the numbers" and "ranks 0 and 2 never see" in clue.text for clue in found.evidence)


def test_a_finding_that_may_be_a_consequence_comes_after_numbers() -> None:
    finding = Finding(
        name="unmatched-send", detail="rank 0: forward hop 0 send to rank 1, which never receives it", rank=0
    )
    found = said_of(functools.partial(records, counted=ring(0, 1, 3)), findings=(finding,))
    assert "never see each other's texts" in found.sentence
    assert said_of(records, findings=(finding,)).sentence == (
        f"At W = 4, a rank sends what its destination never receives ({finding.detail})"
    )


def test_findings_alike_are_evidence_four_of_them() -> None:
    findings = tuple(Finding(name="narrow-wire", detail=f"rank {rank}: bfloat16", rank=rank) for rank in range(6))
    found = said_of(records, findings=findings)
    assert found.cause == "messages-narrow-wire"
    assert [(clue.title, clue.text) for clue in found.evidence[:5]] == [
        *(("narrow-wire", f"rank {rank}: bfloat16") for rank in (1, 2, 3, 4)),
        ("holds in", str(plain())),
    ]


def test_findings_of_the_plain_case_count_where_the_shrunk_one_has_none() -> None:
    of = evidence(records)
    finding = Finding(name="self-send", detail="rank 0: to itself", rank=0)
    assert of.plain is not None
    found = diagnose(dataclasses.replace(of, plain=dataclasses.replace(of.plain, findings=(finding,))))
    assert found.sentence == "At W = 4, a rank sends to itself (rank 0: to itself)"


def test_what_a_diagnosis_rests_on_is_said_in_order() -> None:
    """Where it holds, which world sizes fail, what the probe was, and what went wrong on the way."""
    note = Clue(title="note", text="a rank was slow")
    case, (zero, one) = plain(), probe_cases(plain())
    of = dataclasses.replace(evidence(functools.partial(records, factor=2.0), case), notes=(note,))
    assert [(clue.title, clue.text) for clue in diagnose(of).evidence] == [
        ("holds in", str(case)),
        ("world sizes", "W = 2 and larger fail, smaller W pass"),
        ("probe", f"{zero}; and the same with bias={one.bias}"),
        ("note", "a rank was slow"),
    ]
    assert diagnose(of).matrices == of.coverage.matrices() if of.coverage else False
    noise = np.random.default_rng(0)

    def noisy(case: Case) -> list[RankRecord]:
        return changed(records(case), image_grad=lambda grad: grad + noise.standard_normal(grad.shape))

    assert [clue.title for clue in said_of(noisy).evidence] == ["tried", "seen in", "world sizes", "probe"]


def test_what_it_takes_is_said_but_for_the_scale_and_the_bias() -> None:
    needs = (("scale", "3.7"), ("bias", "1"), ("dtype", "float64"), ("chunk_size", "2"))
    found = said_of(functools.partial(records, factor=2.0), needs=needs)
    assert found.sentence.startswith("At W = 4 with dtype = float64 and chunk_size = 2, loss and all gradients")


def test_the_messages_of_rank_0_are_evidence_of_a_gradient_that_goes_astray() -> None:
    found = said_of(functools.partial(records, home=np.zeros((4, 4, 4))), operations="forward 1 all_gather")
    assert (found.evidence[0].title, found.evidence[0].text) == ("messages", "rank 0 sends: forward 1 all_gather")


def test_a_deadlock_is_said_before_the_failures_it_causes() -> None:
    failures = tuple(RankFailure(rank=rank, kind="hung", blamed=True, detail="no answer") for rank in range(2))
    ring_of_waits = Finding(name="deadlock", detail="ranks 0 -> 1 -> 0 wait for each other")
    result = CaseResult(case=Case(), verdict="mismatch", findings=(ring_of_waits,), failures=failures)
    assert diagnose(Evidence(found=result, verdicts={})).sentence == (
        "At W = 2, ranks wait for each other in a ring and none can go on, a deadlock: "
        "post sends and receives together (ranks 0 -> 1 -> 0 wait for each other)"
    )


@pytest.mark.parametrize(
    ("failures", "sentence"),
    [
        ([(0, "raised", True), (1, "raised", True)], "every rank raised: why"),
        ([(0, "raised", False), (1, "died", True)], "rank 1 died: why; rank 0 only suffers from that"),
        ([(0, "stopped", True)], "rank 0 was stopped: why"),
        ([(0, "hung", False), (1, "hung", False)], "every rank hung: why"),
    ],
)
def test_failed_ranks_are_named_by_blame(failures: list[tuple[int, str, bool]], sentence: str) -> None:
    found = tuple(
        RankFailure(rank=rank, kind=kind, blamed=blamed, detail="why")  # type: ignore[arg-type]
        for rank, kind, blamed in failures
    )
    result = CaseResult(case=Case(), verdict="unknown", failures=found)
    assert diagnose(Evidence(found=result, verdicts={})).sentence == f"At W = 2, {sentence}"


@pytest.mark.parametrize(
    ("fails", "passes", "pattern"),
    [
        ((2, 4), (1, 3, 5), "only even W fail"),
        ((3, 5), (1, 2, 4), "only odd W fail"),
        ((4, 5), (1, 2, 3), "W = 4 and larger fail, smaller W pass"),
        ((2, 3, 5), (1, 4), None),
        ((1, 2, 3), (), None),
    ],
)
def test_what_failing_world_sizes_have_in_common_is_evidence(
    fails: tuple[int, ...], passes: tuple[int, ...], pattern: str | None
) -> None:
    found = said_of(functools.partial(records, factor=2.0), fails=fails, passes=passes)
    assert next((clue.text for clue in found.evidence if clue.title == "world sizes"), None) == pattern
    assert (found.fails_at, found.passes_at) == (fails, passes)
    assert (found.smallest_world_size, found.smallest_batch) == (2, 1)
