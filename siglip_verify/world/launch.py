"""The parent's handle on the template process: starting it, asking it, ending it; and the private folder they share.

Here: everything that outlives a single world. Not here: what the template does (`template`).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from siglip_verify.world import kernel
from siglip_verify.world.messages import import_path
from siglip_verify.world.template import MAX_REQUEST_BYTES

_START_S = 120.0  # importing torch from a cold disk
_ASK_S = 20.0
_END_S = 5.0
_PROBE_BYTES = 1 << 16
_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from siglip_verify.world.template import main; main(*json.loads(sys.argv[2]))"
)


class TemplateError(RuntimeError):
    """The template process or its folder could not be made, or the template is gone."""


class TemplateProcess:
    """A template, started and not waited for: its first request finds it ready.

    It ends with `close`, with this object, with the interpreter, and with this process.

    Args:
        preload: Modules that it imports beside those that every rank needs.

    Attributes:
        folder: The private folder, mode 0700.

    Raises:
        TemplateError: No folder can be written.
    """

    def __init__(self, preload: Sequence[str]) -> None:
        self.folder = _make_folder()
        self._owner_pid = os.getpid()
        self._lock = threading.Lock()
        self._output = self.folder / "template.out"
        self._socket, theirs = socket.socketpair()
        try:
            with theirs, self._output.open("wb") as output:
                self._process = _start(theirs.fileno(), self.folder, output.fileno(), preload)
        except BaseException:
            self._socket.close()
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self._end = weakref.finalize(self, _end, self._owner_pid, self._process, self._socket, self.folder)
        self._is_ready = False

    @property
    def pid(self) -> int:
        """The template's process."""
        return self._process.pid

    @property
    def is_ours(self) -> bool:
        """Whether this process started it; False in a forked child, which must leave it alone."""
        return os.getpid() == self._owner_pid

    @property
    def is_alive(self) -> bool:
        """Whether it runs and this process can ask it."""
        return self.is_ours and self._end.alive and self._process.poll() is None

    def fork(self, rank: int, world_size: int, folder: Path, descriptors: Sequence[int]) -> int:
        """Have a rank forked that takes over the descriptors (its channel, its log); return its pid."""
        request = {"op": "fork", "rank": rank, "world_size": world_size, "folder": str(folder)}
        reply = self._exchange(request, descriptors)
        if "error" in reply:
            raise TemplateError(f"rank {rank} of {world_size} cannot be started: {reply['error']}")
        return reply["pid"]

    def reap(self, pid: int) -> int | None:
        """Take a dead or dying rank's exit status; None if it lives on or the template is gone."""
        return self._status("reap", pid)

    def bury(self, pid: int) -> None:
        """Let a killed rank leave the table of processes: now, or, if it dies late, before a later request."""
        self._status("bury", pid)

    def _status(self, op: str, pid: int) -> int | None:
        try:
            return self._exchange({"op": op, "pid": pid}, ())["status"]
        except TemplateError:
            return None

    def close(self) -> None:
        """End the template, its ranks and the folder."""
        self._end()

    def _exchange(self, request: dict[str, Any], descriptors: Sequence[int]) -> dict[str, Any]:
        """Send one request and read its reply; both are small and never overlap, so one read is one reply."""
        with self._lock:
            if not self.is_ours or not self._end.alive:
                raise TemplateError("the template process was ended, or belongs to the process that forked this one")
            try:
                if not self._is_ready:
                    self._read_reply(_START_S)
                    self._is_ready = True
                socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)
                return self._read_reply(_ASK_S)
            except OSError as error:
                raise self._failed(f"{type(error).__name__}: {error}") from error
            except BaseException:
                self.close()  # the answer that still comes would be taken for that of the next request
                raise

    def _read_reply(self, timeout_s: float) -> dict[str, Any]:
        self._socket.settimeout(timeout_s)
        reply = self._socket.recv(MAX_REQUEST_BYTES)
        if not reply:
            raise ConnectionResetError("its end of the socket is closed")
        return json.loads(reply)

    def _failed(self, why: str) -> TemplateError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)
        output = self._output.read_text(errors="replace").strip() if self._output.exists() else ""
        self.close()
        status = self._process.returncode
        return TemplateError(
            f"the template process gave no answer: {why} (exit status {status}, python {sys.executable})"
            + (f"; its last output:\n{output[-2000:]}" if output else "")
        )


def _make_folder() -> Path:
    try:
        folder = Path(tempfile.mkdtemp(prefix="siglip-verify-"))
    except OSError as error:
        raise TemplateError(_folder_text(error)) from error
    try:
        (folder / "probe").write_bytes(bytes(_PROBE_BYTES))  # on a full disk folders can be made, files not
        (folder / "probe").unlink()
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise TemplateError(_folder_text(error)) from error
    return folder


def _folder_text(error: OSError) -> str:
    return (
        f"the ranks need a private folder that can be written; got {type(error).__name__}: {error}; "
        "make room, or set TMPDIR to another folder"
    )


def _start(control: int, folder: Path, output: int, preload: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start the template in a session of its own, so that Ctrl-C reaches the parent alone.

    A fresh interpreter with `-c`: the parent's main module is not run again, whatever it is.
    """
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    loopback = kernel.loopback_interface()
    interface = {"GLOO_SOCKET_IFNAME": loopback} if loopback else {}
    arguments = [json.dumps(import_path()), json.dumps([control, os.getpid(), str(folder), list(preload)])]
    return subprocess.Popen(
        [sys.executable, "-c", _CODE, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd=folder,  # the user's may be removed; each job says where it works
        env={**os.environ, **one_thread, **interface},
        pass_fds=(control,),
        start_new_session=True,
    )


def _end(owner_pid: int, process: subprocess.Popen[bytes], control: socket.socket, folder: Path) -> None:
    """Let the template see the end of its socket; it kills the ranks, removes the folder and exits."""
    if os.getpid() != owner_pid:  # a forked child inherits this object and not the right to end what it stands for
        control.close()
        process.poll()  # finds no child of its own, so that Popen does not warn of one that still runs
        return
    with contextlib.suppress(OSError):
        control.shutdown(socket.SHUT_RDWR)  # also where another process holds a copy of the socket
    control.close()
    try:
        process.wait(timeout=_END_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)  # stopped or stuck: the kernel kills its ranks with it
        process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
