"""Fine-tuning on tags: the loss is the mean over words that have a token, and the metric that of every word's tag."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.modules.conftest import SETTINGS, Bench
from tofro.batches.labelled import LabelledBuilder
from tofro.encoders.model import Model, build_model
from tofro.encoders.settings import TuningSettings
from tofro.encoders.tuning import train_head, trainable_names
from tofro.measures.tasks import evaluate_task
from tofro.modules.fine_tuning import FineTuning
from tofro.modules.settings import BudgetSettings
from tofro.runs.selection import Selection
from tofro.text.tags import count_tags, score_counts
from tofro.text.task import Example, Task
from tofro.tokens.tokenizer import Tokenizer

LABELS = ("B-x", "I-x", "O")
BUDGET = BudgetSettings(steps=4, batch=16, best=False)
LENGTH = 12  # tokens of a sequence, so that some words are lost


def tagged(count: int, metric: str = "entity_f1") -> Task:
    draw = random.Random(0)
    rows = []
    for _ in range(count):
        words = draw.choices(["the", "river", "mountain", "gloomy", "\u200b", "near", "."], k=draw.randint(1, 14))
        rows.append(Example(" ".join(words), None, tuple(draw.choices(LABELS, k=len(words))), tuple(words)))
    return Task("words", "tags", False, LABELS, metric, {"train": rows, "validation": rows, "test": rows}, "0" * 64)


@pytest.fixture(params=["bert", "modernbert"])
def tagger(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Model:
    settings = copy.copy(SETTINGS)
    settings.family = request.param
    settings.init_std = 0.3
    model = build_model(settings, tokenizer.vocabulary, ("mlm", "pair"), seed=1)
    model.add_task_head(len(LABELS), seed=5, words=True)
    return model


def slow_logits(model: Model, example: Example, tokenizer: Tokenizer) -> list[torch.Tensor | None]:
    """Return the logits (C,) of each word, None where it has no token within the length; one text at a time."""
    pieces = [tokenizer.encode([word])[0].ids.tolist() for word in example.words]
    batch = LabelledBuilder([example], tokenizer, LENGTH).build(np.array([0]))
    states, place, found = model.encoder(batch), 1, []
    for ids in pieces:
        seen = bool(ids) and place < LENGTH - 1
        state = states[place] if seen else None
        if state is not None and model.settings.modern:
            state = model.heads["pooler"](state)
        found.append(None if state is None else model.heads["task"].linear(state))
        place += len(ids)
    return found


def test_the_loss_is_the_mean_over_words_that_have_a_token(bench: Bench, tagger: Model, tokenizer: Tokenizer) -> None:
    task = tagged(12)
    module = FineTuning(tagger, task, bench.training(BUDGET)).eval()
    builder = LabelledBuilder(task.splits["train"], tokenizer, LENGTH, LABELS)
    whole = builder.build(np.arange(12))
    losses = [
        F.cross_entropy(logits, torch.tensor(LABELS.index(tag)))
        for example in task.splits["train"]
        for logits, tag in zip(slow_logits(tagger, example, tokenizer), example.labels, strict=True)
        if logits is not None
    ]
    assert whole.counts["tagged"] == len(losses) < sum(len(example.words) for example in task.splits["train"])
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(module.terms(whole)["task_loss"].value, expected)
    parts = [builder.build(part) for part in (np.arange(3), np.arange(3, 12))]
    for part in parts:
        part.counts["tagged"] = len(losses)  # as share_counts does for the micro-batches of a step
    torch.testing.assert_close(torch.stack([module.terms(part)["task_loss"].value for part in parts]).sum(), expected)


@pytest.mark.parametrize("metric", ["entity_f1", "accuracy", "macro_f1"])
def test_the_metric_is_that_of_tags_predicted_one_by_one(bench: Bench, tagger: Model, tokenizer: Tokenizer, metric: str) -> None:
    task = tagged(30, metric)
    with torch.no_grad():
        tagger.eval()
        said = [slow_logits(tagger, example, tokenizer) for example in task.splits["test"]]
    predicted = [["O" if logits is None else LABELS[int(logits.argmax())] for logits in row] for row in said]
    assert len({tag for row in predicted for tag in row}) > 1
    expected = score_counts(count_tags(metric, LABELS, predicted, [example.labels for example in task.splits["test"]]))
    builder = LabelledBuilder(task.splits["test"], tokenizer, LENGTH, LABELS)
    assert evaluate_task(tagger, builder.batches(7), task) == pytest.approx(expected)
    module = FineTuning(tagger, task, bench.training(BUDGET)).eval()
    for batch in builder.batches(4):
        module.validation_step(batch, 0)
    assert module.metric.compute().item() == pytest.approx(expected)
    assert module.mean_loss.compute().item() > 0


def test_only_heads_that_the_answer_goes_through_train(bench: Bench, tagger: Model) -> None:
    train_head(TuningSettings(), tagger, 0)
    FineTuning(tagger, tagged(12), bench.training(BUDGET))
    heads = {name.split(".")[1] for name in trainable_names(tagger)}
    assert heads == ({"pooler", "task"} if tagger.settings.modern else {"task"})


def test_selection_waits_for_the_first_entity(bench: Bench, tagger: Model) -> None:
    from types import SimpleNamespace

    module, selection = FineTuning(tagger, tagged(12), bench.training(BUDGET)), Selection(2, True)
    stops = []
    for step, value in enumerate([0.0, 0.0, 0.0, 0.0, 0.3, 0.3, 0.2]):
        trainer = SimpleNamespace(callback_metrics={module.monitor: value}, global_step=step, should_stop=False)
        selection.on_validation_end(trainer, module)  # type: ignore[arg-type]
        stops.append(trainer.should_stop)
        assert selection.best_step == min(step, 4)  # the latest of nothing, the first of something
    assert stops == [False] * 6 + [True]
