"""What the back end does to the process that it records: nothing that the program could see, poison apart.

Oracle: the dispatcher's own tables, torch's behaviour without a recorder, NaN where a receive has not completed (the
sender is held back until the receiver has looked).
Can see: kernels or wrappers left behind, poison that hides or is missing or reaches data in use, unknown operations
that are dropped, threads that are not seen. Cannot see: another device than CPU.
"""

from __future__ import annotations

import threading
import warnings
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional

from siglip_verify.observe import Recorder, dispatcher, log_bytes, read_header, read_log
from siglip_verify.observe.c10d import unregister_kernels
from siglip_verify.observe.operations import KINDS
from siglip_verify.records import Event
from siglip_verify.world import Worlds, context

NUM_OPERATIONS = 20


def _recording(act: Any, *, poison: bool = True) -> list[Event]:
    log = bytearray(log_bytes(NUM_OPERATIONS))
    with Recorder(log, poison=poison) as recorder, recorder.phase("forward"):
        act()
    return read_log(log, context().rank)


def _kernels_installed() -> list[str]:
    names = [name for names in dispatcher.operation_names().values() for name in names]
    return [name for name in names if torch._C._dispatch_has_kernel_for_dispatch_key(name, dispatcher.KEY)]


# ------------------------------------------------------------------ nothing is left behind
def record_then_look() -> tuple[int, bool, bool, int, int, list[str]]:
    original = dist.Work.__dict__["wait"]
    log = bytearray(log_bytes(NUM_OPERATIONS))
    with Recorder(log) as recorder:
        with recorder.phase("forward"):
            dist.all_reduce(torch.ones(1))
        wrapped = dist.Work.__dict__["wait"] is not original
        dist.all_reduce(torch.ones(1))  # within the recorder, outside of a phase
    num_kernels = len(_kernels_installed())
    dist.all_reduce(torch.ones(1))
    unregister_kernels()
    dist.all_reduce(torch.ones(1))
    restored = dist.Work.__dict__["wait"] is original
    return num_kernels, wrapped, restored, len(read_log(log, 0)), read_header(log).posted, _kernels_installed()


def test_outside_of_phases_nothing_is_recorded_and_afterwards_nothing_need_be_left(worlds: Worlds) -> None:
    for _ in range(2):  # kernels that were taken out are registered again
        for num_kernels, wrapped, restored, num_events, num_posted, left in worlds.run(2, record_then_look):
            assert num_kernels > len(KINDS)
            assert (wrapped, restored) == (True, True)
            assert (num_events, num_posted) == (1, 1)
            assert left == []


def unregister_while_recording() -> str:
    with Recorder(bytearray(log_bytes(1))):
        try:
            unregister_kernels()
        except RuntimeError as error:
            return str(error)
    raise AssertionError("the kernels left under a recorder")


def test_kernels_stay_while_they_are_in_use(worlds: Worlds) -> None:
    assert worlds.run(1, unregister_while_recording) == [
        "kernels leave when no recorder needs them; got one in use: leave it before"
    ]


def record_twice_at_a_time() -> tuple[str, int]:
    log = bytearray(log_bytes(NUM_OPERATIONS))
    with Recorder(log) as recorder:
        try:
            with Recorder(bytearray(log_bytes(1))):
                pass
        except RuntimeError as error:
            said = str(error)
        with recorder.phase("forward"):
            dist.all_reduce(torch.ones(1))
    return said, len(read_log(log, 0))


def test_a_second_recorder_is_refused_and_the_first_goes_on(worlds: Worlds) -> None:
    ((said, num_events),) = worlds.run(1, record_twice_at_a_time)
    assert said == "one recorder at a time records a process; got a second one: leave the first one before"
    assert num_events == 1


def test_every_operation_of_c10d_has_a_kind() -> None:
    """Else a new torch has one that would be recorded as unknown."""
    assert set(dispatcher.operation_names()["c10d"]) == set(KINDS)


# ------------------------------------------------------------------ poison
def read_before_the_wait(dtype: torch.dtype, poison: bool) -> tuple[list[bool], list[Any], int] | None:
    """Rank 1 sends only once rank 0 has looked into its buffer."""
    rank, world = context().rank, dist.group.WORLD
    assert world is not None
    store = dist.PrefixStore(f"poison {dtype} {poison}", world.get_group_store())
    if rank == 1:
        store.wait(["looked"])
        dist.send(torch.tensor([1, 0, 2]).to(dtype), 0)
        return None
    whole = torch.ones(5, dtype=dtype)
    buffer, seen = whole[1:4], []

    def act() -> None:
        work = dist.irecv(buffer, 1)
        seen.extend(torch.isnan(whole.to(torch.float64).real).tolist())
        store.set("looked", "1")
        work.wait()

    _recording(act, poison=poison)
    return seen, whole.to(torch.float64).tolist(), buffer._version


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e5m2], ids=str
)
def test_a_read_before_the_wait_sees_nan_in_the_buffer_and_only_there(worlds: Worlds, dtype: torch.dtype) -> None:
    seen, after, version = worlds.run(2, read_before_the_wait, dtype, True)[0]
    assert seen == [False, True, True, True, False]
    assert after == [1, 1, 0, 2, 1]
    assert version == 0  # autograd must not take poison for a change that the program made


def test_without_poison_a_buffer_keeps_what_it_held(worlds: Worlds) -> None:
    seen, after, _ = worlds.run(2, read_before_the_wait, torch.float32, False)[0]
    assert seen == [False] * 5
    assert after == [1, 1, 0, 2, 1]


def test_buffers_of_whole_numbers_cannot_be_poisoned_and_still_work(worlds: Worlds) -> None:
    seen, after, _ = worlds.run(2, read_before_the_wait, torch.int32, True)[0]
    assert seen == [False] * 5
    assert after == [1, 1, 0, 2, 1]


def receive_less_than_the_buffer() -> list[float]:
    rank, buffer = context().rank, torch.zeros(4)

    def act() -> None:
        if rank == 0:
            dist.recv(buffer, 1)
        else:
            dist.send(torch.ones(2), 0)

    _recording(act)
    return buffer.tolist()


def test_what_a_short_message_did_not_fill_shows_as_nan(worlds: Worlds) -> None:
    filled = torch.tensor(worlds.run(2, receive_less_than_the_buffer)[0])
    assert filled.isnan().tolist() == [False, False, True, True]


def gather_late(rank_that_is_late: int) -> list[bool] | None:
    """Start an all-gather that cannot complete yet, and look at its output."""
    rank, world = context().rank, dist.group.WORLD
    assert world is not None
    store = dist.PrefixStore("late gather", world.get_group_store())
    output, seen = torch.zeros(4), []

    def act() -> None:
        if rank == rank_that_is_late:
            store.wait(["looked"])
        work = dist.all_gather_single(output, torch.ones(2), async_op=True)
        if rank != rank_that_is_late:
            seen.extend(output.isnan().tolist()[2 * rank_that_is_late :])
            store.set("looked", "1")
        work.wait()

    _recording(act)
    assert output.tolist() == [1, 1, 1, 1]
    return seen


def test_outputs_of_collectives_are_poisoned_too(worlds: Worlds) -> None:
    assert worlds.run(2, gather_late, 1)[0] == [True, True]


# ------------------------------------------------------------------ everything is seen
def call_operations_of_no_known_kind() -> list[Event]:
    """Define them when this process has been recorded before, as the file of a second loss does in a warm rank."""
    _recording(lambda: dist.all_reduce(torch.ones(1)))
    libraries = []
    for namespace, arguments in (("c10d", "Tensor[] tensors"), ("_c10d_functional", "Tensor[] inputs, str group_name")):
        library = torch.library.Library(namespace, "FRAGMENT")
        library.define(f"enigma_({arguments}) -> ()")
        library.impl("enigma_", lambda *args: None, "CPU")
        libraries.append(library)

    def act() -> None:
        torch.ops.c10d.enigma_([torch.ones(2, 3, dtype=torch.float64)])
        torch.ops._c10d_functional.enigma_([torch.ones(2), torch.ones(3)], "the group")

    try:
        return _recording(act)
    finally:
        unregister_kernels()
        libraries.clear()


def test_an_operation_of_no_known_kind_is_recorded_as_unknown(worlds: Worlds) -> None:
    (events,) = worlds.run(1, call_operations_of_no_known_kind)
    assert [(e.kind, e.op, e.dtype, e.shape, e.payload_bytes, e.group, e.hop) for e in events] == [
        ("unknown", "c10d::enigma_", "float64", (2, 3), 48, "", 0),
        ("unknown", "_c10d_functional::enigma_", "float32", (5,), 20, "the group", 1),
    ]


def communicate_in_other_threads() -> list[Event]:
    """As on CUDA, where backward runs in a thread of autograd's own."""

    def act() -> None:
        for _ in range(2):
            thread = threading.Thread(target=dist.all_reduce, args=(torch.ones(3),))
            thread.start()
            thread.join()

    return _recording(act)


def test_operations_of_other_threads_are_recorded(worlds: Worlds) -> None:
    for events in worlds.run(2, communicate_in_other_threads):
        assert [(event.kind, event.hop) for event in events] == [("all_reduce", 0), ("all_reduce", 1)]


def communicate_within_a_custom_operation() -> list[Event]:
    """Its autograd kernels exclude both autograd and in-place keys for what is below."""

    @torch.library.custom_op("observe_test::reduce_", mutates_args=("tensor",))
    def reduce_(tensor: torch.Tensor) -> None:
        dist.all_reduce(tensor)

    return _recording(lambda: reduce_(torch.ones(3)))


def test_operations_within_a_custom_operation_are_recorded(worlds: Worlds) -> None:
    for events in worlds.run(2, communicate_within_a_custom_operation):
        assert [event.op for event in events] == ["c10d::allreduce_"]


def compile_and_call() -> tuple[float, list[Event]]:
    """Tracing calls every operation once on tensors without data, the compiled code once more on real ones."""

    @torch.compile(backend="aot_eager")
    def loss(x: torch.Tensor) -> torch.Tensor:
        return functional.wait_tensor(functional.all_reduce(x * 2, "sum", dist.group.WORLD)).sum()

    values: list[float] = []
    events = _recording(lambda: values.append(loss(torch.ones(3)).item()))
    return values[0], events


def test_a_compiled_function_is_recorded_when_it_runs_and_not_when_it_is_traced(worlds: Worlds) -> None:
    for value, events in worlds.run(2, compile_and_call):
        assert value == 12
        assert [(event.kind, event.returned_s is None) for event in events] == [("all_reduce", False)]


def reduce_within_a_graph() -> tuple[list[str], list[str]]:
    """Go back through a plain all-reduce, with and without a recorder; return what torch warns of."""

    def act() -> None:
        value = torch.ones(3, requires_grad=True) * 2
        dist.all_reduce(value)
        value.sum().backward()

    said: list[list[str]] = []
    for run in (act, lambda: _recording(act)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run()
        said.append([str(warning.message) for warning in caught])
    return said[0], said[1]


def test_torch_warns_of_a_collective_without_gradient_as_it_does_without_a_recorder(worlds: Worlds) -> None:
    for unrecorded, recorded in worlds.run(2, reduce_within_a_graph):
        assert ["autograd kernel was not registered" in warning for warning in unrecorded] == [True]
        assert recorded == unrecorded


# ------------------------------------------------------------------ waits
def post_and_never_wait() -> tuple[list[Event], list[Event]]:
    rank, other, log = context().rank, 1 - context().rank, bytearray(log_bytes(NUM_OPERATIONS))
    with Recorder(log) as recorder, recorder.phase("forward"):
        works = [dist.isend(torch.ones(2), other), dist.irecv(torch.empty(2), other)]
    unwaited = read_log(log, rank)
    for work in works:
        work.wait()
    return unwaited, read_log(log, rank)


def test_an_operation_that_is_not_waited_for_has_no_time_of_return(worlds: Worlds) -> None:
    for unwaited, afterwards in worlds.run(2, post_and_never_wait):
        assert [(event.kind, event.returned_s) for event in unwaited] == [("send", None), ("recv", None)]
        assert afterwards == unwaited  # the recorder is gone


def send_to_oneself() -> tuple[list[Event], str]:
    log, rank = bytearray(log_bytes(NUM_OPERATIONS)), context().rank
    try:
        with Recorder(log) as recorder, recorder.phase("forward"):
            dist.isend(torch.ones(2), rank)
    except RuntimeError as error:
        return read_log(log, rank), type(error).__name__
    raise AssertionError("gloo sends to oneself now")


def test_an_operation_that_raises_when_posted_is_recorded(worlds: Worlds) -> None:
    for rank, (events, _) in enumerate(worlds.run(2, send_to_oneself)):
        assert [(e.kind, e.src, e.dst, e.returned_s) for e in events] == [("send", rank, rank, None)]
