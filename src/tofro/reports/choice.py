"""Which of an arm's settings a study takes: chosen on validation splits, by one rule for all arms.

In: runs that were measured on validation (``method.split=validation``). Out: a table of every setting of every arm that has
several, the chosen one marked. An arm is what is done, a setting how much of it: arms differ in names, such as the alignment or
whether there is replay, settings in numbers alone. Of one that moves ``pre`` the rule asks of language what verdict.py does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tofro.reports import formats
from tofro.reports.arms import FLOORS, controls_of
from tofro.reports.cells import EMPTY
from tofro.reports.collect import RunRecord
from tofro.reports.layout import Cell, Column, Table
from tofro.reports.variants import NOT_VARIANTS, SHORT, choice_of
from tofro.reports.verdict import WORST_MLM

OFF = (  # numbers whose absence is another arm
    *("regularizer.replay", "regularizer.l2_sp", "alignment.ema", "alignment.pre_task", "alignment.shared_trunk"),
)
REPEATS = "alignment.loss."  # what is chosen beside it, once more
DATA = ("task.", "corpus.", "tokenizer.", "objective.", "encoder.")
RULE = (
    f"Chosen (✓): the highest probe of pre on the trained task among settings whose held-out MLM loss is at most {WORST_MLM:.0%} "
    "worse; where there is none, the least loss; where pre stays what it was, the highest score of ft."
)
MEANS = "On validation splits: means over tasks of means over runs. Probe, change and ft × 100; the loss against its start's."


@dataclass(frozen=True)
class Setting:
    """One setting of an arm, in means over tasks of means over runs; None is not measured. ``loss`` is against the start's."""

    words: str
    runs: int
    probe: float | None
    gain: float | None
    loss: float | None
    ft: float | None
    whole: bool  # whether it was tried on every task that the arm was


def choice_table(runs: Sequence[RunRecord]) -> Table | None:
    """Return every arm's settings with the chosen one marked; None where no arm has two that were measured on validation."""
    tried = [run for run in runs if run.config.get("method.split") == "validation" and run.task and run.method not in FLOORS]
    rows: list[tuple[Cell, ...]] = []
    for words, members in _arms(tried).items():
        settings = settings_of(members)
        if len(settings) > 1:
            taken = choose(settings)
            rows += [_row(words if index == 0 else "", each, each is taken) for index, each in enumerate(settings)]
    if not rows:
        return None
    columns = ("probe of pre", "change", "MLM loss of pre", "ft", "runs", "chosen")
    heads = (Column("arm", False), Column("setting", False), *map(Column, columns))
    return Table("settings", "Settings, on validation", heads, tuple(rows), (MEANS, RULE))


def choose(settings: Sequence[Setting]) -> Setting | None:
    """Return the setting that the rule takes, the first among equals; None where none was tried on every task."""
    whole = [each for each in settings if each.whole]
    if not any(each.loss for each in whole):  # pre stays what it was
        return max((each for each in whole if each.ft is not None), key=lambda each: each.ft or 0.0, default=None)
    moved = [each for each in whole if each.loss is not None and each.probe is not None]
    kept = [each for each in moved if each.loss is not None and each.loss <= WORST_MLM]
    if kept:
        return max(kept, key=lambda each: each.probe or 0.0)
    return min(moved, key=lambda each: each.loss or 0.0, default=None)


def settings_of(runs: Sequence[RunRecord]) -> list[Setting]:
    """Return the settings of one arm's runs, in the order in which they were planned."""
    numbers = [_numbers(run) for run in runs]
    varied = _differing(numbers)
    groups: dict[str, list[RunRecord]] = {}
    for run, each in zip(runs, numbers, strict=True):
        words = ", ".join(f"{SHORT.get(key, key)}={each[key]:g}" for key in varied if key in each)
        groups.setdefault(words or "as it comes", []).append(run)
    tasks = {run.task for run in runs}
    return [_setting(words, members, len({run.task for run in members}) == len(tasks)) for words, members in groups.items()]


def _setting(words: str, runs: Sequence[RunRecord], whole: bool) -> Setting:
    def mean(value_of: Callable[[RunRecord], float | None]) -> float | None:
        """The mean over tasks of the means over runs, of those that have a value."""
        by_task: dict[str | None, list[float]] = {}
        for run in runs:
            if (value := value_of(run)) is not None:
                by_task.setdefault(run.task, []).append(value)
        means = [math.fsum(found) / len(found) for found in by_task.values()]
        return math.fsum(means) / len(means) if means else None

    return Setting(words, len(runs), mean(_probe), mean(_gain), mean(_loss), mean(_ft), whole)


def _probe(run: RunRecord) -> float | None:
    return run.metrics.get(f"validation/probe_{run.task}_pre")


def _gain(run: RunRecord) -> float | None:
    before, after = run.metrics.get(f"validation/probe_{run.task}_start"), _probe(run)
    return None if before is None or after is None else after - before


def _loss(run: RunRecord) -> float | None:
    before, after = (run.metrics.get(f"validation/mlm_loss_{encoder}") for encoder in ("start", "pre"))
    return None if before is None or after is None else after / before - 1


def _ft(run: RunRecord) -> float | None:
    return run.metrics.get((run.score or "").replace("test/", "validation/", 1))


def _arms(runs: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Return runs by arm; the arm's words say what tells it from others of its method."""
    by_method: dict[str, list[dict[str, str]]] = {}
    named = [(run, _names(run)) for run in runs]
    for run, names in named:
        by_method.setdefault(run.method, []).append(names)
    telling = {method: _differing(names) for method, names in by_method.items()}
    arms: dict[str, list[RunRecord]] = {}
    for run, names in named:
        words = [names[key] for key in telling[run.method] if key in names]
        arms.setdefault(", ".join([run.method, *words, *sorted(controls_of(run))]), []).append(run)
    return arms


def _differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys that are not the same in all."""
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if len({config.get(key) for config in configs}) > 1]


def _bears(key: str) -> bool:
    """Say whether a key of a run's config tells arms or settings apart."""
    repeats = key.startswith(REPEATS) and not key.endswith("_target_")
    return key not in NOT_VARIANTS and not key.startswith((*DATA, "control.")) and not repeats


def _names(run: RunRecord) -> dict[str, str]:
    """Return what is done: named parts, and whatever else is no number, as a table calls them."""
    found = {}
    for key, value in run.config.items():
        if key in OFF:
            found[key] = key.rpartition(".")[2]
        elif _bears(key) and not _is_number(value):
            found[key] = choice_of(key, str(value)) if key.endswith("_target_") else f"{key}={value}"
    return found


def _numbers(run: RunRecord) -> dict[str, float]:
    """Return how much of it."""
    return {key: value for key, value in run.config.items() if _is_number(value) and _bears(key)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _row(arm: str, setting: Setting, taken: bool) -> tuple[Cell, ...]:
    def points(value: float | None, signed: bool = False) -> Cell:
        return EMPTY if value is None else Cell(formats.points(value, signed), value)

    loss = EMPTY if setting.loss is None else Cell(formats.points(setting.loss, True) + "%", setting.loss)
    moves = bool(setting.loss)
    return (
        Cell(arm),
        Cell(setting.words),
        points(setting.probe) if moves else EMPTY,
        points(setting.gain, True) if moves else EMPTY,
        loss if moves else EMPTY,
        points(setting.ft),
        Cell(str(setting.runs), setting.runs),
        Cell("✓" if taken else ""),
    )
