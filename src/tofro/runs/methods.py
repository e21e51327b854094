"""The methods: what a run does between its start and its result. Each is a function of a method's settings and a run's context.

In: :class:`Context`. Out: :class:`Outcome`, plain numbers and names, with the models saved under ``models/``. A method is
chosen by its ``_target_`` in conf/method; the training itself is a module (modules/) and a fit (runs/fit.py).
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from tofro.batches.datamodules import PretrainingData, TaskData
from tofro.config.build import build
from tofro.encoders.folder import save_model
from tofro.encoders.model import Model, build_model
from tofro.encoders.tuning import assert_frozen
from tofro.measures.classic import majority_score, tfidf_scores
from tofro.measures.cost import peak_memory_mb, reset_peak_memory
from tofro.measures.tasks import evaluate_prompt
from tofro.modules.base import TransferModule
from tofro.modules.fine_tuning import FineTuning
from tofro.modules.pretraining import Pretraining
from tofro.modules.settings import MethodSettings
from tofro.modules.two_way import TwoWay
from tofro.runs import ranks
from tofro.runs.context import Context
from tofro.runs.fit import FitPlace, FitReport, fit, set_threads
from tofro.runs.loggers import close
from tofro.runs.measuring import chance, measure, probe, start_measures, task_score
from tofro.runs.memory import keep_large_buffers
from tofro.tokens.languages import warn_of_rate


@dataclass(frozen=True)
class Outcome:
    """What a method found. ``score`` names the primary metric."""

    score: str
    metrics: dict[str, float]
    cost: dict[str, float]
    lineage: dict[str, str | None] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    variant: str = ""
    notes: tuple[str, ...] = ()


def carry_out(config: DictConfig, folder: Path) -> Outcome:
    """Carry out the config's method in ``folder``."""
    context = Context(config, folder)
    set_threads(context.settings("trainer"))
    keep_large_buffers()
    reset_peak_memory()
    outcome: Outcome = build(config.method, context)
    return outcome


def pretrain(settings: MethodSettings, context: Context) -> Outcome:
    """Train ``pre`` on the corpus; measure it against its start, the unigram model and the leak classifier."""
    objective, start = context.settings("objective"), context.start
    if objective.mlm_weight:
        warn_of_rate(context.corpus.words, objective.mask_unit, objective.mask_rate)
    model = copy.deepcopy(start.model)
    model.dropout = settings.dropout
    data = PretrainingData(context.store("train"), context.store("validation"), start.tokenizer, objective, context.loading())
    report = _fit(context, Pretraining(model, objective, context.training(data.steps_per_epoch)), data)
    _save(context, pre=model)
    metrics = measure(context, model, "pre", context.run_id) | start_measures(context, settings) | chance(context)
    return Outcome(
        score="validation/mlm_loss_pre" if objective.mlm_weight else "validation/pair_accuracy_pre",
        metrics=metrics | _fit_metrics(report),
        cost=_cost(report),
        lineage=_lineage(context),
        data={"corpus": context.corpus.fingerprint},
        notes=(*context.corpus.notes, *data.notes, *_fresh_heads(context)),
    )


def fine_tune(settings: MethodSettings, context: Context) -> Outcome:
    """Train ``ft`` on the task, in full or in part; ``pre`` keeps its weights."""
    task = context.task
    ft = context.model_for_task()
    build(context.config.tuning, ft)
    data = _task_data(context)
    before = {name: value.clone() for name, value in ft.state_dict().items()}
    report = _fit(context, FineTuning(ft, task, context.training(data.steps_per_epoch)), data)
    assert_frozen(ft, before)
    _save(context, ft=ft)
    start = start_measures(context, settings)
    return _adapted(context, ft, report, start | kept(start))


def kept(start: dict[str, float]) -> dict[str, float]:
    """Return the measures of a ``pre`` that is its start still."""
    return {name.removesuffix("_start") + "_pre": value for name, value in start.items()}


def two_way(settings: MethodSettings, context: Context) -> Outcome:
    """Train ``ft`` on the task and align ``pre`` and ``ft``, so that both move."""
    task, alignment = context.task, context.config.alignment
    ft = context.model_for_task()
    build(context.config.tuning, ft)
    pre = copy.deepcopy(context.start.model)
    pre.dropout = settings.dropout
    data = _task_data(context)
    before = {name: value.clone() for name, value in ft.state_dict().items()}
    if context.config.budget.accumulate > 1:
        warnings.warn(
            "budget.accumulate: an alignment contrasts the rows of one micro-batch, not of the global batch", stacklevel=1
        )
    module = TwoWay(
        pre,
        ft,
        task,
        build(alignment.loss),
        build(alignment.schedule),
        context.settings("alignment"),
        context.training(data.steps_per_epoch),
    )
    report = _fit(context, module, data)
    assert_frozen(ft, before)
    _save(context, pre=pre, ft=ft)
    start = start_measures(context, settings)
    moved = settings.measure and alignment.weight > 0 and alignment.direction != "to_ft"
    return _adapted(context, ft, report, start | (measure(context, pre, "pre") if moved else kept(start)))


def prompt(settings: MethodSettings, context: Context) -> Outcome:
    """Put the task to ``pre`` as a prompt; no parameter changes."""
    if context.config.init_from is None:
        raise ValueError("init_from: a prompt asks what a pretrained model knows; name a finished run's folder or a model folder")
    task, model = context.task, context.start.model
    for head in context.start.fresh:
        if head in model.heads:
            del model.heads[head]  # random weights know nothing: the scorer refuses a model without its head
    length = context.config.task.max_length
    scorer = build(context.config.prompt, model, context.start.tokenizer, task.labels, task.pair, length)
    metrics = {f"{split}/{task.metric}_pre": evaluate_prompt(scorer, task, split) for split in ("validation", "test")}
    return Outcome(
        score=f"test/{task.metric}_pre",
        metrics=metrics | _floor(context),
        cost={"peak_memory_mb": peak_memory_mb()},
        lineage=_lineage(context),
        data={"task": task.fingerprint},
        variant=f"template {context.config.prompt.template}",
        notes=task.notes,
    )


def tfidf(settings: MethodSettings, context: Context) -> Outcome:
    """Fit TF-IDF features and logistic regression: the floor with no neural network."""
    task = context.task
    scores = tfidf_scores(task)
    metrics = {f"{split}/{task.metric}_tfidf": value for split, value in scores.items()}
    return Outcome(
        score=f"test/{task.metric}_tfidf",
        metrics=metrics | _floor(context),
        cost={"peak_memory_mb": peak_memory_mb()},
        data={"task": task.fingerprint},
        notes=task.notes,
    )


def random_encoder(settings: MethodSettings, context: Context) -> Outcome:
    """Probe an encoder with its initial weights, of the architecture and tokenizer that the other runs start from."""
    task, start = context.task, context.start
    model = build_model(start.model.settings, start.model.vocabulary, (), seed=context.config.seed)
    metrics = {f"{split}/probe_{task.name}_random": value for split, value in probe(context, model, task).items()}
    return Outcome(
        score=f"test/probe_{task.name}_random",
        metrics=metrics | _floor(context),
        cost={"peak_memory_mb": peak_memory_mb()},
        lineage=_lineage(context),
        data={"task": task.fingerprint},
        notes=task.notes,
    )


def _task_data(context: Context) -> TaskData:
    task, length = context.task, context.config.task.max_length
    return TaskData(task.splits, task.labels, context.start.tokenizer, length, context.loading())


def _fit(context: Context, module: TransferModule, data: Any) -> FitReport:
    """Train, in all ranks; what comes after is the first one's work."""
    watched = context.config.logger._target_ and ranks.is_first()
    loggers = (build(context.config.logger, context.config, context.folder),) if watched else ()
    trainer = replace(context.settings("trainer"), progress=context.shown)
    place = FitPlace(context.folder, trainer, loggers, label=context.folder.name, unused_parameters=module.rests)
    failed = True
    try:
        report = fit(module, data, context.settings("budget"), place)
        failed = False
    finally:
        for logger in loggers:
            close(logger, failed)
    ranks.leave_to_first()
    return report


def _save(context: Context, **models: Model) -> None:
    for name, model in models.items():
        labels = context.task.labels if "task" in model.heads else None
        save_model(context.folder / "models" / name, model, context.start.tokenizer, labels or None)


def _adapted(context: Context, ft: Model, report: FitReport, measured: dict[str, float]) -> Outcome:
    task = context.task
    scores = {f"{split}/{task.metric}_ft": task_score(context, ft, split) for split in ("validation", "test")}
    return Outcome(
        score=f"test/{task.metric}_ft",
        metrics=scores | measured | _floor(context) | _fit_metrics(report),
        cost=_cost(report),
        lineage=_lineage(context),
        data={"task": task.fingerprint},
        notes=(*task.notes, *_fresh_heads(context)),
    )


def _floor(context: Context) -> dict[str, float]:
    task = context.task
    if task.kind == "regression":
        return {}
    return {f"{split}/{task.metric}_majority": majority_score(task, split) for split in ("validation", "test")}


def _fit_metrics(report: FitReport) -> dict[str, float]:
    return {"train/steps": report.steps, "train/best_step": report.best_step}


def _cost(report: FitReport) -> dict[str, float]:
    return {
        "train_seconds": round(report.seconds, 3),
        "steps": report.steps,
        "tokens": report.tokens,
        "flops": report.flops,
        "peak_memory_mb": peak_memory_mb(),
        "checkpoint_seconds": round(report.checkpoint_seconds, 3),
        "waiting_seconds": round(report.waiting_seconds, 3),
    }


def _lineage(context: Context) -> dict[str, str | None]:
    other = context.start_ft.lineage if context.config.init_from_ft else None
    return {"init_from": context.start.lineage, "init_from_ft": other}


def _fresh_heads(context: Context) -> list[str]:
    if context.config.init_from is None or not context.start.fresh:
        return []
    return [f"init_from lacks the heads {', '.join(context.start.fresh)}; they were made anew"]
