"""Tests that must not run side by side do not: pytest-xdist honours the groups.

Oracle: the process that a test runs in. Sees: groups that are ignored without a word, as by pytest 9.2 with
pytest-xdist 3.8 (pytest-xdist issue #1386); then fixtures that start processes run once in every worker.
"""

from __future__ import annotations

import os

import pytest


@pytest.mark.xdist_group("together")
@pytest.mark.parametrize("number", range(6))
def test_tests_of_one_group_run_in_one_process(number: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        return  # one process runs all tests
    seen = tmp_path_factory.getbasetemp().parent / f"together-{run}"
    with seen.open("a") as file:
        print(os.getpid(), file=file)
    assert set(seen.read_text().split()) == {str(os.getpid())}
