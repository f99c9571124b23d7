"""The benchmark of warm worlds, on real processes and few turns.

Oracle: the loss of each rank, which every contestant must give; the order of the three. Sees: a fresh interpreter that
computes something else or leaves something behind.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from siglip_verify.bench import warm_worlds


@pytest.mark.long
@pytest.mark.timeout(600)
def test_warm_worlds_are_faster_than_forks_and_these_than_fresh_interpreters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (comparison,) = warm_worlds.warm_worlds(2)
    medians = {contestant.name: contestant.median for contestant in comparison.contestants}
    assert medians["warm world"] < medians["forks"] < medians["fresh interpreters"]
    assert [ratio.of for ratio in comparison.ratios] == [("fresh interpreters", "warm world"), ("forks", "warm world")]
    assert list(tmp_path.iterdir()) == []


def test_contestants_that_differ_are_no_comparison() -> None:
    with pytest.raises(RuntimeError, match="contestants must compute the same losses; got"):
        warm_worlds._checked(1.0, [1.0, 2.0], [1.0, 2.1])
    assert warm_worlds._checked(1.5, [1.0, 2.0], [1.0, 2.0]) == 1.5


@pytest.mark.long
def test_an_interpreter_that_fails_shows_its_last_output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(warm_worlds, "format_case", lambda case: "ring W=1")
    with pytest.raises(RuntimeError, match=r"ended with status 1; its last output:\n(.|\n)*got exchange=ring"):
        warm_worlds._answer(warm_worlds._start(0, tmp_path))
