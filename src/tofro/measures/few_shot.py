"""Few-shot fine-tuning: how well an encoder learns a task from k examples of each class.

In: a task, a choice of training rows that is the same for every model (text/few_shot.py), and a callable that fine-tunes a fresh
model on rows. Out: one number per draw of rows. Leaves out how to train: ``fit`` knows (runs/few_shot.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tofro.batches.types import Batch
from tofro.encoders.model import Model
from tofro.measures.tasks import evaluate_task
from tofro.text.few_shot import Split, rows_of
from tofro.text.task import Example, Task

Fit = Callable[[Sequence[Example], int], Model]  # (rows, number of the draw) -> a model with a trained task head


def few_shot(task: Task, split: Split, fit: Fit, batches: Sequence[Batch]) -> list[float]:
    """Return the task's metric on ``batches``, labels included, after fine-tuning on each draw of ``split``."""
    return [evaluate_task(fit(rows, draw), batches, task) for draw, rows in enumerate(rows_of(split, task))]
