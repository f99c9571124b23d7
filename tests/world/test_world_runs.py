"""Runs that succeed: every rank's value comes back, in rank order, from warm processes.

Oracle: the same arithmetic in this process, with numpy. Sees: answers lost, mixed up or out of order, a group that does
not talk, state that leaks between processes, functions that do not reach the ranks, large messages that block.
"""

from __future__ import annotations

import importlib.util
import os
import random
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
import world_jobs as jobs
from effort import examples
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify.world import CHECKPOINTS, LOG_BYTES, WorldError, Worlds, context

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def expected_gradient(world_size: int, seed: int, rows: int, dim: int) -> np.ndarray:
    total = np.zeros((rows, dim))
    for rank in range(world_size):
        generator = torch.Generator().manual_seed(seed + rank)
        x = torch.randn(rows, dim, dtype=torch.float64, generator=generator).numpy()
        total += x @ x.T @ x
    return total


@examples(30)
@given(world_size=st.sampled_from([1, 2, 3]), seed=st.integers(0, 2**31), rows=st.integers(1, 9), dim=st.integers(1, 9))
def test_ranks_compute_and_communicate_as_one_process_would(
    worlds: Worlds, world_size: int, seed: int, rows: int, dim: int
) -> None:
    answers = worlds.run(world_size, jobs.all_reduced_gradient, seed, rows, dim)
    assert [rank for rank, _ in answers] == list(range(world_size))
    for _, gradient in answers:
        np.testing.assert_allclose(gradient, expected_gradient(world_size, seed, rows, dim), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("world_size", [1, 2, 8])
def test_a_world_is_used_again(worlds: Worlds, world_size: int) -> None:
    first = worlds.run(world_size, jobs.pid)
    built = worlds.built
    assert worlds.run(world_size, jobs.pid) == first
    assert worlds.built == built
    assert tuple(first) == worlds.world(world_size).pids
    assert len({*first, os.getpid()}) == world_size + 1
    assert set(first) < set(worlds.pids())


def test_a_function_inside_a_function_travels_by_value(worlds: Worlds) -> None:
    offset = 10

    def add_rank() -> int:
        return offset + context().rank

    assert worlds.run(2, add_rank) == [10, 11]
    assert worlds.run(2, lambda value: value * context().world_size, 3) == [6, 6]


def test_a_function_of_a_module_off_the_import_path_travels_by_value(worlds: Worlds, tmp_path: Path) -> None:
    path = tmp_path / "only_in_the_parent.py"
    path.write_text("def helper():\n    return 5\n\ndef function():\n    return helper() + 1\n")
    spec = importlib.util.spec_from_file_location("only_in_the_parent", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        assert worlds.run(2, module.function) == [6, 6]
    finally:
        del sys.modules[spec.name]


def test_a_function_of_an_importable_module_is_imported_in_the_rank(
    worlds: Worlds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worlds.run(2, jobs.pid)  # the world is older than the folder on the path
    (tmp_path / "late_module.py").write_text("import os\nHERE = os.getpid()\n\ndef function():\n    return HERE\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("late_module")
    assert os.getpid() == module.HERE
    assert worlds.run(2, module.function) == worlds.run(2, jobs.pid)


def test_a_rank_works_in_the_parents_present_folder(
    worlds: Worlds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert [answer["cwd"] for answer in worlds.run(2, jobs.surroundings)] == [str(tmp_path)] * 2


def test_a_rank_has_one_thread_no_input_the_loopback_and_its_place(worlds: Worlds) -> None:
    for rank, answer in enumerate(worlds.run(2, jobs.surroundings)):
        assert answer["torch_threads"] == 1
        assert answer["stdin"] == ""
        assert answer["interface"] == "lo"
        assert answer["place"] == [str(rank), "2", str(rank), "2"]
        assert answer["session"] not in (os.getsid(0), 0)
        assert answer["interrupts"]
        assert answer["folder_mode"] == 0o700


def test_the_template_has_one_thread_after_ranks_have_worked(worlds: Worlds) -> None:
    worlds.run(2, jobs.all_reduced_gradient, 0, 8, 8)
    assert len(list(Path(f"/proc/{worlds.pids()[0]}/task").iterdir())) == 1


def test_a_rank_holds_its_own_channel_and_no_one_elses(worlds: Worlds) -> None:
    held = worlds.run(3, jobs.open_sockets)
    assert [len(sockets) for sockets in held] == [1, 1, 1]
    assert len(set.union(*held)) == 3


def test_large_arguments_and_values_pass(worlds: Worlds) -> None:
    num_bytes = 30_000_000
    assert worlds.run(4, jobs.return_megabytes, num_bytes) == [bytes([rank]) * num_bytes for rank in range(4)]
    assert worlds.run(2, len, bytes(num_bytes)) == [num_bytes] * 2


def test_a_rank_that_prints_20_megabytes_answers(worlds: Worlds) -> None:
    assert worlds.run(2, jobs.print_megabytes, 20_000_000) == [20_000_000] * 2


def test_a_value_of_a_class_sent_by_value_comes_back_as_that_class(worlds: Worlds) -> None:
    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    assert [type(point) is Point and point.x for point in worlds.run(2, Point, 4)] == [4, 4]


def test_what_cannot_be_pickled_is_refused_and_the_world_lives_on(worlds: Worlds) -> None:
    pids = worlds.run(2, jobs.pid)
    with pytest.raises(TypeError, match=r"must be picklable to reach the ranks; got function=echo: TypeError: .*lock"):
        worlds.run(2, jobs.echo, threading.Lock())
    assert worlds.run(2, jobs.pid) == pids


@pytest.mark.parametrize(
    ("world_size", "timeout_s", "message"),
    [
        (0, 1.0, "at least one rank; got world_size=0"),
        (-1, 1.0, "at least one rank; got world_size=-1"),
        (2, 0.0, "lies in the future; got timeout_s=0"),
        (2, float("nan"), "lies in the future; got timeout_s=nan"),
    ],
)
def test_senseless_numbers_are_refused(worlds: Worlds, world_size: int, timeout_s: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        worlds.run(world_size, jobs.pid, timeout_s=timeout_s)


def test_context_answers_in_ranks_only(worlds: Worlds) -> None:
    with pytest.raises(RuntimeError, match="in the ranks of a world only"):
        context()
    seen = worlds.run(3, lambda: (context().rank, context().world_size, len(context().log), context().folder))
    assert [place[:3] for place in seen] == [(rank, 3, LOG_BYTES) for rank in range(3)]
    assert {place[3] for place in seen} == {worlds.world(3).folder}


def test_the_parent_reads_what_a_rank_writes_into_its_log(worlds: Worlds) -> None:
    def write(number: int) -> None:
        context().log[100] = number + context().rank

    worlds.run(2, write, 7)
    world = worlds.world(2)
    assert [world.log(rank)[100] for rank in range(2)] == [7, 8]
    assert world.log(0).readonly
    assert len(world.log(0)) == LOG_BYTES


def test_the_parents_random_generators_are_left_alone(worlds: Worlds) -> None:
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    worlds.run(2, jobs.all_reduced_gradient, 0, 2, 2)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


def test_a_discarded_world_is_replaced(worlds: Worlds, still_alive: Callable[[Iterable[int], float], set[int]]) -> None:
    pids = worlds.run(2, jobs.pid)
    built, rebuilt, folder = worlds.built, worlds.rebuilt, worlds.world(2).folder
    worlds.discard(2)
    assert still_alive(pids, 1.0) == set()
    assert not folder.exists()
    assert not set(pids) & set(worlds.run(2, jobs.pid))
    assert (worlds.built, worlds.rebuilt) == (built + 1, rebuilt + 1)


def test_a_world_whose_ranks_hold_too_many_descriptors_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    def makes_groups() -> int:
        import torch.distributed as dist

        for _ in range(5):
            dist.new_group()
        return os.getpid()

    monkeypatch.setattr("siglip_verify.world.world.resource.getrlimit", lambda _: (200, 200))
    with Worlds(timeout_s=30, preload=()) as pool:
        pids = [pool.run(2, makes_groups)[0] for _ in range(6)]
        assert 1 < len(set(pids)) < 6
        assert pool.rebuilt == len(set(pids)) - 1


def test_threads_share_a_pool(worlds: Worlds) -> None:
    answers: dict[int, list[int]] = {}

    def ask(number: int) -> None:
        world_size = 1 + number % 3
        answers[number] = worlds.run(world_size, jobs.echo, number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: [number] * (1 + number % 3) for number in range(9)}


def test_two_pools_have_nothing_in_common_and_a_closed_one_starts_anew(
    worlds: Worlds, still_alive: Callable[[Iterable[int], float], set[int]]
) -> None:
    with Worlds(timeout_s=10, preload=()) as other:
        assert other.pids() == ()
        assert other.folder is None
        other.start()
        template = other.pids()
        assert len(template) == 1
        first = other.run(2, jobs.pid)
        assert [pool.run(1, jobs.has_imported, CHECKPOINTS) for pool in (worlds, other)] == [[True], [False]]
        other.discard(1)
        assert other.pids() == (*template, *first)
        assert len({*worlds.run(2, jobs.pid), *first}) == 4
        folder = other.folder
        assert folder is not None
        assert folder != worlds.folder
        assert folder.exists()
        other.close()
        assert (other.pids(), other.folder) == ((), None)
        assert still_alive((*template, *first), 1.0) == set()
        assert not folder.exists()
        assert other.run(1, jobs.pid) != first[:1]
        other.close()
        other.close()
    assert worlds.run(2, jobs.echo, 1) == [1, 1]


def test_without_a_folder_to_write_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with Worlds(preload=()) as pool:
        with pytest.raises(WorldError, match=r"^no world of world_size=2: .*private folder.*TMPDIR"):
            pool.run(2, jobs.pid)
        with pytest.raises(WorldError, match=r"^no world: .*private folder.*TMPDIR"):
            pool.start()
