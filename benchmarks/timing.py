"""How contestants are timed: in one call, in turn, several rounds, so that a busy machine slows both alike.

In: functions that each do a piece of work. Out: what they found by round, and the median and spread of their ratio.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch

Found = TypeVar("Found")


@dataclass
class Window:
    """A stretch of training steps: what it took and what went through it. ``slots`` counts real tokens and padding."""

    seconds: float = 0.0
    tokens: int = 0
    slots: int = 0
    started: float = field(default=0.0, repr=False)

    def start(self) -> None:
        """Start the clock once the device is idle."""
        self.started = settled()

    def stop(self) -> None:
        """Stop the clock once the device is idle."""
        self.seconds = settled() - self.started

    def add(self, tokens: int, slots: int) -> None:
        """Count a batch."""
        self.tokens += tokens
        self.slots += slots

    @property
    def rate(self) -> float:
        """Real tokens per second."""
        return self.tokens / self.seconds


def settled() -> float:
    """Return the time once the device has done all it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def alternate(contestants: dict[str, Callable[[], Found]], rounds: int) -> dict[str, list[Found]]:
    """Let all contestants work in every round, each round in the reverse order of the last; return what they found by round."""
    found: dict[str, list[Found]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name in list(contestants)[:: -1 if number % 2 else 1]:
            found[name].append(contestants[name]())
    return found


def rates(windows: dict[str, list[Window]]) -> dict[str, list[float]]:
    """Return real tokens per second by round."""
    return {name: [window.rate for window in each] for name, each in windows.items()}


def padding_note(windows: list[Window]) -> str:
    """Say how much of what the peer computed was padding; tofro packs."""
    tokens, slots = sum(window.tokens for window in windows), sum(window.slots for window in windows)
    return f"{tokens // len(windows):,} real tokens a round, padding {1 - tokens / slots:.1%} on the peer's side, none on ours"


def spread(values: list[float]) -> tuple[float, float, float]:
    """Return median, lowest and highest."""
    return statistics.median(values), min(values), max(values)


def ratios(ours: list[float], theirs: list[float]) -> tuple[float, float, float]:
    """Return median, lowest and highest of the ratio round by round."""
    return spread([one / other for one, other in zip(ours, theirs, strict=True)])
