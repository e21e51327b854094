"""The runs that a study has to make: which may start, which wait for another, how each ended.

In: planned runs and how long each may take. Out: :class:`Jobs`, which a launcher (local.py, slurm.py) takes runs from and tells
how they ended; it shows a line for each. ``attempt`` carries out one run, in whatever process. Torch-free until a run computes.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tofro.config.compose import compose
from tofro.config.errors import is_mistake
from tofro.runs.estimate import estimate, spell
from tofro.runs.folder import Held
from tofro.runs.planning import Planned
from tofro.runs.ranks import RankFailed
from tofro.runs.run import run

DONE, FAILED, HELD = "done", "failed", "held"


@dataclass(frozen=True)
class Ending:
    """How an attempt at a run ended: done, failed (``text`` says why) or held by another process, which is making it."""

    kind: str
    text: str = ""


def attempt(overrides: Sequence[str]) -> Ending:
    """Carry out a run, or find it finished. A stop signal passes through; nothing else does."""
    try:
        run(compose(list(overrides)), list(overrides))
    except Held as held:
        return Ending(HELD, str(held))
    except Exception as error:  # whatever it is, the other runs have a right to run
        told = is_mistake(error) or isinstance(error, RankFailed)
        return Ending(FAILED, str(error) if told else traceback.format_exc())
    return Ending(DONE)


class Jobs:
    """Runs to be made, in the order given, but none before what it starts from."""

    def __init__(self, todo: Sequence[Planned], home: Path, seconds: Mapping[Path, float | None], workers: int) -> None:
        """``home`` is the study's folder, ``seconds`` what each run may take."""
        self.home = home
        self.total, self.made, self.failed = len(todo), 0, 0
        self.retry_after = 2.0  # seconds until a run that another process is making is looked at again
        self._seconds, self._workers = seconds, workers
        self._waiting = {each.folder: each for each in todo}
        self._running: dict[Path, float] = {}  # since when
        self._aside: dict[Path, float] = {}  # held by another process: when to look again
        self._lost: dict[Path, str] = {}  # failed runs: their names
        self._took: list[float] = []
        self._began = time.monotonic()

    @property
    def open(self) -> bool:
        """Whether a run waits or runs."""
        return bool(self._waiting or self._running)

    @property
    def pause(self) -> float | None:
        """Seconds until a run that was set aside should be tried again; None where there is none."""
        due = [self._aside[folder] for folder in self._waiting if folder in self._aside]
        return max(0.05, min(due) - time.monotonic()) if due else None

    def take(self) -> Planned | None:
        """Return the next run whose starts are made, None where all that are left wait. It counts as running from here on."""
        for folder, each in list(self._waiting.items()):
            lost = [self._lost[start] for start in each.starts if start in self._lost]
            if lost:
                del self._waiting[folder]
                self._fail(each, f"starts from {lost[0]}, which failed")
            elif self._may_start(each):
                del self._waiting[folder]
                self._running[folder] = time.monotonic()
                return each
        return None

    def _may_start(self, each: Planned) -> bool:
        made = not any(start in self._waiting or start in self._running for start in each.starts)
        return made and self._aside.get(each.folder, 0.0) <= time.monotonic()

    def end(self, each: Planned, ending: Ending) -> None:
        """Note how a run that was taken ended, and show it."""
        seconds = time.monotonic() - self._running.pop(each.folder)
        if ending.kind == HELD:
            if each.folder not in self._aside:
                self._show(f"{each.identity.name}: another process is making it; waiting for that")
            self._aside[each.folder] = time.monotonic() + self.retry_after
            self._waiting = {each.folder: each, **self._waiting}
        elif ending.kind == FAILED:
            self._fail(each, ending.text)
        else:
            self.made += 1
            self._took.append(seconds)
            self._show(f"{self._count()} {each.identity.name}: {spell(seconds)}{self._outlook()}")

    def _fail(self, each: Planned, text: str) -> None:
        self.failed += 1
        self._lost[each.folder] = each.identity.name
        self._show(f"{self._count()} {each.identity.name}\n  failed: {text.rstrip()}")

    def _count(self) -> str:
        return f"[{self.made + self.failed}/{self.total}]"

    def _outlook(self) -> str:
        """Say how fast runs get done and how long the others will take; one of unknown cost counts as those so far."""
        left = list(self._waiting.values())
        if not left and not self._running:
            return ""
        usual = sum(self._took) / len(self._took)
        seconds = {each.folder: self._seconds.get(each.folder) or usual for each in left}
        now = time.monotonic()
        running = sum(max(0.0, (self._seconds.get(folder) or usual) - (now - since)) for folder, since in self._running.items())
        wall = estimate(left, seconds, self._workers).wall + running / self._workers
        return f"; {60 * self.made / (now - self._began):.1f} runs/min, {spell(wall)} left"

    @staticmethod
    def _show(line: str) -> None:
        print(line, file=sys.stderr, flush=True)
