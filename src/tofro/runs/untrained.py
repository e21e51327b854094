"""Methods that train no encoder: prompts, and the floors that any transfer must beat.

In: a method's settings and a run's context. Out: :class:`~tofro.runs.outcome.Outcome`.
"""

from __future__ import annotations

from tofro.encoders.model import build_model
from tofro.measures.classic import tfidf_scores
from tofro.measures.cost import peak_memory_mb
from tofro.measures.tasks import score_prompt
from tofro.modules.prompting import Scorer
from tofro.modules.settings import MethodSettings
from tofro.runs.context import Context
from tofro.runs.diagnosis import diagnose
from tofro.runs.outcome import Outcome, floor, lineage_of, task_notes
from tofro.runs.searching import asked
from tofro.runs.using import frozen_use


def prompt(settings: MethodSettings, context: Context) -> Outcome:
    """Put the task to ``pre`` as a prompt; no parameter changes."""
    if context.config.init_from is None:
        raise ValueError("init_from: a prompt asks what a pretrained model knows; name a finished run's folder or a model folder")
    task = context.task
    if task.kind == "tags":
        raise ValueError(
            f"method=prompt: {task.name} tags words, and a prompt asks about whole texts; use method=full, partial or two_way"
        )
    model = context.start.model
    for head in context.start.fresh:
        if head in model.heads:
            del model.heads[head]  # random weights know nothing: the scorer refuses a model without its head
    prompt = asked(context, model, task)
    scorer, notes = prompt.scorer, (*prompt.notes, *diagnose(context, prompt.scorer, task))
    metrics = {
        f"{split}/{what}_pre": value
        for split in ("validation", "test")
        for what, value in score_prompt(scorer, task, split).items()
    }
    return Outcome(
        score=f"test/{task.metric}_pre",
        metrics=metrics | floor(context),
        cost={"peak_memory_mb": peak_memory_mb()},
        lineage=lineage_of(context),
        data={"task": task.fingerprint},
        variant=scorer.variant,
        notes=(*task.notes, *notes, *company(scorer)),
    )


def company(scorer: Scorer) -> list[str]:
    """Return a note where an answer depends on the texts that are asked about beside its own."""
    if scorer.settings.calibration != "batch":
        return []
    return ["prompt.calibration=batch: an answer depends on the texts scored with it, which are its split's"]


def tfidf(settings: MethodSettings, context: Context) -> Outcome:
    """Fit TF-IDF features and logistic regression: the floor with no neural network."""
    task = context.task
    scores = tfidf_scores(task)
    metrics = {f"{split}/{task.metric}_tfidf": value for split, value in scores.items()}
    return Outcome(
        score=f"test/{task.metric}_tfidf",
        metrics=metrics | floor(context),
        cost={"peak_memory_mb": peak_memory_mb()},
        data={"task": task.fingerprint},
        notes=task.notes,
    )


def random_encoder(settings: MethodSettings, context: Context) -> Outcome:
    """Measure an encoder with its initial weights, of the architecture and tokenizer that the other runs start from."""
    task, start = context.task, context.start
    model = build_model(start.model.settings, start.model.vocabulary, (), seed=context.config.seed)
    found = frozen_use(context, model, task, ("validation", "test"))
    metrics = {f"{split}/{name}_{task.name}_random": value for split, used in found.items() for name, value in used.items()}
    return Outcome(
        score=f"test/probe_{task.name}_random",
        metrics=metrics | floor(context),
        cost={"peak_memory_mb": peak_memory_mb()},
        lineage=lineage_of(context),
        data={"task": task.fingerprint},
        notes=task_notes(context),
    )
