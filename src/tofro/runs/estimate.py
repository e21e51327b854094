"""How long the runs of a study will take, told from finished ones like them.

In: results under an outputs_dir, whichever study made them, and planned runs. Out: seconds, or None where nothing like it is
finished. Alike are runs of one method on the same data, with the same encoder and budget; what else differs (seed, λ, rate) costs
little. Runs of this machine count before those of others. Torch-free.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tofro.runs.folder import machine, read_result
from tofro.runs.planning import Planned

BEARING = ("method", "task", "corpus", "encoder", "objective", "budget", "tuning")  # groups that decide how long a run takes

Full = Mapping[str, Any]  # an identity's keys and values


@dataclass(frozen=True)
class Estimate:
    """What runs will take: the seconds of those that can be told, how many can't, and the seconds until all are done."""

    seconds: float
    unknown: int
    wall: float

    def __str__(self) -> str:
        told = f"about {spell(self.seconds)} of work, {spell(self.wall)} on the clock"
        if not self.unknown:
            return told
        return "cost unknown" if not self.seconds else f"{told}, and {self.unknown} runs of unknown cost"


class Costs:
    """Seconds by what decides them."""

    def __init__(self, outputs: Path) -> None:
        """Read every result under ``outputs``."""
        self._fulls: dict[str, Full] = {}
        self._here: dict[str, list[float]] = {}
        self._elsewhere: dict[str, list[float]] = {}
        results = [each for path in sorted(outputs.glob("*/*/result.json")) if (each := _read(path.parent)) is not None]
        self._fulls = {result["id"]: result["config"] for result in results}
        mine = machine()
        for result in results:
            seconds = self._here if result.get("machine") == mine else self._elsewhere
            seconds.setdefault(self._kind(result["config"]), []).append(result["cost"]["seconds"])

    def of(self, run: Planned) -> float | None:
        """Return the seconds that ``run`` will take. A run that was given so many minutes takes them."""
        self._fulls.setdefault(run.identity.id, run.identity.full)
        kind = self._kind(run.identity.full)
        alike = self._here.get(kind) or self._elsewhere.get(kind)
        if alike:
            return statistics.median(alike)
        minutes = run.config.budget.minutes if "budget" in run.config.method.reads else None
        return None if minutes is None else 60.0 * minutes

    def _kind(self, full: Full) -> str:
        kept = {key: value for key, value in full.items() if key.partition(".")[0] in BEARING}
        return json.dumps({**kept, **self._encoder(full)}, sort_keys=True)

    def _encoder(self, full: Full) -> dict[str, Any]:
        """Return what the encoder is: the keys of the run at the root of the chain, or the foreign folder that it came from."""
        start = str(full.get("init_from", ""))
        if not start:
            return {key: value for key, value in full.items() if key.startswith("encoder.")}
        origin = self._fulls.get(start.removeprefix("run:").partition("/")[0])
        return {"encoder": start} if origin is None else self._encoder(origin)


def _read(folder: Path) -> dict[str, Any] | None:
    """Return a result that can be counted, None for any other."""
    try:
        result = read_result(folder)
    except (ValueError, OSError):
        return None
    known = result is not None and isinstance(result.get("config"), dict) and isinstance(result.get("cost"), dict)
    return result if known and isinstance(result["cost"].get("seconds"), int | float) else None  # type: ignore[index]


def estimate(todo: Sequence[Planned], seconds: Mapping[Path, float | None], workers: int) -> Estimate:
    """Return what the runs ``todo`` will take with so many at a time; those of unknown cost are left out of the sums."""
    ready: dict[Path, float] = {}  # when a run's folder will be there, with as many workers as one likes
    for run in todo:
        begun = max((ready.get(start, 0.0) for start in run.starts), default=0.0)
        ready[run.folder] = begun + (seconds[run.folder] or 0.0)
    total = sum(seconds[run.folder] or 0.0 for run in todo)
    unknown = sum(seconds[run.folder] is None for run in todo)
    return Estimate(total, unknown, max(total / workers, max(ready.values(), default=0.0)))


def spell(seconds: float) -> str:
    """Return a time in words of two parts at most: 0.4 s, 42 s, 3 min 4 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
