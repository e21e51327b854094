from __future__ import annotations

import numpy as np
import pytest
import torch

from tofro.batches.labelled import task_batches
from tofro.encoders.model import Model, build_model
from tofro.encoders.settings import EncoderSettings
from tofro.measures.probes import probe, task_features
from tofro.measures.tasks import evaluate_prompt, evaluate_task, labels_of
from tofro.modules.prompting import ClozeScorer
from tofro.text.task import Example, Task
from tofro.tokens.settings import PromptSettings
from tofro.tokens.tokenizer import SPECIALS, Tokenizer, bert_backend

ENTRIES = "it was good bad movie a the . n / fine poor"
TOKENIZER = Tokenizer(bert_backend({word: index for index, word in enumerate([*SPECIALS, *ENTRIES.split()])}, lowercase=True))


def make_model(classes: int, regression: bool = False) -> Model:
    settings = EncoderSettings(layers=1, width=16, heads=2, intermediate=32, max_positions=32, init_std=0.5)
    return build_model(settings, TOKENIZER.vocabulary, dropout=0.5, seed=2, classes=classes, regression=regression)


def make_task(kind: str = "classification") -> Task:
    draw = np.random.default_rng(0)
    rows = []
    for number in range(60):
        good = number % 2 == 0
        words = [str(draw.choice(["good", "fine"] if good else ["bad", "poor"])), *draw.choice(["it", "a", "the", "movie"], 4)]
        label: str | float = ("yes" if good else "no") if kind == "classification" else float(good)
        rows.append(Example(" ".join(draw.permutation(words)), None, label))
    labels = ("no", "yes") if kind == "classification" else ()
    metric = "accuracy" if kind == "classification" else "pearson"
    return Task("mood", kind, False, labels, metric, {"train": rows[:30], "validation": rows[30:45], "test": rows[45:]}, "0" * 64)


def test_labels_are_numbered_in_the_tasks_order():
    assert labels_of(make_task(), "test")[:3].tolist() == [0, 1, 0]
    assert labels_of(make_task("regression"), "validation")[:3].tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_the_metric_is_that_of_predictions_made_one_by_one(kind: str):
    task, regression = make_task(kind), kind == "regression"
    model = make_model(1 if regression else 2, regression)
    found = evaluate_task(model, task_batches(task.splits["test"], TOKENIZER, 16, 4, task.labels), task)
    guesses = []
    with torch.no_grad():
        model.eval()
        for example in task.splits["test"]:
            (batch,) = task_batches([example], TOKENIZER, 16, 1, task.labels)
            logits = model.task_logits(model.encoder(batch), batch)[0]
            guesses.append(logits.item() if regression else logits.argmax().item())
    truth = labels_of(task, "test")
    expected = np.corrcoef(guesses, truth)[0, 1] if regression else np.mean(np.array(guesses) == truth)
    assert found == pytest.approx(expected, abs=1e-5)


def test_a_prompt_answers_with_the_likeliest_label():
    task = make_task()
    settings = PromptSettings("unused", ["{text_a} was [MASK]"], 0, {"yes": ["good"], "no": ["bad"]})
    scorer = ClozeScorer(settings, make_model(2), TOKENIZER, task.labels, task.pair, 16)
    likeliest = scorer.score(task.splits["test"]).argmax(-1).numpy()
    assert evaluate_prompt(scorer, task, "test") == np.mean(likeliest == labels_of(task, "test"))


def test_features_of_a_task_are_of_a_fixed_choice_of_rows():
    task, model = make_task(), make_model(2)
    found = task_features(model, TOKENIZER, task, 16, rows=20, test_rows=5)
    again = task_features(model, TOKENIZER, task, 16, rows=20, splits=["test"])
    assert {name: len(rows.labels) for name, rows in found.items()} == {"train": 20, "validation": 5, "test": 5}
    assert np.array_equal(found["train"].features, again["train"].features)
    distances = np.abs(found["test"].features[:, None] - again["test"].features).max(-1)  # (5, all)
    assert (distances.min(1) < 1e-5).all()
    assert len(again["test"].labels) == len(task.splits["test"])
    score = probe(again["train"], {"test": again["test"]}, "accuracy")["test"]
    assert score > 0.8  # the words alone decide, and even random features tell them apart
