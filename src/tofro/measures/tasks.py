"""How well a task is done, by a fine-tuned head or by a prompt, on a whole split.

In: a model with a task head, or a scorer, and a task. Out: the task's metric. Numbers equal those of validation during
training; this is the same computation without a trainer.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean, stdev

import numpy as np
import torch

from tofro.batches.types import Batch
from tofro.encoders.inference import device_of, inference
from tofro.encoders.model import Model
from tofro.measures.scores import score
from tofro.modules.calibration import together
from tofro.modules.metrics import TagMetric
from tofro.modules.outputs import HeadOutput, Output
from tofro.modules.prompting import Scorer
from tofro.text.task import Task


def labels_of(task: Task, split: str) -> np.ndarray:
    """Return the labels (N,) of a split: class ids in the order of ``task.labels``, or scores of a regression."""
    labels = [example.label for example in task.splits[split]]
    assert task.kind != "tags", "tags are scored by text (modules/metrics.py: TagMetric)"
    if task.kind == "regression":
        return np.array(labels, np.float64)
    number = {label: index for index, label in enumerate(task.labels)}
    return np.array([number[str(label)] for label in labels])


def evaluate_task(model: Model, batches: Iterable[Batch], task: Task, output: Output | None = None) -> float:
    """Return the metric of the model's ``output``, that of its task head by default, over ``batches`` of a split with labels."""
    if task.kind == "tags":
        return _evaluate_tags(model, batches, task)
    predictions, labels = [], []
    device, output = device_of(model), output or HeadOutput()
    with inference(model):
        for batch in batches:
            moved = batch.to(device)
            logits = output.logits(model, model.encoder(moved), moved).float()  # (B, C), or (B,) scores
            predictions.append((logits if task.kind == "regression" else logits.argmax(-1)).cpu())
            assert batch.labels is not None, "a metric needs labels"
            labels.append(batch.labels.cpu())
    return score(task.metric, torch.cat(predictions).numpy(), torch.cat(labels).numpy())


def _evaluate_tags(model: Model, batches: Iterable[Batch], task: Task) -> float:
    metric, device = TagMetric(task.metric, task.labels), device_of(model)
    with inference(model):
        for batch in batches:
            moved = batch.to(device)
            metric.update(model.task_logits(model.encoder(moved), moved).cpu(), batch)
    return float(metric.compute())


def evaluate_prompt(scorer: Scorer, task: Task, split: str) -> float:
    """Return the metric of the likeliest label under ``scorer`` on ``split``; the first of the labels on a tie."""
    return score_prompt(scorer, task, split)[task.metric]


def score_prompt(scorer: Scorer, task: Task, split: str) -> dict[str, float]:
    """Return what one pass of ``scorer`` over ``split`` says, by name: ``accuracy`` where this is the task's metric, and so on.

    - ``accuracy``: of the likeliest label; the first of the labels on a tie;
    - ``accuracy_uncalibrated``: the same scores before calibration, where there is any;
    - with several templates, which answer together above, ``accuracy_template_<number>`` of each alone, calibrated, and
      ``accuracy_templates_mean``, ``_sd`` (n - 1), ``_lowest`` and ``_highest`` over them.
    """
    found, labels = scorer.answer(task.splits[split]), labels_of(task, split)

    def judge(answers: torch.Tensor) -> float:
        return score(task.metric, answers.argmax(-1).numpy(), labels)

    values = {task.metric: judge(together(found.calibrated))}
    if scorer.settings.calibration != "none":
        values[f"{task.metric}_uncalibrated"] = judge(together(found.uncalibrated))
    if len(scorer.wordings) > 1:
        alone = [judge(answers) for answers in found.calibrated]
        values |= {
            f"{task.metric}_template_{wording.number}": value for wording, value in zip(scorer.wordings, alone, strict=True)
        }
        spread = {"mean": fmean(alone), "sd": stdev(alone), "lowest": min(alone), "highest": max(alone)}
        values |= {f"{task.metric}_templates_{name}": value for name, value in spread.items()}
    return values
