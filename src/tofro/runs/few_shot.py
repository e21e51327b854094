"""Few-shot fine-tuning within a run: which rows, how they are trained on, and the file that says which they were.

In: a run's context, a model, a task. Out: the mean over the draws of rows, and the value of each. The recipe is one for all
models and has keys of its own (``method.few_shot_*``), so that a run's own optimizer and budget do not colour the measure. Leaves
out the choice of rows (text/few_shot.py) and the scores (measures/few_shot.py).
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tofro.batches.datamodules import Loading, TaskData
from tofro.batches.labelled import task_batches
from tofro.encoders.model import Model
from tofro.measures.few_shot import Fit, few_shot
from tofro.modules.base import Training
from tofro.modules.clock import Clock
from tofro.modules.fine_tuning import FineTuning
from tofro.modules.settings import BudgetSettings, OptimizerSettings
from tofro.objectives.schedules import linear
from tofro.runs.context import Context
from tofro.runs.fit import FitPlace, fit
from tofro.runs.folder import write_json
from tofro.text.few_shot import Split, draw_split, read_split, rows_of
from tofro.text.task import Example, Task, at_most

BATCH = 16
EVALUATION_BATCH = 64  # has no bearing on a score beyond rounding
WARMUP = 0.1
DROPOUT = 0.1


def open_splits(context: Context, tasks: Sequence[Task]) -> list[tuple[Task, Split]]:
    """Return the splits to fine-tune on: of ``method.few_shot``, for every task, and of the files of ``method.few_shot_splits``.

    A file takes the place of the rows that would be drawn for its task and number. Raises ValueError, with the key or the file,
    for a number below 1, a label with too few rows, and a file that is damaged or belongs to none of the tasks.
    """
    settings = context.config.method
    if any(count < 1 for count in settings.few_shot):
        raise ValueError(f"method.few_shot={list(settings.few_shot)}: examples of each class, at least 1")
    for task in tasks:
        if task.kind == "tags":
            warnings.warn(
                f"method.few_shot: {task.name} tags words, which have no k examples of each class; left out", stacklevel=1
            )
    tasks = [task for task in tasks if task.kind != "tags"]
    named = {task.name: task for task in tasks}
    splits = {}
    for path in settings.few_shot_splits:
        split = read_split(Path(path).expanduser())
        if split.task not in named:
            raise ValueError(f"{path}: chooses rows of {split.task}, which is not measured here ({', '.join(named)} are)")
        rows_of(split, named[split.task])
        splits[split.task, split.per_class] = split
    for task in tasks:
        for count in settings.few_shot:
            splits.setdefault((task.name, count), draw_split(task, count, settings.few_shot_draws))
    return [(named[name], split) for (name, _), split in sorted(splits.items())]


def checksums(context: Context, tasks: Sequence[Task]) -> dict[str, str]:
    """Return the checksum of every split, for the result's ``data``; write the splits to ``few_shot/`` of the run's folder."""
    found = {}
    for task, split in open_splits(context, tasks):
        found[f"few_shot_{split.per_class}_{task.name}"] = write_split(context, split, f"{task.name}-{split.per_class}")
    return found


def write_split(context: Context, split: Split, name: str) -> str:
    """Write ``split`` to ``few_shot/`` of the run's folder and return its checksum."""
    path = context.folder / "few_shot" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    write_json(path, split.as_json())
    return split.checksum


def recipe(context: Context) -> list[Any]:
    """Return what of the config bears on a fine-tuned model beside its rows."""
    return ["few shot", context.config.method.few_shot_steps, context.config.method.few_shot_lr]


def fine_tuned(context: Context, model: Model, task: Task, split: Split) -> dict[str, float]:
    """Return the mean of the task's metric over the draws of ``split``, and the value of each draw."""
    examples = at_most(task.splits[context.config.method.split], context.config.method.test_rows)
    length = context.config.task.max_length
    batches = task_batches(examples, context.start.tokenizer, length, EVALUATION_BATCH, task.labels)
    scores = few_shot(task, split, fit_on(context, model, task), batches)
    return {"mean": float(np.mean(scores))} | {f"draw_{draw}": value for draw, value in enumerate(scores)}


def fit_on(context: Context, model: Model, task: Task) -> Fit:
    """Return the function that fine-tunes a copy of ``model`` on rows: all parameters, a fixed number of steps, no early stop.

    Order, dropout and the new task head are functions of the draw's number.
    """
    method = context.config.method
    optimizer = OptimizerSettings(lr=method.few_shot_lr)
    trainer = replace(context.settings("trainer"), progress=False, compile=False, checkpoint_minutes=None)
    schedule = partial(linear, warmup=WARMUP)

    def fitted(rows: Sequence[Example], draw: int) -> Model:
        ft = copy.deepcopy(model)
        ft.requires_grad_(True)
        regression = task.kind == "regression"
        ft.add_task_head(1 if regression else len(task.labels), regression, seed=draw)
        ft.dropout = DROPOUT
        budget = BudgetSettings(
            steps=method.few_shot_steps, batch=min(BATCH, len(rows)), evaluate_every=method.few_shot_steps, best=False
        )
        splits = {"train": rows, "validation": rows}  # no held-out rows: nothing is chosen
        data = TaskData(
            splits, task.labels, context.start.tokenizer, context.config.task.max_length, Loading(budget.batch, seed=draw)
        )
        training = Training(optimizer, schedule, Clock(budget, data.steps_per_epoch), draw, budget.clip)
        with tempfile.TemporaryDirectory(dir=context.folder, prefix=".few_shot") as place:
            fit(FineTuning(ft, task, training), data, budget, FitPlace(Path(place), trainer))
        return ft

    return fitted
