"""How well an encoder serves tasks: linear probe, nearest neighbours, prompt, few-shot fine-tuning; and which tasks are asked.

In: a run's context, a model, a task. Out: ``{"<what>_<task>": number}``, the task's metric on its test split. Texts are encoded
once for a probe and for neighbours. Leaves out what is kept between runs (measuring.py) and how few shots are trained on
(few_shot.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from omegaconf import OmegaConf

from tofro.config.build import build, resolve
from tofro.config.compose import compose
from tofro.config.identity import is_set
from tofro.encoders.model import Model
from tofro.measures.neighbours import neighbours
from tofro.measures.probes import probe, probe_words, task_features
from tofro.measures.tasks import evaluate_prompt
from tofro.modules.prompt_search import PromptSearch
from tofro.modules.prompting import Scorer
from tofro.runs.context import Context
from tofro.runs.few_shot import fine_tuned, open_splits, recipe
from tofro.runs.language import Keep, other_corpora
from tofro.text.few_shot import Split
from tofro.text.fingerprint import fingerprint_path
from tofro.text.settings import TaskSettings
from tofro.text.task import GENERIC_NAME, Task, at_most, read_task


def measured_use(context: Context, model: Model, task: Task, splits: Sequence[Split], keep: Keep) -> dict[str, float]:
    """Return ``probe_<task>``, ``knn_<task>``, and where asked for ``prompt_<task>`` and ``few_shot_<k>_<task>``."""
    method, length = context.config.method, context.config.task.max_length
    read = [task.fingerprint, task.metric, length, method.test_rows, *([] if method.split == "test" else [method.split])]
    found = keep(
        [*read, method.probe_rows, context.pooling], lambda: frozen_use(context, model, task, (method.split,))[method.split]
    )
    if has_prompt(context) and task is context.task:
        prompt = OmegaConf.to_container(context.config.prompt, resolve=True)
        found = found | keep([*read, prompt], lambda: prompted(context, model, task))
    values = {f"{name}_{task.name}": value for name, value in found.items()}
    for split in splits:
        by = [*read, split.checksum, *recipe(context)]
        mean, *draws = keep(by, lambda split=split: fine_tuned(context, model, task, split)).values()  # type: ignore[misc]
        name = f"few_shot_{split.per_class}_{task.name}"
        values |= {name: mean} | {f"{name}_draw_{draw}": value for draw, value in enumerate(draws)}
    return values


def frozen_use(context: Context, model: Model, task: Task, splits: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return {split: {``probe``, ``knn``}}: the metric of a linear probe and of nearest neighbours, on the same features.

    Words that are tagged have a probe alone.
    """
    method, length = context.config.method, context.config.task.max_length
    if task.kind == "tags":
        words = probe_words(model, context.start.tokenizer, task, length, method.probe_rows, splits, method.test_rows)
        return {split: {"probe": value} for split, value in words.items()}
    features = task_features(
        model, context.start.tokenizer, task, length, context.pooling, method.probe_rows, splits, method.test_rows
    )
    train, regression = features.pop("train"), task.kind == "regression"
    found = {
        "probe": probe(train, features, task.metric, regression),
        "knn": neighbours(train, features, task.metric, regression),
    }
    return {split: {name: values[split] for name, values in found.items()} for split in splits}


def has_prompt(context: Context) -> bool:
    """Say whether a prompt of the run's own task is among its measures."""
    method = context.config.method
    return "task" in method.reads and "prompt" in method.reads_if_set and is_set(context.config.prompt)


def prompted(context: Context, model: Model, task: Task) -> dict[str, float]:
    """Return ``prompt``: the metric of the config's prompt; nothing where the model lacks the head that it asks."""
    kind: Any = resolve(context.config.prompt._target_)  # a Scorer's class
    if kind.needs not in model.heads:
        return {}
    scorer = scorer_of(context, model, task)
    split = context.config.method.split
    rows = at_most(task.splits[split], context.config.method.test_rows)
    return {"prompt": evaluate_prompt(scorer, replace(task, splits={split: list(rows)}), split)}


def scorer_of(context: Context, model: Model, task: Task) -> Scorer:
    """Return the config's prompt on ``model``. ValueError where the head is missing or the words do not fit the task."""
    scorer = built_prompt(context, model, task)
    if isinstance(scorer, PromptSearch):
        raise ValueError(
            f"prompt=search goes with method=prompt, and method={context.config.method.name} measures by a prompt that is there; "
            "give it the one that a search wrote to prompt.yaml"
        )
    return scorer


def built_prompt(context: Context, model: Model, task: Task) -> Scorer | PromptSearch:
    """Return what the config's prompt builds: a scorer, or the search for one."""
    length = context.config.task.max_length
    built: Scorer | PromptSearch = build(context.config.prompt, model, context.start.tokenizer, task.labels, task.pair, length)
    return built


def wants_few_shot(context: Context) -> bool:
    """Say whether few-shot fine-tuning is to be measured."""
    method = context.config.method
    return method.measure and bool(method.few_shot or method.few_shot_splits)


def probe_tasks(context: Context) -> list[Task]:
    """Return the tasks to measure on: the run's own, those of ``method.probes`` and those of ``method.tasks``, no name twice.

    A built-in task that bears the own one's name is left out. ValueError where another has the name of one before it.
    """
    method = context.config.method
    own = [context.task] if "task" in method.reads else []
    tasks = own + [built_in_task(name) for name in method.probes if not own or name != context.config.task.name]
    for place in method.tasks:
        task = task_at(place, fingerprint_path(place, context.cache))
        if task.name in [each.name for each in tasks]:
            raise ValueError(f"method.tasks: {place} is called {task.name}, as another task that is measured; rename it")
        tasks.append(task)
    return tasks


@lru_cache(maxsize=16)
def built_in_task(name: str) -> Any:
    """Return a task of conf/task as it stands there."""
    return build(compose([f"task={name}"]).task)


@lru_cache(maxsize=16)
def task_at(place: str, fingerprint: str) -> Task:
    """Return the task in a file or folder whose content has this fingerprint."""
    return read_task(TaskSettings(name=GENERIC_NAME, path=place))


def check_measures(context: Context) -> None:
    """Raise ValueError, before anything is trained, for measures that could not be made at the end."""
    method = context.config.method
    if method.corpora and "corpus" in method.reads:
        other_corpora(context)
    if not method.measure or not (method.tasks or wants_few_shot(context) or has_prompt(context)):
        return
    tasks = probe_tasks(context)
    if wants_few_shot(context):
        open_splits(context, tasks)
    if has_prompt(context):
        needs = scorer_of(context, context.start.model, context.task).needs
        if needs in context.start.fresh:
            raise ValueError(
                f"prompt: the {needs} head, which this prompt asks, holds random weights; "
                "set init_from to a folder that has one, or prompt=none"
            )
