"""What a method found, and what all methods do alike: train, save, and say what it cost and where it started.

In: a run's context, models, what a fit reports. Out: :class:`Outcome`, plain numbers and names. Leaves out the methods
(methods.py, untrained.py) and what is measured of an encoder (measuring.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from tofro.batches.datamodules import PretrainingData, Replay, TaskData
from tofro.batches.labelled import LabelledBuilder
from tofro.config.build import build
from tofro.encoders.folder import save_model
from tofro.encoders.model import Model
from tofro.encoders.pooling import POOLINGS
from tofro.encoders.tuning import reinitialise
from tofro.measures.classic import majority_score
from tofro.measures.cost import peak_memory_mb
from tofro.modules.base import TransferModule
from tofro.modules.regularizers import Regularizers
from tofro.runs import ranks
from tofro.runs.context import Context
from tofro.runs.few_shot import checksums, write_split
from tofro.runs.fit import FitPlace, FitReport, fit
from tofro.runs.measuring import measure, task_score
from tofro.runs.prompt_tuning import cloze_of
from tofro.runs.trained import take_trained
from tofro.runs.using import probe_tasks, wants_few_shot
from tofro.text.shuffling import shuffle_labels


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


def tuned(context: Context, start: Model | None = None) -> Model:
    """Return a fresh ``ft`` (from ``start``, where it is not the config's own), of which that trains which the tuning says."""
    ft, tuning, seed = context.model_for_task(start), context.config.tuning, context.config.seed
    reinitialise(ft, tuning.reinitialise, seed)
    build(tuning, ft, seed)
    return ft


def task_data(context: Context) -> TaskData:
    """Return the batches of the run's task; under a control its training labels have changed places."""
    task, length = context.task, context.config.task.max_length
    splits = {**task.splits}
    if context.config.control.shuffle_labels:
        splits["train"] = shuffle_labels(splits["train"], context.config.seed)
    cloze = cloze_of(context)
    builder = None if cloze is None else cloze.builder
    return TaskData(splits, task.labels, context.start.tokenizer, length, context.loading(), _replay(context), builder)


def _replay(context: Context) -> Replay | None:
    """Return the corpus in doses, where the run replays it."""
    settings = context.settings("regularizer")
    if not settings.replay:
        return None
    if settings.replay_batch % (ranks.world_size() * context.config.budget.accumulate):
        raise ValueError(
            f"regularizer.replay_batch={settings.replay_batch} can't be cut into trainer.devices x budget.accumulate equal parts"
        )
    loading = replace(context.loading(), batch=settings.replay_batch)
    objective, tokenizer = context.settings("objective"), context.start.tokenizer
    corpus = PretrainingData(context.store("train"), context.store("validation"), tokenizer, objective, loading)
    return Replay(corpus, settings.replay_every)


def regularizers(context: Context) -> Regularizers:
    """Return what keeps the run's encoders from forgetting; ValueError where the one that replays had nothing to say before."""
    settings = context.settings("regularizer")
    made = Regularizers(settings, context.settings("objective"))
    if settings.replay_targets == "start":
        start = context.start if settings.replay_encoder == "pre" else context.start_ft
        random = [head for head in made.heads(settings.replay_encoder) if head in start.fresh]
        if random:
            way_out = "another init_from" if "mlm" in random else "objective.pair_weight=0"
            raise ValueError(
                f"regularizer.replay_targets=start: random weights in {', '.join(random)} said nothing to keep; "
                f"set regularizer.replay_targets=corpus, or {way_out}"
            )
    return made


def train(context: Context, module: TransferModule, data: Any) -> FitReport:
    """Train, in all ranks, or take what another run trained so; what comes after is the first one's work."""
    report = take_trained(context, module)
    if report is None:
        trainer = replace(context.settings("trainer"), progress=context.shown)
        place = FitPlace(context.folder, trainer, context.loggers, label=context.folder.name, unused_parameters=module.rests)
        report = fit(module, data, context.settings("budget"), place)
    ranks.leave_to_first()
    return report


def save(context: Context, **models: Model) -> None:
    """Save models, by their name, under ``models/`` of the run's folder; a pooling that their start asked for goes with them."""
    pooling = context.start.pooling if context.start.pooling in POOLINGS else "mean"
    for name, model in models.items():
        labels = context.task.labels if "task" in model.heads else None
        save_model(context.folder / "models" / name, model, context.start.tokenizer, labels or None, pooling)


def adapted(context: Context, ft: Model, report: FitReport, measured: dict[str, float]) -> Outcome:
    """Return the outcome of a method that trained ``ft`` on the task; ``measured`` holds the measures of ``pre``."""
    task = context.task
    splits = ("train", "validation", "test") if context.config.method.train_score else ("validation", "test")
    scores = {f"{split}/{task.metric}_ft": task_score(context, ft, split) for split in splits}
    if context.config.method.measure and context.config.method.measure_ft:
        scores |= measure(context, ft, "ft")
    return Outcome(
        score=f"test/{task.metric}_ft",
        metrics=scores | measured | floor(context) | fit_metrics(report),
        cost=cost_of(report) | {"rows": len(task.splits["train"])},
        lineage=lineage_of(context),
        data={"task": task.fingerprint, **few_shot_rows(context)},
        variant=context.config.control.name or "",
        notes=(*task_notes(context), *fresh_heads(context)),
    )


def own_rows(context: Context) -> dict[str, str]:
    """Return the checksum of the few rows that the run learnt its task from, where it did; write them to its folder."""
    split = context.rows if "task" in context.config.method.reads else None
    if split is None:
        return {}
    return {"task_rows": write_split(context, split, f"{split.task}-{split.per_class}-rows")}


def few_shot_rows(context: Context) -> dict[str, str]:
    """Return the checksums of the rows that few-shot fine-tuning saw, where it was measured."""
    return checksums(context, probe_tasks(context)) if wants_few_shot(context) else {}


def task_notes(context: Context) -> tuple[str, ...]:
    """Return the notes of the run's task, and how many tagged words no model sees, where there are any."""
    task, notes = context.task, []
    for split, rows in task.splits.items() if task.kind == "tags" else ():
        words, texts = LabelledBuilder(rows, context.start.tokenizer, context.config.task.max_length).lost
        if words:
            notes.append(
                f"{split}: {words} words of {texts} texts have no token, or lie beyond task.max_length; they count as O in scores"
            )
    return (*task.notes, *notes)


def floor(context: Context) -> dict[str, float]:
    """Return the metric of the majority class, or tag, where the task has them."""
    task = context.task
    if task.kind == "regression":
        return {}
    return {f"{split}/{task.metric}_majority": majority_score(task, split) for split in ("validation", "test")}


def fit_metrics(report: FitReport) -> dict[str, float]:
    """Return how long a fit was and where its best weights come from."""
    return {"train/steps": report.steps, "train/best_step": report.best_step}


def cost_of(report: FitReport) -> dict[str, float]:
    """Return what a fit spent."""
    return {
        "train_seconds": round(report.seconds, 3),
        "steps": report.steps,
        "tokens": report.tokens,
        "flops": report.flops,
        "peak_memory_mb": max(peak_memory_mb(), report.peak_memory_mb),
        "checkpoint_seconds": round(report.checkpoint_seconds, 3),
        "waiting_seconds": round(report.waiting_seconds, 3),
    }


def lineage_of(context: Context) -> dict[str, str | None]:
    """Return which models the run started from, and which run trained in its stead, where one had."""
    other = context.start_ft.lineage if context.config.init_from_ft else None
    before = {"trained_by": context.trained_by} if context.trained_by else {}
    return {"init_from": context.start.lineage, "init_from_ft": other, **before}


def fresh_heads(context: Context) -> list[str]:
    """Return a note on the heads that the starting model lacked, where there are any."""
    if context.config.init_from is None or not context.start.fresh:
        return []
    return [f"init_from lacks the heads {', '.join(context.start.fresh)}; they were made anew"]
