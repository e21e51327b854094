"""The methods that train: each a function of a method's settings and a run's context, from its start to its result.

In: :class:`Context`. Out: :class:`Outcome`, plain numbers and names, with the models saved under ``models/``. A method is
chosen by its ``_target_`` in conf/method; the training itself is a module (modules/) and a fit (runs/fit.py). Methods that train
nothing are in untrained.py.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from tofro.batches.datamodules import PretrainingData
from tofro.config.build import build
from tofro.encoders.model import Model
from tofro.encoders.tuning import settle
from tofro.measures.cost import reset_peak_memory
from tofro.modules.fine_tuning import FineTuning
from tofro.modules.pretraining import Pretraining
from tofro.modules.settings import MethodSettings
from tofro.runs.comparing import changes
from tofro.runs.context import Context
from tofro.runs.fit import FitReport, set_threads
from tofro.runs.language import chance
from tofro.runs.loggers import check_logger, close, conclude
from tofro.runs.measuring import measure, start_measures
from tofro.runs.memory import keep_large_buffers
from tofro.runs.outcome import (
    Outcome,
    adapted,
    cost_of,
    few_shot_rows,
    fit_metrics,
    fresh_heads,
    lineage_of,
    own_rows,
    regularizers,
    save,
    task_data,
    train,
    tuned,
)
from tofro.runs.pairing import pair_up
from tofro.runs.prompt_tuning import cloze_of
from tofro.runs.using import check_measures
from tofro.tokens.languages import warn_of_rate


def carry_out(config: DictConfig, folder: Path) -> Outcome:
    """Carry out the config's method in ``folder``."""
    context = Context(config, folder)
    set_threads(context.settings("trainer"))
    keep_large_buffers()
    reset_peak_memory()
    check_logger(context.settings("logger"))
    check_measures(context)
    failed = True
    try:
        outcome: Outcome = build(config.method, context)
        outcome = replace(outcome, data=outcome.data | own_rows(context))
        conclude(context.loggers, outcome.metrics)
        failed = False
    finally:
        if "loggers" in vars(context):  # a run that is refused before it computes anything has none
            close(context.loggers, failed)
    return outcome


def pretrain(settings: MethodSettings, context: Context) -> Outcome:
    """Train ``pre`` on the corpus; measure it against its start, the unigram model and the leak classifier."""
    objective, start = context.settings("objective"), context.start
    if objective.mlm_weight:
        warn_of_rate(context.corpus.words, objective.mask_unit, objective.mask_rate)
    model = copy.deepcopy(start.model)
    model.dropout = settings.dropout
    stores = context.store("train"), context.store("validation")
    data = PretrainingData(*stores, start.tokenizer, objective, context.loading(), settings.held_out)
    report = train(context, Pretraining(model, objective, context.training(data.steps_per_epoch)), data)
    save(context, pre=model)
    metrics = measure(context, model, "pre", context.run_id) | start_measures(context, settings) | chance(context)
    return Outcome(
        score="validation/mlm_loss_pre" if objective.mlm_weight else "validation/pair_accuracy_pre",
        metrics=metrics | fit_metrics(report),
        cost=cost_of(report),
        lineage=lineage_of(context),
        data={"corpus": context.corpus.fingerprint, **few_shot_rows(context)},
        notes=(*context.corpus.notes, *data.notes, *fresh_heads(context)),
    )


def fine_tune(settings: MethodSettings, context: Context) -> Outcome:
    """Train ``ft`` on the task, in full or in part; ``pre`` keeps its weights."""
    ft = tuned(context)
    report = fit_task(context, ft)
    save(context, ft=ft)
    start = start_measures(context, settings)
    return adapted(context, ft, report, start | kept(start) | changes(context, context.start.model, ft))


def fit_task(context: Context, ft: Model) -> FitReport:
    """Train ``ft``, tuned, on the task alone, and leave it an ordinary model."""
    config = context.config
    if not config.control.task_loss or config.control.shuffle_pairing:
        raise ValueError(f"control={config.control.name}: method={config.method.name} has no alignment; use a two-way method")
    if config.regularizer.replay and config.regularizer.replay_encoder == "pre":
        raise ValueError(f"regularizer.replay_encoder=pre: method={config.method.name} trains ft alone; use replay_encoder=ft")
    data = task_data(context)
    before = {name: value.clone() for name, value in ft.state_dict().items()}
    module = FineTuning(ft, context.task, context.training(data.steps_per_epoch), regularizers(context), cloze_of(context))
    report = train(context, module, data)
    settle(ft, before)
    return report


def kept(start: dict[str, float]) -> dict[str, float]:
    """Return the measures of a ``pre`` that is its start still."""
    return {name.removesuffix("_start") + "_pre": value for name, value in start.items()}


def two_way(settings: MethodSettings, context: Context) -> Outcome:
    """Train ``ft`` on the task and align ``pre`` and ``ft``, so that both move."""
    module, data = pair_up(settings, context)
    pre, ft = module.model("pre"), module.model("ft")
    before = {name: value.clone() for name, value in ft.state_dict().items()}
    report = train(context, module, data)
    settle(ft, before)
    save(context, pre=pre, ft=ft)
    start = start_measures(context, settings)
    moved = pre if module.pre_moves else context.start.model
    measured = measure(context, pre, "pre") if settings.measure and module.pre_moves else kept(start)
    return adapted(context, ft, report, start | measured | changes(context, moved, ft))
