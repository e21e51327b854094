"""Progress of everything that takes longer than two seconds: a bar with rate and time left, or plain lines without a terminal.

In: (done, total) calls. Out: nothing but what the eye sees, on standard error.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich import progress as rich_progress
from rich.console import Console

from tofro.progress import Progress

PATIENCE = 2.0  # seconds before anything is shown
LINE_EVERY = 15.0  # seconds between plain lines


@contextmanager
def progress(label: str, unit: str, shown: bool = True) -> Iterator[Progress]:
    """Yield a function (done, total or None) -> None that shows progress of ``label``, counted in ``unit``."""
    if not shown:
        yield lambda done, total: None
        return
    console = Console(stderr=True)
    view = _Bar(console, label, unit) if console.is_terminal else _Lines(label, unit)
    try:
        yield view.update
    finally:
        view.close()


class _Pace:
    """Units a second. What was done before the first call, in an earlier process that this one goes on from, is not counted."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.first: tuple[int, float] | None = None  # done at the first call, and when that was

    def rate(self, done: int, now: float) -> float:
        """Return the rate at ``done``; with a single call to go by, that since the start."""
        if self.first is None:
            self.first = done, now
        before, since = self.first if done > self.first[0] else (0, self.started)
        return (done - before) / max(now - since, 1e-9)


class _Bar:
    """A rich bar that appears after two seconds."""

    def __init__(self, console: Console, label: str, unit: str) -> None:
        columns = (
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(),
            rich_progress.MofNCompleteColumn(),
            rich_progress.TextColumn("{task.fields[rate]}"),
            rich_progress.TimeRemainingColumn(),
        )
        self.bar = rich_progress.Progress(*columns, console=console, transient=True)
        self.unit = unit
        self.pace = _Pace()
        self.task = self.bar.add_task(label, total=None, rate="")
        self.visible = False

    def update(self, done: int, total: int | None) -> None:
        """Show ``done`` of ``total``."""
        now = time.monotonic()
        rate = self.pace.rate(done, now)
        if now - self.pace.started < PATIENCE:
            return
        if not self.visible:
            self.bar.start()
            self.visible = True
        self.bar.update(self.task, completed=done, total=total, rate=f"{rate:,.0f} {self.unit}/s")

    def close(self) -> None:
        """Take the bar away."""
        if self.visible:
            self.bar.stop()


class _Lines:
    """A line every few seconds, for logs."""

    def __init__(self, label: str, unit: str) -> None:
        self.label = label
        self.unit = unit
        self.pace = _Pace()
        self.next = self.pace.started + PATIENCE

    def update(self, done: int, total: int | None) -> None:
        """Print ``done`` of ``total`` when a line is due."""
        now = time.monotonic()
        rate = self.pace.rate(done, now)
        if now < self.next:
            return
        self.next = now + LINE_EVERY
        left = "" if not total or not rate else f", {(total - done) / rate:.0f} s left"
        of = "" if total is None else f"/{total:,}"
        print(f"{self.label}: {done:,}{of} {self.unit}, {rate:,.0f} {self.unit}/s{left}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing to take away."""
