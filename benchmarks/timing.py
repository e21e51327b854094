"""How contestants are timed: in one process, in turn, several rounds, so that a busy machine slows both alike.

In: functions that each do a piece of work and return a rate. Out: the rates by round, and the median and spread of their ratio.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

Contestant = Callable[[], float]


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

    @property
    def padding(self) -> float:
        """Share of padding in what was computed."""
        return 1 - self.tokens / self.slots


def settled() -> float:
    """Return the time once the device has done all it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def alternate(contestants: dict[str, Contestant], rounds: int) -> dict[str, list[float]]:
    """Let all contestants run in every round, each round in the reverse order of the last; return their rates by round."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name in list(contestants)[:: -1 if number % 2 else 1]:
            rates[name].append(contestants[name]())
    return rates


def spread(values: list[float]) -> tuple[float, float, float]:
    """Return median, lowest and highest."""
    return statistics.median(values), min(values), max(values)


def ratios(ours: list[float], theirs: list[float]) -> tuple[float, float, float]:
    """Return median, lowest and highest of the ratio round by round."""
    return spread([one / other for one, other in zip(ours, theirs, strict=True)])
