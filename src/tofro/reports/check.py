"""Does a study come out again? Re-runs its smallest run in a folder of its own and compares what both left behind.

In: a folder of runs. Out: :class:`Checked`: bit-identical, within the interval, or different, with what differs in the results
and in what made them. The run is the cheapest that trained and whose start is still there. Its config is the one its folder
keeps; trackers are left out. Imports what runs need, and torch with it: lazily used.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from scipy import special

from tofro.config.reload import reload
from tofro.config.schema import LENGTHS, NEUTRAL_GROUPS
from tofro.reports import formats
from tofro.reports.arms import Arm, arms_of
from tofro.reports.collect import Collection, RunRecord, collect
from tofro.reports.formats import parse_metric
from tofro.reports.variants import name_variants
from tofro.runs.folder import Result
from tofro.runs.run import run as carry_out

TIMES = ("seconds",)  # columns of metrics.jsonl that no two runs share
ROUNDING = 1e-3  # by this share of itself a score may move where fewer than three seeds give no spread
FEWEST_SEEDS = 3
STARTS = ("init_from", "init_from_ft")


@dataclass(frozen=True)
class Checked:
    """What became of a re-run: a ``word``, why in a ``sentence``, what ``differs``, and the ``causes`` that could explain it."""

    run: RunRecord
    word: str  # bit-identical | within the interval | different
    sentence: str
    differs: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    kept: Path | None = None  # the re-run's folder, where it is worth a look

    @property
    def holds(self) -> bool:
        """Whether the result came out again."""
        return self.word != "different"


def check(folder: Path) -> Checked:
    """Re-run the smallest run under ``folder`` and say whether it came out again.

    ValueError where no run there can be run again, or where the re-run meets a mistake of the user: data that is gone, say.
    """
    collection = collect([folder])
    run, starts = smallest(collection)
    place = Path(tempfile.mkdtemp(prefix="tofro-check-"))
    kept = False
    try:
        again = carry_out(reload(_rewritten(run, starts, place)), ["--check", run.name])
        found = compare_folders(run, again, collection)
        kept = not found.holds
        return found if found.holds else Checked(run, found.word, found.sentence, found.differs, found.causes, again.folder)
    finally:
        if not kept:
            shutil.rmtree(place, ignore_errors=True)


def smallest(collection: Collection) -> tuple[RunRecord, dict[str, str]]:
    """Return the run that took the fewest seconds among those that trained, with where its starts lie now.

    A run limited by the clock comes last: it does not repeat. ValueError where there is none.
    """
    ready = []
    for run in collection.runs:
        starts = _starts(run)
        if run.cost.get("steps") and starts is not None:
            ready.append((_by_clock(run), run.cost.get("seconds", math.inf), run, starts))
    if not ready:
        raise ValueError(
            "--check: no run here that trained has its config.yaml and the models it started from; give a folder of finished runs"
        )
    *_, run, starts = min(ready, key=lambda each: each[:2])
    return run, starts


def _by_clock(run: RunRecord) -> bool:
    return "budget.minutes" in run.config


def _config(run: RunRecord) -> dict[str, Any] | None:
    path = run.folder / "config.yaml"
    if not path.is_file():
        return None
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else None


def _starts(run: RunRecord) -> dict[str, str] | None:
    """Return where the models that a run starts from lie: as its config says, or beside it where all runs have moved."""
    config = _config(run)
    if config is None:
        return None
    found: dict[str, str] = {}
    for key in STARTS:
        named = config.get(key)
        if not named:
            continue
        path = Path(named).expanduser()
        inside = Path(*path.parts[-3:]) if path.parent.name == "models" else Path(path.name)
        places = [place for place in (path, run.folder.parent / inside) if place.is_dir()]
        if not places:
            return None
        found[key] = str(places[0].resolve())
    return found


def _rewritten(run: RunRecord, starts: Mapping[str, str], place: Path) -> Path:
    """Write the run's config with outputs of its own and no tracker; return the file."""
    config = _config(run)
    assert config is not None, "smallest() asks for a config"
    for group in NEUTRAL_GROUPS:
        config.setdefault(group, {})
    config |= {"outputs_dir": str(place / "outputs"), "logger": {}, **starts}
    path = place / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def compare_folders(run: RunRecord, again: Result, collection: Collection) -> Checked:
    """Compare a run with its re-run: metrics, curves and weights; then what made them, where these differ."""
    differs = tuple(differences_of(run, again))
    if not differs:
        return Checked(run, "bit-identical", _compared(run, again))
    causes = tuple(causes_of(run, again))
    before, after = run.metrics.get(run.score or ""), again.metrics.get(run.score or "")
    if before is None or after is None or run.id != again.data["id"]:
        return Checked(run, "different", "It is another run now, or has no score to compare.", differs, causes)
    width, how = allowance(run, collection)
    metric = parse_metric(run.score or "")
    moved = after - before
    sentence = f"{run.score} moved by {formats.measured(moved, metric, True)}; "
    sentence += f"the interval is ± {formats.measured(width, metric)}, {how}."
    return Checked(run, "within the interval" if abs(moved) <= width else "different", sentence, differs, causes)


def allowance(run: RunRecord, collection: Collection) -> tuple[float, str]:
    """Return how far the score may move, and how that was come by.

    Two runs of one arm that differ in nothing but chance differ by less than t(n-1, 0.975) · sd · √2 in 95 cases of 100, sd being
    that of its n seeds. Below three seeds there is no such interval, and the score may move by a rounding.
    """
    arm = next((arm for arm in _arms(run, collection) if any(each.folder == run.folder for each in arm.runs)), None)
    values = [value for _, value in arm.points(run.score)] if arm is not None else []
    if arm is None or len(values) < FEWEST_SEEDS or len({each.seed for each in arm.runs}) < FEWEST_SEEDS:
        how = f"{ROUNDING:.1%} of the score, since fewer than {FEWEST_SEEDS} seeds give no spread"
        return ROUNDING * abs(run.metrics[run.score or ""]), how
    mean = math.fsum(values) / len(values)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    width = float(special.stdtrit(len(values) - 1, 0.975)) * sd * math.sqrt(2)
    return width, f"95% for the difference of two of the {len(values)} runs of {arm.label}"


def _arms(run: RunRecord, collection: Collection) -> list[Arm]:
    runs = name_variants(collection.runs)
    if run.task is not None:
        return arms_of(runs, run.task)
    alike = [each for each in runs if each.method == run.method and each.corpus == run.corpus]
    variant = next(each.variant for each in alike if each.folder == run.folder)
    return [Arm(run.method, variant, run.corpus or "", tuple(each for each in alike if each.variant == variant))]


def differences_of(run: RunRecord, again: Result) -> Iterator[str]:
    """Say what in the results is not the same to the last bit."""
    names = [*run.metrics, *(name for name in again.metrics if name not in run.metrics)]
    moved = [name for name in names if run.metrics.get(name) != again.metrics.get(name)]
    if moved:
        farthest = max(moved, key=lambda name: _gap(run.metrics.get(name), again.metrics.get(name)))
        yield (
            f"{len(moved)} of {len(names)} metrics, {farthest} most: {run.metrics.get(farthest)} was "
            f"{again.metrics.get(farthest)} this time"
        )
    left, right = (_curves(folder) for folder in (run.folder, again.folder))
    if left is not None and left != right:
        pairs = enumerate(zip(left, right or [], strict=False), start=1)
        first = next((number for number, (one, other) in pairs if one != other), None)
        lines = f": {len(left)} lines were {len(right or [])} this time"
        yield "metrics.jsonl" + (f", from line {first} on" if first else lines)
    before, after = weights(run.folder), weights(again.folder)
    yield from (f"weights of {name}" for name in before if before[name] != after.get(name))


def _gap(one: float | None, other: float | None) -> float:
    return math.inf if one is None or other is None else abs(one - other) / max(abs(one), abs(other), 1e-12)


def _curves(folder: Path) -> list[dict[str, Any]] | None:
    """Return the rows of metrics.jsonl without their times."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return None
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def weights(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file of weights under a run's ``models/``, by its name there."""
    models = folder / "models"
    files = sorted(models.rglob("*.safetensors"))
    return {str(path.relative_to(models)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _compared(run: RunRecord, again: Result) -> str:
    files = len(weights(run.folder))
    stored = f"{files} file{'s' if files != 1 else ''} of weights" if files else "no weights, which are gone"
    return f"{len(again.metrics)} metrics, every row of metrics.jsonl but for its time, and {stored}."


def causes_of(run: RunRecord, again: Result) -> Iterator[str]:
    """Say what differs in what made the two: data and config, versions, machine, threads, commit; a clock; nothing known."""
    told = list(_unlike(run.config, again.data["config"]))
    old, new = (_flat(_environment(folder)) for folder in (run.folder, again.folder))
    told += _unlike(old, new)
    if _by_clock(run):
        lengths = ", ".join(f"budget.{name}" for name in LENGTHS if name != "minutes")
        told.append(f"budget.minutes: a run limited by the clock does not repeat bit for bit; {lengths} do")
    if any(str(value).endswith("+") for value in (old.get("git"), new.get("git"))):
        told.append("git: a + marks a checkout with changes, whose commit does not say what the code was")
    yield from told or ["nothing that is recorded: same data, config, versions, machine, threads and commit"]


def _unlike(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted({*before, *after}):
        if before.get(key) != after.get(key):
            yield f"{key}: {before.get(key)} was {after.get(key)} this time"


def _environment(folder: Path) -> dict[str, Any]:
    path = folder / "environment.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def show(checked: Checked) -> None:
    """Print what became of the re-run."""
    print(f"{checked.run.name}: {checked.word}. {checked.sentence}")
    for words, lines in (("differs", checked.differs), ("what else is not the same", checked.causes)):
        if lines:
            print(f"{words}:", *lines, sep="\n  ")
    if checked.kept is not None:
        print(f"the re-run is kept in {checked.kept}")
