"""The benchmark of recording, on real ranks and few turns.

Oracle: operations by hand. Sees: contestants that do not do what their name says. Cannot see: whether the ratio holds;
`make bench` measures that.
"""

from __future__ import annotations

import pytest

from siglip_verify.bench.recording import recording

NOTES = {
    "recording/bidir": ("sees 12 operations on rank 0", "sees 0 operations on rank 0"),
    "recording/shift": ("sees 12 operations on rank 0", "sees 0 operations on rank 0"),
    "recording/reduce": ("sees 8 operations on rank 0", "sees 8 operations on rank 0"),
    "recording/gather": ("sees 2 operations on rank 0", "sees 2 operations on rank 0"),
}


@pytest.mark.long
def test_the_recorder_sees_every_operation_and_comm_debug_mode_no_message() -> None:
    comparisons = list(recording(2))
    seen = {}
    for comparison in comparisons:
        unrecorded, recorded, debugged = comparison.contestants
        assert (unrecorded.name, recorded.name, debugged.name) == ("unrecorded", "recorded", "CommDebugMode")
        assert all(len(contestant.values) == 2 for contestant in comparison.contestants)
        assert all(value > 0 for contestant in comparison.contestants for value in contestant.values)
        (ratio,) = comparison.ratios
        assert ratio.of == ("recorded", "unrecorded")
        assert ratio.requirement is not None
        assert (ratio.requirement.bound, ratio.requirement.ratio) == ("at most", 1.5)
        seen[comparison.name] = (recorded.note, debugged.note)
    assert seen == NOTES
