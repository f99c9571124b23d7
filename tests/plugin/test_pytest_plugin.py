"""The plugin in other people's test suites.

Oracle: pytest's own outcomes (pytester). Sees: a wrong loss that passes, a failure without its diagnosis, worlds that
do not stay warm or outlive the session, torch imported before it is used.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from siglip_verify import assert_equivalent, pytest_plugin
from siglip_verify.adapt import LossSpec
from siglip_verify.world import Worlds

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.xdist_group("plugin")
BROKEN = Path(__file__).parents[1] / "run" / "broken.py"


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider --strict-markers\nfilterwarnings = error\n")
    return pytester


def outcomes(suite: pytest.Pytester, code: str, *options: str) -> tuple[dict[str, int], str]:
    suite.makepyfile(code)
    result = suite.runpytest_inprocess(*(options or ("-p", "no:xdist")))
    return result.parseoutcomes(), result.stdout.str()


def test_losses_and_functions_run_on_warm_ranks_and_a_rank_that_fails_is_named(suite: pytest.Pytester) -> None:
    """A right loss in three lines; ranks that stay; one that dies, after which the next test has a new world."""
    counts, text = outcomes(
        suite,
        """
        import os
        import pytest
        import torch
        import torch.distributed as dist
        from siglip_verify import assert_equivalent

        seen = {}

        def test_the_loss():
            assert_equivalent("siglip_verify.loss:SigLipLoss", exchanges=["shift"], world_sizes=[1, 2], examples=4)

        def pids():
            return os.getpid()

        @pytest.mark.world_size(2, 3)
        @pytest.mark.parametrize("again", [0, 1])
        def test_ranks_stay(world, again):
            here = world.run(pids)
            assert len(set(here)) == world.size
            assert seen.setdefault(world.size, here) == here

        def test_two_ranks_without_a_mark(world):
            def total(start):
                value = torch.tensor(start + dist.get_rank())
                dist.all_reduce(value)
                return value.item()

            assert world.run(total, 10) == [21, 21]

        def test_a_rank_dies(world):
            def die():
                if dist.get_rank() == 1:
                    os._exit(7)
                dist.barrier()

            world.run(die)

        def test_the_next_is_fine(world):
            assert world.run(dist.get_rank) == [0, 1]
        """,
    )
    assert counts == {"failed": 1, "passed": 7}, text
    assert (
        "FAILED test_losses_and_functions_run_on_warm_ranks_and_a_rank_that_fails_is_named.py::test_a_rank_dies" in text
    )
    assert "rank 1" in text
    assert "exited with status 7" in text


def test_a_wrong_loss_fails_with_the_shrunk_case_and_its_diagnosis(
    worlds: Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pytest_plugin, "_session_worlds", lambda: worlds)
    with pytest.raises(AssertionError) as failed:
        assert_equivalent(f"{BROKEN}:WithoutLastHop", exchanges=["bidir"], world_sizes="2", examples=3)
    text = " ".join(str(failed.value).split())
    assert "MISMATCH" in text
    assert "bidir W=2 b=1 d=1" in text
    assert "the last single hop is missing" in text
    assert "siglip-verify replay" in text


def test_what_is_declared_beside_a_loss_spec_counts(worlds: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest_plugin, "_session_worlds", lambda: worlds)
    with pytest.raises(AssertionError, match="MISMATCH"):
        assert_equivalent(LossSpec(), normalizer="b*b", exchanges=["bidir"], world_sizes="1", examples=4)


@pytest.mark.long
def test_every_process_of_xdist_has_worlds_of_its_own(suite: pytest.Pytester) -> None:
    counts, text = outcomes(
        suite,
        """
        import os
        import pytest

        @pytest.mark.parametrize("number", [0, 1])
        def test_ranks(world, worker_id, number):
            with open("ranks", "a") as file:
                print(worker_id, *world.run(os.getpid), file=file)
        """,
        "-n",
        "2",
        "--dist",
        "each",
    )
    assert counts == {"passed": 4}, text
    ranks = {line.partition(" ") for line in (suite.path / "ranks").read_text().splitlines()}
    by_worker = [set(pids.split()) for _, _, pids in sorted(ranks)]
    assert [len(pids) for pids in by_worker] == [2, 2], "two workers, each with the same two ranks for both its tests"
    assert not set.intersection(*by_worker)


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ("@pytest.mark.world_size()\ndef test_it(world): ...", "takes numbers of ranks"),
        ("@pytest.mark.world_size('2')\ndef test_it(world): ...", "got '2'"),
        ("@pytest.mark.world_size(2)\ndef test_it(): ...", "marks tests that take the fixture `world`"),
    ],
)
def test_a_wrong_mark_is_a_usage_error(suite: pytest.Pytester, test: str, words: str) -> None:
    suite.makepyfile("import pytest\n" + test)
    result = suite.runpytest_inprocess("-p", "no:xdist")
    assert result.ret != 0
    assert words in result.stdout.str() + result.stderr.str()


def test_the_plugin_imports_no_torch_until_it_is_used() -> None:
    code = "import sys, siglip_verify, siglip_verify.pytest_plugin; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
