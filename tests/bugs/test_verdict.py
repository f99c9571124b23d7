"""How a planted bug showed, held against what its entry declares.

Oracle: verdicts written by hand. Sees: a bug that passes for caught though it shows in another way, another quantity,
at another W or under another name than its entry says.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest

from siglip_verify.bugs import CATALOGUE, Bug
from siglip_verify.bugs.verdict import amiss, beyond_bound, outcome_of
from siglip_verify.case import Case
from siglip_verify.records import CaseResult, Finding, Quantity, RankFailure, Share


def share(quantity: Quantity, value: float) -> Share:
    return Share(
        quantity=quantity, share=value, rank=0, index=(0,), observed=1.0, expected=0.0, error=1.0, bound=1.0 / value
    )


def failure(kind: Literal["hung", "died"], *, blamed: bool = True) -> RankFailure:
    return RankFailure(rank=1, kind=kind, blamed=blamed, detail="", reached="")


BUG = CATALOGUE["bidir-not-reversed"]  # in the text gradient alone, from W = 3 on
SAYS = "text gradients go the wrong direction around the ring"
SHOWN = CaseResult(
    case=Case(exchange="bidir", world_size=3),
    verdict="mismatch",
    shares=(share("loss", 0.1), share("text_grad", 1e9)),
)


def with_(**changes: object) -> CaseResult:
    return msgspec.structs.replace(SHOWN, **changes)


def test_a_bug_that_shows_as_declared_is_as_it_must_be() -> None:
    assert list(amiss(BUG, SHOWN, SAYS)) == []


@pytest.mark.parametrize(
    ("bug", "caught", "says", "complaint"),
    [
        (BUG, SHOWN, "something is wrong", "the diagnosis does not say"),
        (BUG, with_(shares=(share("loss", 2.0),)), SAYS, "shows in none of text_grad"),
        (BUG, with_(shares=(), findings=(Finding(name="narrow-wire", rank=0, detail=""),)), SAYS, "shows in none of"),
        (BUG, with_(shares=(*SHOWN.shares, share("image_grad", 2.0))), SAYS, "shows in image_grad as well"),
        (BUG, with_(shares=(share("text_grad", float("nan")), share("loss", float("nan")))), SAYS, "shows in loss as"),
        (BUG, with_(case=Case(exchange="bidir", world_size=2)), SAYS, "shows at W = 2, where it is right"),
        (BUG, with_(failures=(failure("hung"),)), SAYS, "outcome hung in place of mismatch"),
        (CATALOGUE["memory-leak"], with_(shares=(), failures=(failure("hung"),)), "memory", "outcome hung in place of"),
        (CATALOGUE["unbatched-p2p"], with_(shares=()), "a deadlock", "outcome mismatch in place of hung"),
    ],
)
def test_what_is_otherwise_than_declared_is_said(bug: Bug, caught: CaseResult, says: str, complaint: str) -> None:
    assert complaint in "; ".join(amiss(bug, caught, says))


def test_a_rank_that_failed_is_the_outcome_whatever_its_messages_show() -> None:
    found = (Finding(name="deadlock", rank=0, detail=""),)
    assert outcome_of(with_(findings=found)) == "mismatch"
    assert outcome_of(with_(findings=found, failures=(failure("hung", blamed=False),))) == "hung"
    assert outcome_of(with_(failures=(failure("hung", blamed=False), failure("died")))) == "died"
    assert outcome_of(with_(findings=(Finding(name="memory-grows", rank=0, detail=""),))) == "memory"


def test_overwritten_input_is_an_outcome_where_it_is_all_that_shows() -> None:
    overwritten = Finding(name="input-changed", rank=0, detail="")
    right = (share("loss", 0.5),)
    assert outcome_of(with_(shares=right, findings=(overwritten,))) == "input"
    assert outcome_of(with_(findings=(overwritten,))) == "mismatch"
    assert outcome_of(with_(shares=right, findings=(overwritten, Finding(name="deadlock", detail="")))) == "mismatch"


def test_a_number_that_is_none_is_beyond_its_bound() -> None:
    assert beyond_bound(with_(shares=(share("loss", float("nan")), share("text_grad", 1.0)))) == ("loss",)
