"""Reading a rank's Python stack: where it is, and whether it waits there for another rank.

Here: faulthandler's text, and what its frames say. Not here: how the text is had (`process`), who is blamed (`blame`).
"""

from __future__ import annotations

import importlib.util
import linecache
import re
import sysconfig
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

_THREAD = re.compile(r"^(?:Current thread|Thread) 0x([0-9a-f]+)\b.*\(most recent call first\):$")
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$')
_PACKAGE = Path(__file__).parent.parent
_HARNESS = tuple(str(_PACKAGE / "world" / name) for name in ("rank.py", "channel.py"))  # what calls the job
_RECORDER = f"{_PACKAGE / 'observe'}/"
_STDLIB = tuple(f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib"))
_TEXT_CHARS = 80


class Frame(NamedTuple):
    """One line of a Python stack."""

    path: str
    line: int
    function: str

    @property
    def source(self) -> str:
        """The source line; empty where there is no file."""
        return linecache.getline(self.path, self.line).strip()

    @property
    def is_torch(self) -> bool:
        """Whether the frame is of torch itself."""
        return self.path.startswith(_torch_folder())

    @property
    def is_stdlib(self) -> bool:
        """Whether the frame is of Python's own library."""
        return self.path.startswith("<frozen ") or (self.path.startswith(_STDLIB) and "site-packages" not in self.path)

    def __str__(self) -> str:
        text = self.source
        text = text if len(text) <= _TEXT_CHARS else text[: _TEXT_CHARS - 1] + "…"
        return f"in {self.function} ({Path(self.path).name}:{self.line})" + (f": {text}" if text else "")


def read_stack(text: str, thread: int) -> list[Frame]:
    """Read one thread's frames from what faulthandler wrote, innermost first, down to the world's own code."""
    frames: list[Frame] = []
    is_wanted = False
    for line in text.splitlines():
        if header := _THREAD.match(line):
            is_wanted = int(header[1], 16) == thread
            frames = [] if is_wanted else frames  # the newest dump counts
        elif is_wanted and (frame := _FRAME.match(line)):
            frames.append(Frame(frame[1], int(frame[2]), frame[3]))
    return list(takewhile(lambda frame: not frame.path.startswith(_HARNESS), frames))


def place(frames: Sequence[Frame]) -> Frame | None:
    """Return the innermost frame that is neither torch's, nor the standard library's, nor the recorder's."""
    plumbing = (frame.is_torch or frame.is_stdlib or frame.path.startswith(_RECORDER) for frame in frames)
    own = (frame for frame, is_plumbing in zip(frames, plumbing, strict=True) if not is_plumbing)
    return next(own, frames[0] if frames else None)


def waits_for_peer(frames: Sequence[Frame]) -> bool:
    """Tell whether a sleeping rank sleeps in torch, in the recorder, or in the `wait()` of a piece of communication.

    The recorder's own code never sleeps: it passes each operation, and each wait for one, on to torch. `Work.wait` is
    no Python function and leaves no frame, so its caller's source line has to tell; a frame of the standard library
    innermost (`threading`, `queue`) is some other wait.
    """
    if not frames:
        return False
    innermost = frames[0]
    passed_on = innermost.is_torch or innermost.path.startswith(_RECORDER)
    return passed_on or (not innermost.is_stdlib and "wait(" in innermost.source)


def _torch_folder() -> str:
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    return f"{Path(spec.origin).parent}/"
