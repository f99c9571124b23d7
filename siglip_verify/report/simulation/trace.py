"""Simulated steps as a timeline for Perfetto (ui.perfetto.dev): a process for each form, two tracks for each rank.

One track shows communication, the other computing. The ranks are those of one host; the others do the same. Modelled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from siglip_verify.simulate import Setup
from siglip_verify.simulate.timeline import Timeline

_TRACKS = ("communication", "compute")


def trace(setup: Setup, timelines: Sequence[Timeline]) -> bytes:
    """Write steps as a Chrome trace, one event a line, times in microseconds of the model."""
    events = b",\n".join(msgspec.json.encode(event) for event in _events(timelines))
    about = msgspec.json.encode(
        {"basis": "modelled", "cluster": setup.cluster.name, "batch": setup.batch, "dim": setup.dim}
    )
    return b'{"displayTimeUnit":"ns","otherData":%b,"traceEvents":[\n%b\n]}\n' % (about, events)


def _events(timelines: Sequence[Timeline]) -> Iterator[dict[str, Any]]:
    for process, timeline in enumerate(timelines, start=1):
        yield _name("process_name", process, 0, f"{timeline.form}, W = {timeline.world_size}, one host (modelled)")
        for rank in sorted({span.rank for span in timeline.spans}):
            for kind in _TRACKS:
                yield _name("thread_name", process, _track(rank, kind), f"rank {rank}: {kind}")
        for span in timeline.spans:
            yield {
                "ph": "X",
                "name": f"{span.phase} hop {span.round}" if span.kind == "communication" else f"{span.phase} blocks",
                "cat": span.kind,
                "pid": process,
                "tid": _track(span.rank, span.kind),
                "ts": span.begin_s * 1e6,
                "dur": (span.end_s - span.begin_s) * 1e6,
                "args": {"phase": span.phase, "round": span.round},
            }


def _name(what: str, process: int, track: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": process, "tid": track, "args": {"name": name}}


def _track(rank: int, kind: str) -> int:
    return 1 + len(_TRACKS) * rank + _TRACKS.index(kind)
