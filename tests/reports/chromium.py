"""A headless Chromium for tests, driven through its debugging pipe: no driver, no port, no package.

In: a page on disk. Out: what the page asked the network for, what it says and looks like. Every request is seen by the browser's
own network domain, page and sub-resources alike; names are resolved to nothing, so none leaves the machine.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe"),
)
PATIENCE = 60.0  # seconds for one answer


def find_chromium() -> str | None:
    """Return the browser's path, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One tab. ``requests`` are the URLs asked for since the last ``open``, the page itself and data URIs left out."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._buffer = b""
        self._number = 0
        self._events: list[dict[str, Any]] = []
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask the tab something of the DevTools protocol."""
        return self._call(method, parameters, self._session)

    def _call(self, method: str, parameters: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        os.write(self._to, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._events.append(answer)

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._back], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "Chromium does not answer"
            self._buffer += os.read(self._back, 1 << 20)
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, page: Path) -> float:
        """Load a page from disk; return the seconds until all of it had loaded."""
        self._events.clear()
        started = time.monotonic()
        self.call("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self._events):
            self._events.append(self._next())
        taken = time.monotonic() - started
        self.evaluate("1")  # what was under way has been told by now
        return taken

    @property
    def requests(self) -> list[str]:
        """What the page asked for beyond itself."""
        sent = [event["params"] for event in self._events if event.get("method") == "Network.requestWillBeSent"]
        return [
            one["request"]["url"] for one in sent if one["type"] != "Document" and not one["request"]["url"].startswith("data:")
        ]

    @property
    def complaints(self) -> list[str]:
        """What the console says: violations of the page's own security policy, errors."""
        return [event["params"]["entry"]["text"] for event in self._events if event.get("method") == "Log.entryAdded"]

    def evaluate(self, expression: str) -> Any:
        """Return what a JavaScript expression comes to in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def look(self, width: int, scheme: str = "light", height: int = 900) -> None:
        """Set the window's width and the colour scheme that the reader prefers."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def shoot(self, path: Path) -> None:
        """Write a picture of the whole page as PNG."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Start the browser with a profile of its own and end it afterwards."""
    program = find_chromium()
    assert program is not None, "ask find_chromium first"
    there, to = os.pipe()
    back, from_there = os.pipe()

    def third_and_fourth() -> None:  # where the pipe's two ends must be
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (there, from_there)]  # out of the way of both
        os.dup2(ends[0], 3)
        os.dup2(ends[1], 4)

    process = subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={profile}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=third_and_fourth,
        close_fds=False,
    )
    os.close(there)
    os.close(from_there)
    try:
        yield Browser(to, back)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(to)
        os.close(back)
