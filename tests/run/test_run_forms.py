"""The other forms of our loss through the whole check: numbers, messages against the plan of the form, and its words.

Oracle: `siglip_verify.oracle` and `siglip_verify.plan`, as the check uses them; what a form sends, written down in
`test_plan`. Sees: a form that is judged as another one, a check of its callers that is off, an exchange without such a
form that is run all the same. Cannot see: what is said of a wrong form (the catalogue of bugs plants some).
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify.adapt import OURS, LossSpec, traits
from siglip_verify.case import Case, parse_case
from siglip_verify.checks.form import Form
from siglip_verify.cli.loss_flags import LossFlags
from siglip_verify.errors import UsageError
from siglip_verify.run.counting import count_step, table_case
from siglip_verify.run.declare import (
    check_line,
    declared_flags,
    exchanges_of,
    form_of,
    judged_declaration,
    replay_line,
    with_own_checks,
    with_own_convention,
)
from siglip_verify.run.diagnose import diagnose_mismatch
from siglip_verify.run.judge import CaseJudge
from siglip_verify.run.limits import dimensions_of, load_traits
from siglip_verify.run.settings import FORMS, settings
from siglip_verify.run.whole import check
from siglip_verify.world import Worlds

pytestmark = pytest.mark.xdist_group("forms")

ALL_FORMS = [
    *(pytest.param(form, marks=pytest.mark.long) for form in FORMS),  # `make verify` checks these
    pytest.param({"memory": "recompute", "overlap": True}, marks=pytest.mark.long),
    pytest.param({"memory": "constant", "ragged": True}, marks=pytest.mark.long),
    {"memory": "recompute", "ragged": True, "overlap": True},
    {"memory": "constant", "grad_dtype": "torch.bfloat16"},
    {"memory": "recompute", "grad_dtype": "torch.float64"},
    {"check_shapes": False},
]
by_form = pytest.mark.parametrize("args", ALL_FORMS, ids=lambda args: LossSpec(args=dict(args)).name.split(":")[1])


@by_form
def test_a_form_is_right_and_sends_what_is_planned(worlds: Worlds, args: dict[str, object]) -> None:
    report = check(LossSpec(args=args), world_sizes="1-4", examples=8, seed=1, worlds=worlds)
    (loss,) = report.losses
    assert report.verdict == "pass"
    assert {cell.exchange for cell in loss.cells} == set(
        exchanges_of(LossSpec(args=args), ("bidir", "shift", "gather", "reduce"))
    )
    for row in loss.messages:
        counted = row.counted_messages, row.counted_collectives, row.counted_payload_bytes
        assert counted == (row.planned_messages, row.planned_collectives, row.planned_payload_bytes)


def test_the_usual_run_checks_our_loss_in_every_form_by_name() -> None:
    names = [plan.spec.name.split(":")[1] for plan in settings().losses]
    assert names[:6] == [
        "SigLipLoss",
        "SigLipLoss(memory=constant)",
        "SigLipLoss(memory=constant, overlap=true)",
        "SigLipLoss(memory=recompute)",
        "SigLipLoss(overlap=true)",
        "SigLipLoss(ragged=true)",
    ]
    collectives = [plan.spec.name.split(":")[1] for plan in settings(exchanges=["reduce"]).losses]
    assert collectives[:2] == ["SigLipLoss", "SigLipLoss(ragged=true)"]


def test_the_message_table_shows_what_a_form_saves(worlds: Worlds) -> None:
    sent = {}
    for memory in ("autograd", "constant"):
        spec = LossSpec(args={"memory": memory})
        step = count_step(worlds, spec, load_traits(worlds, spec), table_case("shift", 4))
        assert step.verdict == "pass"
        sent[memory] = sum(event.kind == "send" and event.rank == 0 for event in step.events)
    assert sent == {"autograd": 6, "constant": 4}


# ------------------------------------------------------------------ the checks that our loss makes of its callers
def test_constant_memory_is_judged_with_its_checks_on(worlds: Worlds) -> None:
    """A case that breaks the contract is refused by the loss itself, and is no verdict on its numbers."""
    spec = with_own_checks(with_own_convention(LossSpec(args={"memory": "constant"})))
    judge = CaseJudge(worlds, spec, load_traits(worlds, spec))
    watched = judge.watch(Case(exchange="shift", world_size=3, batch=2, dim=3, upstream="scaled"))
    assert watched.result.verdict == "pass"
    kinds = [(event.kind, event.payload_bytes) for event in watched.events if event.rank == 0]
    assert kinds[0] == ("all_gather", 32)
    assert kinds[-2:] == [("send", 8), ("recv", 8)]
    result = judge(Case(exchange="shift", world_size=3, batch=2, dim=3, upstream="by-rank", seed=1))
    assert result.verdict == "unknown"
    assert any("needs the same gradient at the loss of every rank" in failure.detail for failure in result.failures)


def test_what_a_form_cannot_be_asked_is_left_out_and_said() -> None:
    spec = with_own_convention(LossSpec(args={"memory": "constant", "grad_dtype": "torch.float32", "ragged": True}))
    of, left_out = dimensions_of(spec, traits(spec))
    assert of.upstream == ("one", "scaled")
    assert set(of.dtypes) == {"float32", "bfloat16", "float16"}
    assert set(of.rows) == {"equal", "ragged"}
    assert [left.what for left in left_out] == [
        "group",
        "more than 17 rows a rank, or d above 40",
        "a third call, calls of different sizes, two forwards before a backward",
        "upstream gradients that differ by rank",
        "features of other dtypes than float32, bfloat16, float16",
    ]
    assert dimensions_of(LossSpec(), traits(LossSpec()))[0].rows == ("equal",)


def test_features_that_a_form_does_not_take_are_no_finding_against_a_plan(worlds: Worlds) -> None:
    spec = LossSpec(args={"memory": "recompute", "grad_dtype": "torch.bfloat16"})
    judge = CaseJudge(worlds, spec, load_traits(worlds, spec))
    result = judge(Case(exchange="shift", world_size=2, dtype="float32"))
    assert (result.verdict, result.findings) == ("unknown", ())
    assert "got grad_dtype=torch.bfloat16 for features of torch.float32" in result.failures[0].detail


# ------------------------------------------------------------------ declarations
@pytest.mark.parametrize(
    ("args", "form"),
    [
        ({}, Form()),
        ({"cache_labels": True, "chunk_size": 2}, Form()),
        ({"memory": "constant", "overlap": True}, Form(memory="constant", overlap=True)),
        ({"memory": "recompute", "grad_dtype": "torch.float32"}, Form(memory="recompute", grad_dtype="float32")),
        ({"ragged": True, "check_shapes": True}, Form(ragged=True, check_shapes=True)),
        ({"memory": "flat"}, None),
        ({"colour": 1}, None),
    ],
)
def test_arguments_that_change_what_is_sent_are_a_form(args: dict[str, object], form: Form | None) -> None:
    assert form_of(LossSpec(args=args)) == form


def test_other_losses_have_no_form_whatever_their_arguments() -> None:
    theirs = LossSpec(target="my_loss.py:Loss", args={"memory": "constant", "ragged": True})
    assert form_of(theirs) is None
    assert with_own_convention(theirs) == with_own_checks(theirs) == theirs
    assert exchanges_of(theirs, ("gather",)) == ("gather",)


def test_what_our_arguments_say_of_our_convention_need_not_be_declared() -> None:
    spec = with_own_convention(LossSpec(args={"memory": "constant", "ragged": True}))
    assert (spec.normalizer, spec.same_upstream) == ("N/W", True)
    assert declared_flags(spec) == ["--arg", "memory=constant", "--arg", "ragged=true"]
    assert judged_declaration(spec) == (
        "mean over ranks of sums divided by N/W, one upstream gradient on all ranks, memory=constant, ragged=true; "
        "judged with check_shapes=true, check_upstream=true"
    )


def test_the_line_that_replays_a_form_declares_it_again() -> None:
    spec = with_own_convention(LossSpec(args={"overlap": True, "memory": "constant"}))
    words = replay_line(Case(exchange="shift", world_size=3), spec).split()
    flags = LossFlags(arg=tuple(words[index + 1] for index, word in enumerate(words) if word == "--arg"))
    assert [with_own_convention(found) for found in flags.specs()] == [spec]
    assert flags.specs()[0].target == OURS


def test_the_dtypes_of_a_loss_are_declared_again() -> None:
    spec = LossSpec(target="my_loss.py:Loss", dtypes=("float32", "bfloat16"))
    assert declared_flags(spec) == ["--loss", "my_loss.py:Loss", "--dtypes", "float32,bfloat16"]
    assert LossFlags(loss=(spec.target,), dtypes=" bfloat16,float32").specs() == [spec]
    with pytest.raises(UsageError, match="--dtypes takes float64, float32, bfloat16, float16, with commas; got 'half'"):
        LossFlags(dtypes="float32,half").specs()


@given(st.floats(0, 86_400, exclude_min=True) | st.sampled_from([20, 20.0, 30]))
def test_a_timeout_that_is_not_the_usual_one_stands_in_the_lines(timeout_s: float) -> None:
    for line in (
        replay_line(Case(), LossSpec(), timeout_s).split(" --timeout "),
        check_line("shift", "2,4", LossSpec(), timeout_s).split(" --timeout "),
    ):
        assert [float(word) for word in line[1:]] == [timeout_s] * (timeout_s != 20)


def test_text_that_looks_like_a_number_stays_text_in_flags() -> None:
    spec = LossSpec(target="my_loss.py:Loss", args={"tag": "1", "name": "one", "none": None, "share": 0.5})
    assert spec.arguments == ('tag="1"', "name=one", "none=null", "share=0.5")
    read = LossFlags(loss=(spec.target,), arg=spec.arguments).specs()
    assert read == [spec]


# ------------------------------------------------------------------ ragged ranks in a diagnosis
def test_what_goes_wrong_with_ragged_ranks_alone_is_said_to(worlds: Worlds) -> None:
    """Declared to divide by its own b, a loss that divides by N/W is wrong only where ranks differ in rows."""
    spec = LossSpec(args={"ragged": True}, normalizer="b")
    judge = CaseJudge(worlds, spec, load_traits(worlds, spec))
    found = judge(parse_case("shift W=3 b=3 d=5 seed=3 rows=ragged"))
    assert found.verdict == "mismatch"
    said = diagnose_mismatch(judge, found)
    assert said.cause == "ragged"
    assert said.sentence.startswith("At W = 3 with rows = ragged, only ranks with different numbers of rows go wrong")
