"""Phases, hops and order, without communication: a back end that tells what a test scripts.

Oracle: hop numbers written by hand for each script; for random scripts, a second statement of the rule.
Can see: operations put into the wrong hop or phase, recorded outside of a phase, a back end left installed. Cannot
see: whether the real back end tells the truth (`test_recorded_operations`).
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siglip_verify.observe import Observer, Operation, Recorder, log_bytes, read_header, read_log

MESSAGE = Operation("send", "c10d::send", 0, 1, 0, "float32", (1,), 4, "0")
COLLECTIVE = Operation("all_reduce", "c10d::allreduce_", None, None, None, "float32", (1,), 4, "0")


class ScriptedBackend:
    """Tells the observer what the test says; another implementation of the Backend protocol."""

    observer: Observer | None = None

    def install(self, observer: Observer, *, poison: bool) -> None:
        self.observer, self.poison = observer, poison

    def remove(self) -> None:
        self.observer = None

    def play(self, script: Sequence[str]) -> None:
        """`m`: post a message; `c`: post a collective; a number: wait for that operation."""
        assert self.observer is not None
        for step in script:
            if step.isdigit():
                self.observer.returned(int(step))
            else:
                self.observer.posted(MESSAGE if step == "m" else COLLECTIVE)


def _hops(script: Sequence[str]) -> list[int]:
    buffer, backend = bytearray(log_bytes(64)), ScriptedBackend()
    with Recorder(buffer, backend=backend) as recorder, recorder.phase("forward"):
        backend.play(script)
    return [event.hop for event in read_log(buffer, 0)]


@pytest.mark.parametrize(
    ("script", "hops"),
    [
        ("mmmm0123", [0, 0, 0, 0]),  # one batch
        ("mm01mm23", [0, 0, 1, 1]),  # wait between batches
        ("m0m1", [0, 1]),  # blocking send, then blocking receive
        ("mm0m12", [0, 0, 1]),  # the first wait ends the hop
        ("mm01m", [0, 0, 1]),  # the last one is never waited for
        ("ccc012", [0, 1, 2]),  # each collective its own hop, also when posted together
        ("mcm012", [0, 1, 2]),  # a collective ends the hop
        ("cm0m12", [0, 1, 1]),  # waiting for the collective does not
        ("mm0mm13m24", [0, 0, 1, 1, 2]),  # nor does waiting for an earlier hop's message (1)
        ("mm0m1m23", [0, 0, 1, 1]),
        ("", []),
    ],
)
def test_operations_posted_together_are_one_hop(script: str, hops: list[int]) -> None:
    assert _hops(script) == hops


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=8))
@settings(deadline=None)
def test_every_batch_that_is_waited_for_is_one_hop_and_every_collective_another(
    batches: list[tuple[int, bool]],
) -> None:
    script: list[str] = []
    hops: list[int] = []
    for num_messages, then_collective in batches:
        for kind, count in (("m", num_messages), ("c", int(then_collective))):
            if count:
                script += [kind] * count + [str(len(hops))]
                hops += [hops[-1] + 1 if hops else 0] * count
    assert _hops(script) == hops


def test_hops_count_from_zero_in_each_phase_and_go_on_in_a_phase_that_is_entered_again() -> None:
    buffer, backend = bytearray(log_bytes(8)), ScriptedBackend()
    with Recorder(buffer, backend=backend) as recorder:
        for phase in ("forward", "backward", "forward"):
            with recorder.phase(phase):
                backend.play("m")
    events = read_log(buffer, 0)
    assert [(event.sequence, event.phase, event.hop) for event in events] == [
        (0, "forward", 0),
        (1, "backward", 0),
        (2, "forward", 1),
    ]


def test_a_wait_in_backward_is_written_to_the_operation_of_forward() -> None:
    buffer, backend = bytearray(log_bytes(8)), ScriptedBackend()
    with Recorder(buffer, backend=backend) as recorder:
        with recorder.phase("forward"):
            backend.play("m")
        with recorder.phase("backward"):
            backend.play("m0m")
    events = read_log(buffer, 0)
    assert [event.hop for event in events] == [0, 0, 0]
    assert [event.returned_s is not None for event in events] == [True, False, False]


def test_an_operation_is_in_the_log_when_posted_returns() -> None:
    buffer, backend = bytearray(log_bytes(8)), ScriptedBackend()
    with Recorder(buffer, backend=backend) as recorder, recorder.phase("backward"):
        backend.play("m")
        (event,) = read_log(buffer, 0)
        assert event.returned_s is None
        assert read_header(buffer).phase == "backward"
        backend.play("0")
        (event,) = read_log(buffer, 0)
        assert event.returned_s is not None
        assert event.returned_s >= event.posted_s
    assert read_header(buffer).phase is None


def test_phases_do_not_nest() -> None:
    with Recorder(bytearray(log_bytes(1)), backend=ScriptedBackend()) as recorder, recorder.phase("forward"):
        with (
            pytest.raises(RuntimeError, match="got phase=backward within forward: leave that one first"),
            recorder.phase("backward"),
        ):
            pass
        assert recorder.watching


def test_recording_ends_with_the_block_whatever_happens_in_it() -> None:
    backend = ScriptedBackend()
    recorder = Recorder(bytearray(log_bytes(1)), backend=backend)
    with pytest.raises(KeyError), recorder, recorder.phase("forward"):
        raise KeyError
    assert backend.observer is None
    assert not recorder.watching


@pytest.mark.parametrize("poison", [True, False])
def test_the_back_end_is_told_whether_to_poison(poison: bool) -> None:
    backend = ScriptedBackend()
    with Recorder(bytearray(log_bytes(1)), poison=poison, backend=backend):
        assert backend.poison is poison
