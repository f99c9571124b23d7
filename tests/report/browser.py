"""A headless Chromium, spoken to over a pipe in the DevTools protocol: enough to look at a page, and no more."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)
TIMEOUT_S = 60.0
_FIRST_FREE_FD = 10


def executable() -> str | None:
    """Find Chromium as Debian and others name it."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page:
    """One page that has been loaded, with what the browser said of it."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.errors: list[str] = []
        self.requests: list[str] = []

    def load(self, path: Path, *, width: int, scheme: str, media: str = "screen") -> None:
        """Load a file at a width, light or dark, on screen or on paper."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", media=media, features=[feature])
        self.call("Page.navigate", url=path.as_uri())
        self._browser.wait_for("Page.loadEventFired", self._session, self._heard)

    def evaluate(self, script: str) -> Any:
        """Evaluate an expression in the page and return its value."""
        reply = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in reply:
            raise AssertionError(reply["exceptionDetails"])
        return reply["result"].get("value")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call one method of the protocol for this page."""
        return self._browser.call(method, self._session, self._heard, **parameters)

    def screenshot(self, path: Path) -> None:
        """Draw the whole page into a PNG."""
        width, height = self.evaluate("[innerWidth, document.documentElement.scrollHeight]")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    def _heard(self, event: dict[str, Any]) -> None:
        if event.get("sessionId") != self._session:
            return
        said = event.get("params", {})
        match event["method"]:
            case "Runtime.exceptionThrown":
                self.errors.append(str(said))
            case "Runtime.consoleAPICalled":
                self.errors.append(str(said["args"]))
            case "Log.entryAdded":
                self.errors.append(said["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(said["request"]["url"])
            case _:
                pass


class Browser:
    """A Chromium process with a profile of its own; closing it ends the process."""

    def __init__(self, profile: Path) -> None:
        command = executable()
        assert command, "Chromium is not installed"
        to_read, self._to = _pipe()
        self._from, to_write = _pipe()

        def as_three_and_four() -> None:
            os.dup2(to_read, 3)
            os.dup2(to_write, 4)

        self._process = subprocess.Popen(
            [command, *FLAGS, f"--user-data-dir={profile}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(3, 4),
            preexec_fn=as_three_and_four,
        )
        os.close(to_read)
        os.close(to_write)
        self._unread = b""
        self._calls = 0

    @contextlib.contextmanager
    def page(self) -> Generator[Page]:
        """Open a page and close it after use."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        try:
            yield Page(self, session)
        finally:
            self.call("Target.closeTarget", targetId=target)

    def call(self, method: str, session: str | None = None, heard: Any = None, **parameters: Any) -> dict[str, Any]:
        """Send one command and return its result; events that come before it are handed to `heard`."""
        self._calls += 1
        command = {"id": self._calls, "method": method, "params": parameters}
        os.write(self._to, json.dumps(command | ({"sessionId": session} if session else {})).encode() + b"\0")
        for message in self._messages():
            if message.get("id") == self._calls:
                if "error" in message:
                    raise AssertionError(f"{method}: {message['error']}")
                return message["result"]
            if heard and "method" in message:
                heard(message)
        raise AssertionError("unreachable")

    def wait_for(self, method: str, session: str, heard: Any) -> None:
        """Wait for an event of a page; those before it are handed to `heard`."""
        for message in self._messages():
            heard(message)
            if message.get("method") == method and message.get("sessionId") == session:
                return

    def close(self) -> None:
        """End the browser."""
        with contextlib.suppress(OSError, AssertionError):
            self.call("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def _messages(self) -> Iterator[dict[str, Any]]:
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            while b"\0" not in self._unread:
                ready, _, _ = select.select([self._from], [], [], deadline - time.monotonic())
                chunk = os.read(self._from, 1 << 20) if ready else b""
                if not chunk:
                    raise AssertionError(
                        f"Chromium did not answer within {TIMEOUT_S} s; it ended {self._process.poll()}"
                    )
                self._unread += chunk
            message, _, self._unread = self._unread.partition(b"\0")
            yield json.loads(message)


def _pipe() -> tuple[int, int]:
    """Make a pipe whose ends are out of the way of the numbers that Chromium wants."""
    ends = os.pipe()
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE_FD) for end in ends)
    for end in ends:
        os.close(end)
    return moved  # type: ignore[return-value]
