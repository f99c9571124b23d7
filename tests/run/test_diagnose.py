"""Diagnosis on real ranks: what it says of every planted bug, and that no loss can break it.

Oracle: the catalogue, which says what is planted; the table below is what a person read once and found right. Sees: a
sentence that names another cause or other ranks, a run that hangs the diagnosis, an exception in place of a mismatch.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify.adapt import LossSpec
from siglip_verify.bugs import CATALOGUE, Bug
from siglip_verify.case import EXCHANGES, Case
from siglip_verify.records import CaseResult, Diagnosis, Share
from siglip_verify.run.diagnose import at_world_size, diagnose_mismatch, needs, plain_case, telling_batch
from siglip_verify.run.judge import CaseJudge
from siglip_verify.run.limits import load_traits
from siglip_verify.run.settings import settings
from siglip_verify.run.whole import check, run_case
from siglip_verify.world import Worlds

HERE = Path(__file__).parent

NUMERIC = {bug.id: bug for bug in CATALOGUE.values() if bug.outcomes == ("mismatch",)}

# What is said of each bug, planted in the first exchange that takes it. At W = 4 where nothing else is said.
SAID: dict[str, str] = {
    "bias-detached": "logit_bias gets no gradient from remote blocks",
    "bias-dropped": "logit_bias is left out of the logits of remote blocks",
    "bidir-extra-round": (
        "ranks 0 and 2 count each other's texts twice, as do ranks 1 and 3: the last hop comes from both sides"
    ),
    "bidir-grads-swapped": (
        "text gradients come home to another rank: what rank 0 has for rank 1's texts reaches rank 3, and so on around"
        " the ring"
    ),
    "bidir-no-remainder": (
        "ranks 0 and 2 never see each other's texts, nor ranks 1 and 3: the last single hop is missing"
    ),
    "bidir-not-reversed": (
        "text gradients go the wrong direction around the ring, to another rank: what rank 0 has for rank 1's "
        "texts reaches rank 3"
    ),
    "bidir-ping-pong": (
        "ranks 0 and 2 never see each other's texts, nor ranks 1 and 3; every rank counts its own texts twice, "
        "once as they should be and then as negatives: a block goes back to where it came from"
    ),
    "chunk-dropped": (
        "At W = 4 with chunk_size = 2, the rows of a last chunk that is not full are dropped (weights of the "
        "rows: rows 0-1: 1, row 2: 0)"
    ),
    "chunk-labels": "At W = 4 with chunk_size = 2, positives begin anew at the first text in every chunk of 2 rows",
    "chunk-mean-of-means": (
        "At W = 4 with chunk_size = 2, chunks weigh alike, however many rows they have (weights of the rows: "
        "rows 0-1: 0.75, row 2: 1.5)"
    ),
    "constant-home-astray": (
        "text gradients come home to another rank: what rank 0 has for rank 1's texts reaches rank 3, and so on around"
        " the ring"
    ),
    "constant-late-share": (
        "text gradients reach another rank or none: rank 0's gradient holds what rank 0 has for its own texts, what "
        "rank 1 has for its own texts, what rank 2 has for rank 1's texts and 1 more"
    ),
    "constant-not-home": "no gradient comes home to the text features from other ranks",
    "constant-own-twice": "text features get the own block's gradient twice and the remote blocks' once",
    "constant-share-twice": "text features get the own block's gradient once and the remote blocks' twice",
    "constant-upstream-ignored": (
        "At W = 4 with upstream = scaled, the upstream gradient that reaches the loss is ignored: gradients are "
        "as with 1"
    ),
    "constant-without-gradient": (
        "text gradients are lost on the way home: what ranks 1 and 2 computed for rank 0's texts, and so on around the "
        "ring"
    ),
    "ddp-scale": "loss and all gradients are equal to the oracle times W (4)",
    "ddp-scale-down": (
        "loss and all gradients are equal to the oracle times 1/W (0.25): is this a loss for summed gradients? "
        "try --reduction sum --normalizer N"
    ),
    "first-batch-kept": (
        "At W = 4 with call = second, what the loss kept from the step before goes into this one; its first step is "
        "right"
    ),
    "gather-aliased": (
        "every rank sees only rank 3's texts, four times, and never the others': every block holds the texts of "
        "one rank"
    ),
    "gather-both-spliced": "the gradients of image features and text features are the oracle's times 1/W (0.25)",
    "gather-grad-over-w": "the gradients of text features are the oracle's times 1/W (0.25)",
    "gather-grad-times-w": "the gradients of text features are the oracle's times W (4)",
    "gather-grad-wrong-slice": (
        "text gradients come home to another rank: what rank 0 has for its own texts reaches rank 3, and so on "
        "around the ring"
    ),
    "gather-interleaved": "positives do not match row by row: image 1 of rank 0 is paired with text 0 of rank 1",
    "gather-local-grad": "no gradient comes home to the text features from other ranks: backward sends nothing",
    "gather-no-grad": "text features get no gradient on any rank",
    "gather-slice-before-reduce": (
        "every rank's text gradient is the sum of what all ranks have for their own texts: that reaches other "
        "ranks, and what they have for it is lost"
    ),
    "group-order": (
        "rank 0 looks for its positives in rank 3's texts; rank 1 looks for its positives in rank 2's texts; 2 "
        "more ranks alike"
    ),
    "hops-off-by-one": "rank 0 never sees the texts of rank 1, and so on around the ring: the last hop is missing",
    "hops-off-by-one-more": (
        "every rank counts its own texts twice, once as they should be and then as negatives: one hop too many"
    ),
    "image-detached": "image features get no gradient from remote blocks",
    "label-offset": "every rank looks for its positives in rank 0's texts: the label offset rank x b is missing",
    "local-only": "ranks never see each other's texts, every rank counts its own block alone",
    "local-rank": (
        "rank 2 looks for its positives in rank 0's texts; rank 3 looks for its positives in rank 1's texts: rank"
        " modulo 2 is taken for the rank"
    ),
    "local-world-size": "rank 0 never sees the texts of ranks 1 and 2, and so on around the ring",
    "log-of-sigmoid": (
        "At W = 4 with dtype = float32, the loss or a gradient is inf or nan on every rank where logits are large"
        " (t = 120, c = -60), and right at t = 3.7: digits are lost there, as by log(sigmoid(z)) in two steps"
    ),
    "loss-reduced-for-log": "the loss is the mean over ranks, the same on every rank, and not the rank's own",
    "lossy-wire": (
        "features are sent in a narrower dtype than they have (rank 0: forward hop 0 send of 48 bytes bfloat16 to"
        " rank 1, where the features are float64; 1 more like it on this rank)"
    ),
    "lossy-wire-grad": (
        "features are sent in a narrower dtype than they have (rank 0: backward hop 0 send of 48 bytes bfloat16 "
        "to rank 1, where the features are float64)"
    ),
    "non-contiguous-grad": "text features get a gradient of zeros: what backward computes is lost",
    "not-forwarded": (
        "rank 0 never sees the texts of ranks 1 and 2 and counts those of rank 3 three times, and so on around "
        "the ring: what arrives is not passed on"
    ),
    "one-buffer": (
        "the image gradient of remote blocks is computed with only one rank's texts (rank 1's on rank 0): what "
        "backward needs was overwritten"
    ),
    "p2p-identity-grad": (
        "the gradient of other ranks' texts stays on the rank that computed it: backward sends nothing home"
    ),
    "p2p-no-grad": "no gradient comes home to the text features from other ranks: backward sends nothing",
    "positives-unscaled": "logit_scale is left out of the logits of positive pairs",
    "receive-dtype": (
        "the two ends of a message hold different dtypes, so its bits are read as something else (rank 0: forward"
        " hop 0 send of 192 bytes float64 to rank 1; rank 1: forward hop 0 recv of 192 bytes int64 from rank 0)"
    ),
    "reduce-conditional": "no gradient comes home to the text features from other ranks",
    "reduce-local-grad": "no gradient comes home to the text features from other ranks: backward sends nothing",
    "reduce-no-mask": (
        "every block holds the sum of all ranks' texts: an all-reduce to which every rank adds its own, without a mask"
    ),
    "remote-positives": "the diagonals of remote blocks are labelled positive, where only the own block's should be",
    "remote-value-alone": (
        "image features, text features, logit_scale and logit_bias get no gradient from remote blocks: they enter"
        " the loss as plain numbers"
    ),
    "rooted-reduce": (
        "only rank 0 computes the right loss and image gradient, ranks 1, 2 and 3 not: a rooted reduce leaves its"
        " result on its root alone"
    ),
    "scale-detached": "logit_scale gets no gradient from remote blocks",
    "scale-logarithm": "the logarithm of logit_scale stands for the scale in the logits",
    "self-negative": "every rank counts its own texts twice, once as they should be and then as negatives",
    "shift-not-reversed": (
        "text gradients go the wrong direction around the ring, to another rank: what rank 0 has for rank 1's "
        "texts reaches rank 3"
    ),
    "stale-block": (
        "the gradient of remote blocks is computed with the rank's own texts, which forward did not use there"
    ),
    "unwaited-receive": (
        "the loss or a gradient is inf or nan on every rank, and never on one rank alone: memory may be read "
        "before the message has come that it waits for (it is filled with nan until then)"
    ),
    "unwaited-reduce": (
        "the same case gives other numbers each time it is run: something is read before the wait for it, or sent"
        " in no fixed order"
    ),
    "upstream-ignored": (
        "At W = 4 with upstream = scaled, the upstream gradient that reaches the loss is ignored: gradients are "
        "as with 1"
    ),
    "wrong-normaliser": (
        "loss and all gradients are equal to the oracle times 1/b (0.333): is this a mean over the b x b pairs of"
        " each block? try --normalizer b*b"
    ),
    "wrong-normaliser-doubled": "loss and all gradients are equal to the oracle times 1/2",
    "wrong-normaliser-global": (
        "loss and all gradients are equal to the oracle times 1/W (0.25): is this a loss for summed gradients? "
        "try --reduction sum --normalizer N"
    ),
    "wrong-normaliser-none": (
        "loss and all gradients are equal to the oracle times b (3): is this a sum over pairs? try --normalizer 1"
    ),
}

Diagnose = Callable[[LossSpec, Case], Diagnosis]


@pytest.fixture
def diagnose(worlds: Worlds) -> Diagnose:
    """Diagnose a loss by a case on which it fails."""

    def of(spec: LossSpec, case: Case) -> Diagnosis:
        judge = CaseJudge(worlds, spec, load_traits(worlds, spec))
        found = judge(case)
        for _ in range(4):  # a race may come out right
            found = found if found.verdict == "mismatch" else judge(case)
        assert found.verdict == "mismatch", found
        return diagnose_mismatch(judge, found)

    return of


def foreign(name: str, **declared: object) -> LossSpec:
    return LossSpec(target=f"{HERE / 'foreign.py'}:{name}", **declared)  # type: ignore[arg-type]


def smallest_case(bug: Bug) -> Case:
    world_size = bug.where.min_world_size
    return bug.where.example(bug.exchanges[0], world_size + (bug.where.parity == "even" and world_size % 2))


# ------------------------------------------------------------------ the catalogue
def test_the_table_has_every_bug_with_numeric_symptoms() -> None:
    assert sorted(SAID) == sorted(NUMERIC)


# Every third of the catalogue, which goes by families; `make test-long` has the others, `make bug-table` all of them at
# three seeds, and tests/check/test_diagnosis the sentences without ranks.
@pytest.mark.parametrize(
    "bug_id",
    [pytest.param(bug_id, marks=[] if index % 3 == 0 else pytest.mark.long) for index, bug_id in enumerate(NUMERIC)],
)
def test_it_names_what_is_planted(diagnose: Diagnose, bug_id: str) -> None:
    bug = NUMERIC[bug_id]
    found = diagnose(bug.spec, smallest_case(bug))
    assert re.search(bug.diagnosis, found.sentence, re.IGNORECASE), found
    assert found.cause != "unknown"
    if not bug.is_race:
        assert found.sentence.removeprefix("At W = 4, ") == SAID[bug_id]
        assert smallest_case(bug).world_size in found.fails_at
        assert all(bug.where.min_world_size <= size for size in found.fails_at)
        assert not set(found.passes_at) & set(found.fails_at)


# ------------------------------------------------------------------ losses of other shapes
@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (
            foreign("label_rows"),
            "every rank looks for its positives in rank 0's texts: the label offset rank x b is missing",
        ),
        (
            foreign("OwnScalars", scale_parameter="log_t", bias_parameter="c", log_scale=True),
            "no gradient comes home to the text features from other ranks: backward sends nothing",
        ),
        (
            foreign("sum_of_pairs"),
            "loss and all gradients are equal to the oracle times b (3): is this a sum over pairs? try --normalizer 1",
        ),
        (
            foreign("share_of_the_mean"),
            (
                "loss and all gradients are equal to the oracle times 1/W (0.25): is this a loss for summed gradients? "
                "try --reduction sum --normalizer N"
            ),
        ),
        (
            foreign("both_directions", row_wise=False),
            "image features get the own block's gradient once and the remote blocks' 0.5 times",
        ),
    ],
    ids=lambda value: value.name.rpartition(":")[2] if isinstance(value, LossSpec) else "",
)
def test_it_names_what_is_wrong_with_a_loss_of_another_shape(diagnose: Diagnose, spec: LossSpec, sentence: str) -> None:
    found = diagnose(spec, Case(exchange="gather", world_size=2, batch=2, dim=3))
    assert found.sentence == f"At W = 4, {sentence}"


@pytest.mark.parametrize(
    ("name", "flags"),
    [("sum_of_pairs", {"normalizer": "1"}), ("share_of_the_mean", {"reduction": "sum", "normalizer": "N"})],
)
def test_the_declaration_that_it_asks_for_is_one_under_which_the_loss_passes(
    worlds: Worlds, name: str, flags: dict[str, object]
) -> None:
    spec = foreign(name, **flags)
    judge = CaseJudge(worlds, spec, load_traits(worlds, spec))
    assert judge(Case(world_size=4, batch=3, dim=5)).verdict == "pass"


# ------------------------------------------------------------------ nothing breaks it
def test_a_probe_that_hangs_is_evidence_and_the_rest_is_still_said(diagnose: Diagnose) -> None:
    started = time.monotonic()
    found = diagnose(foreign("HangsInTheProbe"), Case(world_size=4))
    assert time.monotonic() - started < 60
    assert found.sentence.startswith("At W = 4, ranks 0 and 2 never see each other's texts, nor ranks 1 and 3")
    assert found.matrices == ()
    (note,) = [clue for clue in found.evidence if clue.title == "the probe at W = 4"]
    assert note.text.startswith("did not end: rank 1 hung")
    assert "features=one-hot-by-rank" in note.text


def test_world_sizes_that_cannot_be_run_are_evidence(diagnose: Diagnose) -> None:
    found = diagnose(foreign("RaisesOnFiveRanks"), Case(world_size=2))
    assert found.sentence.startswith("At W = 4, ranks 0 and 2 never see each other's texts")
    assert (found.fails_at, found.passes_at) == ((2, 4), (1,))
    notes = {clue.title: clue.text for clue in found.evidence if clue.title.startswith("a run")}
    assert notes["a run at W = 3"].startswith("is not possible: ")
    assert "three is not supported" in notes["a run at W = 3"]
    assert notes["a run at W = 5"].startswith("did not end: every rank raised: RuntimeError: five is not supported")


def test_a_case_that_does_not_fail_again_is_said_to_be_a_race(worlds: Worlds) -> None:
    spec = LossSpec()
    judge = CaseJudge(worlds, spec, load_traits(worlds, spec))
    share = Share(quantity="loss", share=2.0, rank=None, index=(), expected=0.0, observed=1.0, error=1.0, bound=0.5)
    once = CaseResult(case=Case(world_size=2), verdict="mismatch", shares=(share,))
    found = diagnose_mismatch(judge, once)
    assert found.cause == "unknown"
    assert "a race" in found.sentence
    assert (found.fails_at, found.passes_at) == ((2,), (1, 3, 4, 5)), "it failed once at W = 2, whatever it does now"


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(
    ("name", "begin"), [("DoubledAtOneRow", "At W = 4 with batch = 1, "), ("DoubledFromFourRows", "At W = 5, ")]
)
def test_a_world_size_at_which_any_case_fails_is_not_said_to_pass(name: str, begin: str) -> None:
    (loss,) = check(f"{HERE / 'broken.py'}:{name}", exchanges=["gather"], world_sizes="1-4", examples=40, seed=1).losses
    failing = {cell.world_size for cell in loss.cells if cell.verdict == "mismatch"}
    (found,) = loss.counterexamples
    assert found.diagnosis is not None
    assert found.diagnosis.sentence.startswith(begin)
    assert failing == {1, 2, 3, 4}
    assert failing <= set(found.diagnosis.fails_at)


@pytest.mark.usefixtures("warm")
def test_the_counterexample_of_a_run_and_its_replay_carry_the_same_diagnosis() -> None:
    target = f"{HERE / 'broken.py'}:WithoutLastHop"
    (found,) = check(target, exchanges=["bidir"], world_sizes="2-3", examples=8, seed=1).counterexamples
    chosen = settings([LossSpec(target=target)], exchanges=["bidir"], world_sizes="2", examples=1, seed=1)
    (again,) = run_case(chosen, found.result.case).counterexamples
    assert found.diagnosis is not None
    assert found.diagnosis.sentence == (
        "At W = 4, ranks 0 and 2 never see each other's texts, nor ranks 1 and 3: the last single hop is missing"
    )
    assert again.diagnosis == found.diagnosis


def test_a_diagnosis_that_fails_costs_no_verdict_and_says_why(monkeypatch: pytest.MonkeyPatch, worlds: Worlds) -> None:
    def broken(evidence: object) -> Diagnosis:
        raise IndexError("the deliberate error")

    monkeypatch.setattr("siglip_verify.run.diagnose.diagnose", broken)
    report = check(
        f"{HERE / 'broken.py'}:WithoutLastHop", exchanges=["bidir"], world_sizes="2", examples=4, seed=1, worlds=worlds
    )
    (found,) = report.counterexamples
    assert report.verdict == "mismatch"
    assert found.diagnosis is not None
    assert found.diagnosis.cause == "diagnosis-failed"
    assert "IndexError: the deliberate error" in found.diagnosis.sentence


# ------------------------------------------------------------------ the cases of a diagnosis
@given(st.integers(1, 64))
def test_a_telling_batch_makes_every_factor_another_number(world_size: int) -> None:
    b = telling_batch(world_size)
    sizes = {1, world_size, b, world_size * b, b * b} if world_size > 1 else {1, b, b * b}
    assert len(sizes) == (5 if world_size > 1 else 3)
    assert world_size > 16 or b * b >= world_size


@given(st.sampled_from(EXCHANGES), st.integers(1, 8), st.integers(1, 8))
def test_a_plain_case_needs_nothing_and_stays_plain_at_another_world_size(
    exchange: str, world_size: int, other: int
) -> None:
    plain = plain_case(Case(exchange=exchange, world_size=world_size))
    changes = {"scale": 120.0, "bias": -60.0, "layout": "strided", "upstream": "by-rank", "batch": 1, "dim": 1}
    strange = msgspec.structs.replace(plain, **changes)
    assert dict(needs(strange)) == {name: str(value) for name, value in changes.items() if name != "dim"}
    assert plain_case(strange) == plain
    assert needs(plain) == ()
    there = plain_case(Case(exchange=exchange, world_size=other))
    assert at_world_size(plain, other) == msgspec.structs.replace(there, dim=max(plain.dim, there.dim))
    assert plain.dim >= plain.batch * world_size  # all texts independent
