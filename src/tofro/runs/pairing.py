"""``pre`` and ``ft`` in one module that trains them as the config says, refused before a step where it could not.

In: a run's context. Out: :class:`~tofro.modules.two_way.TwoWay` and the batches of the task. Leaves out the training
(methods.py).
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter

import torch

from tofro.batches.datamodules import TaskData
from tofro.config.build import build
from tofro.modules.settings import MethodSettings
from tofro.modules.two_way import Alignment, TwoWay
from tofro.objectives.settings import AlignmentSettings
from tofro.runs.context import Context
from tofro.runs.outcome import regularizers, task_data, tuned
from tofro.runs.prompt_tuning import cloze_of


def pair_up(settings: MethodSettings, context: Context) -> tuple[TwoWay, TaskData]:
    """Return ``pre`` and ``ft`` in a module that trains them as the config says, and its batches."""
    config, alignment, control = context.config, context.settings("alignment"), context.settings("control")
    loss: Alignment = build(config.alignment.loss)
    check_alignment(context, alignment, loss)
    ft = tuned(context, context.random_start() if control.random_ft else None)
    pre = copy.deepcopy(context.start.model)
    pre.dropout = settings.dropout
    if alignment.compares == "logits" or alignment.pre_task:
        context.make_ready(pre, "pre")
    data = task_data(context)
    if config.budget.accumulate > 1 and alignment.weight > 0:
        warnings.warn(
            "budget.accumulate: an alignment contrasts the rows of one micro-batch, not of the global batch", stacklevel=1
        )
    module = TwoWay(
        pre,
        ft,
        context.task,
        loss,
        build(config.alignment.schedule),
        alignment,
        context.training(data.steps_per_epoch),
        regularizers(context),
        control,
        cloze_of(context),
    )
    return module, data


def check_alignment(context: Context, settings: AlignmentSettings, loss: Alignment) -> None:
    """Try the alignment on rows like those of a step, made up; ValueError where it can't take them, or has too few of a class.

    It is the loss itself that says what it needs, one of the user's own as well.
    """
    if settings.weight == 0:
        return
    task, budget = context.task, context.config.budget
    rows, wide = min(budget.batch // budget.accumulate, 2), (8 if settings.compares == "states" else len(task.labels))
    shape = (rows,) if settings.compares == "logits" and task.kind == "regression" else (rows, wide)
    labels = {"classification": torch.zeros(rows, dtype=torch.int64), "regression": torch.zeros(rows), "tags": None}[task.kind]
    value = loss(torch.ones(shape), torch.ones(shape), labels)
    if not isinstance(value, torch.Tensor) or value.ndim:
        raise ValueError(f"alignment.loss: {context.config.alignment.loss._target_} must return a scalar tensor, not {value!r}")
    if task.kind == "classification" and settings.least_per_class > 1:
        label, found = min(Counter(row.label for row in task.splits["train"]).items(), key=lambda item: item[1])
        if found < settings.least_per_class:
            raise ValueError(
                f"alignment.least_per_class={settings.least_per_class}: label {label!r} has {found} training example(s), and "
                "nothing else to be drawn to; use alignment=infonce, or set alignment.least_per_class=1"
            )
