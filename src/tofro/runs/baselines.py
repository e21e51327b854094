"""Baselines that need no loss of their own: what two-way transfer must be compared with (docs/algorithms.md, section 4).

In: a method's settings and a run's context. Out: :class:`~tofro.runs.outcome.Outcome`. Partial tunings are presets over
``fine_tune`` (methods.py), intermediate-task training is ``init_from`` a fine-tuned run.
"""

from __future__ import annotations

import copy
from dataclasses import replace

from tofro.batches.datamodules import PretrainingData
from tofro.batches.pretraining import evaluation_batches
from tofro.batches.settings import ObjectiveSettings
from tofro.encoders.interpolation import interpolate
from tofro.encoders.model import Model
from tofro.measures.mlm import retention
from tofro.modules.pretraining import Pretraining
from tofro.modules.settings import MethodSettings, WiseSettings
from tofro.runs import ranks
from tofro.runs.context import Context
from tofro.runs.language import BATCH
from tofro.runs.measuring import measure, start_measures, task_score
from tofro.runs.methods import fit_task, kept
from tofro.runs.outcome import Outcome, adapted, cost_of, fit_metrics, floor, fresh_heads, lineage_of, save, train, tuned
from tofro.text.corpus import corpus_of_task
from tofro.tokens.languages import find_words
from tofro.tokens.store import TokenStore, open_store


def from_scratch(settings: MethodSettings, context: Context) -> Outcome:
    """Train ``ft`` on the task from random weights, in the architecture and with the tokenizer that the other runs start from."""
    if context.config.init_from_ft is not None:
        raise ValueError("init_from_ft: method=from_scratch starts `ft` from random weights; leave the key out")
    ft = tuned(context, context.random_start())
    report = fit_task(context, ft)
    save(context, ft=ft)
    measured = start_measures(context, settings)
    outcome = adapted(context, ft, report, measured | kept(measured))
    return replace(outcome, notes=(*outcome.notes, "ft started from random weights; init_from gave architecture and tokenizer"))


def wise(settings: WiseSettings, context: Context) -> Outcome:
    """Train ``ft`` on the task in full, then look between it and its start (WiSE-FT, Wortsman et al. 2022).

    ``models/pre`` is the start with the encoder at ``alpha``. At every one of ``alphas`` the encoder in between is scored with
    the heads of ``ft``.
    """
    outside = [alpha for alpha in settings.alphas if not 0 <= alpha <= 1]
    if outside:
        raise ValueError(f"method.alphas: {outside[0]:g} is not between 0, the start, and 1, the fine-tuned encoder")
    start, task = context.start.model, context.task
    ft = tuned(context)
    if (ft.settings, ft.vocabulary) != (start.settings, start.vocabulary):
        raise ValueError(
            "init_from_ft: method=wise needs two encoders of one architecture, with nothing but weights between them"
        )
    report = fit_task(context, ft)
    pre = interpolate(start, start.encoder, ft.encoder, settings.alpha)
    save(context, pre=pre, ft=ft)
    scores: dict[str, float] = {}
    for alpha in settings.alphas:
        between = interpolate(ft, start.encoder, ft.encoder, alpha)
        names = {split: f"{split}/{task.metric}_at_{alpha:g}_ft" for split in ("validation", "test")}
        scores |= {name: task_score(context, between, split) for split, name in names.items()}
    measured = start_measures(context, settings) | (measure(context, pre, "pre") if settings.measure else {})
    return adapted(context, ft, report, measured | scores)


def continued_mlm(settings: MethodSettings, context: Context) -> Outcome:
    """Train ``pre`` on masked words of the task's own texts, without their labels (Gururangan et al. 2020).

    A text of the task is a sequence of a batch, so that steps, batches and texts are those of a two-way run with the same budget.
    """
    if context.config.init_from is None:
        raise ValueError("init_from: method=continued_mlm goes on from a pretrained model; name a run's folder or a model folder")
    task, start = context.task, context.start
    objective = replace(
        context.settings("objective"),
        mlm_weight=1.0,
        pair="none",
        pair_weight=0.0,
        unit="segment",
        length=context.config.task.max_length,
    )
    learnt, held_out = text_stores(context, objective.mask_unit)
    data = PretrainingData(learnt, held_out, start.tokenizer, objective, context.loading())
    pre = copy.deepcopy(start.model)
    pre.dropout = settings.dropout
    report = train(context, Pretraining(pre, objective, context.training(data.steps_per_epoch)), data)
    save(context, pre=pre)
    metrics = {
        f"validation/mlm_loss_texts_{name}": _loss(context, each, held_out, objective)
        for name, each in {"start": start.model, "pre": pre}.items()
    }
    metrics |= start_measures(context, settings) | (measure(context, pre, "pre") if settings.measure else {})
    return Outcome(
        score=f"{settings.split}/probe_{task.name}_pre" if settings.measure else "validation/mlm_loss_texts_pre",
        metrics=metrics | floor(context) | fit_metrics(report),
        cost=cost_of(report),
        lineage=lineage_of(context),
        data={"task": task.fingerprint},
        notes=(*task.notes, *data.notes, *fresh_heads(context)),
    )


def text_stores(context: Context, mask_unit: str) -> tuple[TokenStore, TokenStore]:
    """Return the token stores of the task's training and validation texts, each text a document; the test texts stay unread."""
    settings = context.settings("corpus")
    texts = corpus_of_task(context.task, settings)
    texts = replace(texts, words=find_words(texts, settings, mask_unit))

    def opened(split: str) -> TokenStore:
        with ranks.first_alone():
            return open_store(context.cache / "stores", texts, split, context.start.tokenizer)

    return opened("train"), opened("validation")


def _loss(context: Context, model: Model, store: TokenStore, objective: ObjectiveSettings) -> float:
    """Return the fixed-mask loss of ``model`` on held-out texts of the task."""
    batches = evaluation_batches(store, context.start.tokenizer, objective, BATCH)
    return retention(model, batches)["mlm_loss"]
