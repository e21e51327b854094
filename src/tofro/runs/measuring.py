"""What is measured of an encoder: held-out masked words, sentence pairs, and linear probes on tasks.

In: a run's context and a model. Out: ``{"<split>/<what>_<encoder>": number}``. The measures of a starting point are kept under
the cache, because every run from that point needs them; everything else is computed afresh.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch

from tofro.batches.labelled import task_batches
from tofro.batches.pretraining import evaluation_batches, evaluation_sentences
from tofro.config.build import build
from tofro.config.compose import compose
from tofro.encoders.model import Model
from tofro.measures.leak import leak_accuracy
from tofro.measures.mlm import retention, unigram, unigram_log_probabilities
from tofro.measures.probes import probe_task
from tofro.measures.pseudo import pseudo_log_likelihood
from tofro.measures.tasks import evaluate_task
from tofro.modules.settings import MethodSettings
from tofro.runs.context import Context
from tofro.runs.folder import write_json
from tofro.runs.progress import progress
from tofro.text.fingerprint import hash_json
from tofro.text.task import Task
from tofro.tokens.segmenter import words_made_by

BATCH = 64  # sequences of an evaluation batch; no measure depends on it
VERSION = 1  # of the measures: a change makes kept ones stale


def measure(context: Context, model: Model, encoder: str, lineage: str | None = None) -> dict[str, float]:
    """Return retention (held-out MLM loss, pair accuracy) and use (linear probes) of ``model``, named for ``encoder``.

    With ``method.measure=false`` the probes are left out. With ``method.pseudo_log_likelihood`` so many held-out sentences are
    scored, too.

    Where there is a ``lineage``, a run or a folder that keeps the model, the measures are kept too, for the runs that start from
    it. They are found by the weights, not by that name: a run made again, by the clock or by other code, has other ones.
    """
    kept_by = None if lineage is None else hash_json([weights_hash(model), context.start.tokenizer.fingerprint])
    held_out_by = [context.corpus.fingerprint, vars(context.settings("objective")), *words_made_by(context.corpus.words).values()]
    known = _kept(context, kept_by, held_out_by, lambda: held_out(context, model))
    if sentences := context.config.method.pseudo_log_likelihood:
        by = [context.corpus.fingerprint, "pseudo-log-likelihood", sentences, context.config.objective.length]
        known = known | _kept(context, kept_by, by, lambda: sentence_scores(context, model))
    values = {f"validation/{name}_{encoder}": value for name, value in known.items()}
    tasks = probe_tasks(context) if context.config.method.measure else []
    with progress(f"probing {encoder}", "tasks", context.shown) as report:
        for done, task in enumerate(tasks):
            report(done, len(tasks))
            by = [task.fingerprint, context.config.task.max_length]
            scores = _kept(context, kept_by, by, lambda task=task: probe(context, model, task, ("test",)))  # type: ignore[misc]
            values[f"test/probe_{task.name}_{encoder}"] = scores["test"]
    return values


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


def held_out(context: Context, model: Model) -> dict[str, float]:
    """Return the fixed-mask MLM loss and the pair accuracy on the corpus' held-out split, where the model has the heads."""
    if not {"mlm", "pair"} & set(model.heads):
        return {}
    return retention(model, _held_out_batches(context))


def sentence_scores(context: Context, model: Model) -> dict[str, float]:
    """Return the pseudo-log-likelihood of held-out sentences, where the model has the language head."""
    if "mlm" not in model.heads:
        return {}
    store, longest = context.store("validation"), context.config.objective.length - 2
    starts, lengths = evaluation_sentences(store, context.config.method.pseudo_log_likelihood, longest)
    return pseudo_log_likelihood(model, context.start.tokenizer, store.ids, starts, lengths)


def chance(context: Context) -> dict[str, float]:
    """Return what needs no encoder: the unigram cross-entropy of the same positions, and the leak classifier's accuracy."""
    tokenizer, train = context.start.tokenizer, context.store("train")
    table = unigram_log_probabilities(train.ids, tokenizer.vocabulary)
    values = unigram(_held_out_batches(context), table)
    values |= leak_accuracy(train, context.store("validation"), tokenizer, context.settings("objective"))
    return {f"validation/{name}": value for name, value in values.items()}


def _held_out_batches(context: Context) -> Any:
    return evaluation_batches(context.store("validation"), context.start.tokenizer, context.settings("objective"), BATCH)


def probe(context: Context, model: Model, task: Task, splits: Sequence[str] = ("validation", "test")) -> dict[str, float]:
    """Return {split: score} of a linear probe of the encoder, fitted on the task's training rows."""
    return probe_task(model, context.start.tokenizer, task, context.config.task.max_length, splits=splits)


def task_score(context: Context, model: Model, split: str) -> float:
    """Return the task's metric of ``model`` and its task head on ``split``."""
    task = context.task
    batches = task_batches(task.splits[split], context.start.tokenizer, context.config.task.max_length, BATCH, task.labels)
    return evaluate_task(model, batches, task)


def probe_tasks(context: Context) -> list[Task]:
    """Return the tasks to probe: the run's own, where its method has one, and those of ``method.probes``."""
    names = [name for name in context.config.method.probes if name != context.config.task.name]
    own = [context.task] if "task" in context.config.method.reads else []
    others = [built_in_task(name) for name in names]
    if not own and context.config.task.name in context.config.method.probes:
        others.append(built_in_task(context.config.task.name))
    return own + others


@lru_cache(maxsize=16)
def built_in_task(name: str) -> Any:
    """Return a task of conf/task as it stands there."""
    return build(compose([f"task={name}"]).task)
