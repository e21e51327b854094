"""What is measured of an encoder: held-out language, the shape of its representations, and use on tasks (probe, neighbours,
prompt, few-shot fine-tuning).

In: a run's context and a model. Out: ``{"<split>/<what>_<encoder>": number}``. The measures of a starting point are kept under
the cache, because every run from that point needs them; everything else is computed afresh. Leaves out how language (language.py)
and use on a task (using.py) are measured and what takes two models (comparing.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tofro.batches.labelled import task_batches
from tofro.batches.pretraining import evaluation_sentences, sentence_batches
from tofro.encoders.model import Model
from tofro.measures.similarity import effective_rank, pooled_layers, uniformity
from tofro.measures.tasks import evaluate_task
from tofro.modules.settings import MethodSettings
from tofro.runs.context import Context
from tofro.runs.few_shot import open_splits
from tofro.runs.folder import write_json
from tofro.runs.language import BATCH, Keep, measured_language
from tofro.runs.progress import progress
from tofro.runs.prompt_tuning import cloze_of
from tofro.runs.using import measured_use, probe_tasks, wants_few_shot
from tofro.text.fingerprint import hash_json
from tofro.text.task import at_most

VERSION = 2  # of the measures: a change makes kept ones stale


def measure(context: Context, model: Model, encoder: str, lineage: str | None = None) -> dict[str, float]:
    """Return all measures of ``model``: of language, of the shape of its representations, of its use (using.py), for ``encoder``.

    With ``method.measure=false`` language alone is measured.

    Where there is a ``lineage``, a run or a folder that keeps the model, the measures are kept too, for the runs that start from
    it. They are found by the weights, not by that name: a run made again, by the clock or by other code, has other ones.
    """
    kept_by = None if lineage is None else hash_json([weights_hash(model), context.start.tokenizer.fingerprint])

    def keep(made_by: list[Any], compute: Callable[[], dict[str, float]]) -> dict[str, float]:
        return _kept(context, kept_by, made_by, compute)

    values = {f"validation/{name}_{encoder}": value for name, value in measured_language(context, model, keep).items()}
    if not context.config.method.measure:
        return values
    values |= {f"validation/{name}_{encoder}": value for name, value in measured_shape(context, model, keep).items()}
    tasks = probe_tasks(context)
    splits = open_splits(context, tasks) if wants_few_shot(context) else []
    with progress(f"measuring {encoder}", "tasks", context.shown) as report:
        for done, task in enumerate(tasks):
            report(done, len(tasks))
            used = measured_use(context, model, task, [split for own, split in splits if own is task], keep)
            values |= {f"{context.config.method.split}/{name}_{encoder}": value for name, value in used.items()}
    return values


def measured_shape(context: Context, model: Model, keep: Keep) -> dict[str, float]:
    """Return effective rank and uniformity of the last layer's features of held-out sentences."""
    method = context.config.method
    if not method.sentences:
        return {}
    by = [context.corpus.fingerprint, "shape", method.sentences, context.config.objective.length, context.pooling]
    return keep(by, lambda: shape(context, model))


def start_measures(context: Context, settings: MethodSettings) -> dict[str, float]:
    """Return the measures of the model both encoders started from."""
    if not settings.measure:
        return {}
    return measure(context, context.start.model, "start", context.start.lineage)


def weights_hash(model: Model) -> str:
    """Return the sha256 of a model's weights and their names."""
    whole = hashlib.sha256()
    for name, weight in model.state_dict().items():
        whole.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
        whole.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy())
    return whole.hexdigest()


def _kept(context: Context, kept_by: str | None, made_by: list[Any], compute: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Return ``compute()``, or what it returned before for the same model and ``made_by``."""
    if kept_by is None:
        return compute()
    path = context.cache / "measures" / f"{hash_json([VERSION, kept_by, *made_by])[:16]}.json"
    if path.exists():
        known: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return known
    values = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, values)
    return values


def shape(context: Context, model: Model) -> dict[str, float]:
    """Return ``effective_rank`` and ``uniformity`` of the features of held-out sentences."""
    features = sentence_layers(context, model)[-1]
    return {"effective_rank": effective_rank(features), "uniformity": uniformity(features)}


def sentence_layers(context: Context, model: Model) -> np.ndarray:
    """Return the pooled states (L + 1, N, D) of N held-out sentences, the same in every run, in all layers."""
    method, store, longest = context.config.method, context.store("validation"), context.config.objective.length - 2
    starts, lengths = evaluation_sentences(store, method.sentences, longest)
    return pooled_layers(model, sentence_batches(store, starts, lengths, context.start.tokenizer, BATCH), context.pooling)


def task_score(context: Context, model: Model, split: str) -> float:
    """Return the task's metric of ``model`` on ``split``, as its task head or its cloze answers; of train on some rows."""
    task, cloze = context.task, cloze_of(context)
    rows = at_most(task.splits[split], context.config.method.probe_rows if split == "train" else None)
    if cloze is not None:
        return evaluate_task(model, cloze.builder(rows).batches(BATCH), task, cloze)
    batches = task_batches(rows, context.start.tokenizer, context.config.task.max_length, BATCH, task.labels)
    return evaluate_task(model, batches, task)
