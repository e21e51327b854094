from __future__ import annotations

import random

import pytest

from tofro.measures.classic import majority_score, tfidf_scores
from tofro.text.task import Example, Task

SUBJECTS = ["the film", "this book", "her song", "a play"]
WORDS = {"good": ["lovely", "warm", "clever"], "bad": ["dull", "cold", "broken"]}


def make_task(rows: list[Example], labels: tuple[str, ...], metric: str = "accuracy") -> Task:
    cut = len(rows) // 3
    splits = {"train": rows[: cut + 1], "validation": rows[cut + 1 : 2 * cut], "test": rows[2 * cut :]}
    kind = "classification" if labels else "regression"
    return Task("task", kind, rows[0].text_b is not None, labels, metric, splits, "0" * 64)


def moods(space: str = " ") -> Task:
    draw = random.Random(0)
    rows = []
    for number in range(90):
        label = "good" if number % 2 else "bad"
        rows.append(Example(f"{draw.choice(SUBJECTS)} was {draw.choice(WORDS[label])}".replace(" ", space), None, label))
    return make_task(rows, ("bad", "good"))


def test_majority_answers_the_commonest_training_label():
    rows = [Example("x", None, label) for label in ["b", "b", "a"] * 10 + ["a"] * 10]
    task = Task(
        "t", "classification", False, ("a", "b"), "accuracy", {"train": rows[:30], "validation": rows[:3], "test": rows[30:]}, ""
    )
    assert majority_score(task, "validation") == 2 / 3
    assert majority_score(task, "test") == 0.0


@pytest.mark.parametrize("space", [" ", ""])
def test_tfidf_learns_the_words_that_decide_with_and_without_spaces(space: str):
    task = moods(space)
    assert tfidf_scores(task) == {"validation": 1.0, "test": 1.0}
    assert tfidf_scores(task) == tfidf_scores(task)


def test_a_pair_keeps_its_texts_apart():
    draw = random.Random(1)
    animals = ("cat", "dog", "owl")
    rows = []
    for _ in range(300):
        first, second = draw.choice(animals), draw.choice(animals)
        rows.append(Example(f"a {first} sat", f"a {second} sat", second))
    assert tfidf_scores(make_task(rows, animals))["test"] == 1.0


def test_regression_ranks_pairs_by_their_overlap():
    draw = random.Random(2)
    vocabulary = [f"word{number}" for number in range(30)]
    rows = []
    for _ in range(240):
        first = draw.sample(vocabulary, 6)
        kept = draw.randint(0, 6)
        second = first[:kept] + draw.sample([word for word in vocabulary if word not in first], 6 - kept)
        rows.append(Example(" ".join(first), " ".join(second), kept / 6))
    task = make_task(rows, (), "spearman")
    assert majority_score(task, "test") == 0.0
    assert tfidf_scores(task)["test"] > 0.8


def test_a_class_with_one_training_row_is_no_trouble():
    task = moods()
    task.splits["train"].append(Example("something else entirely", None, "odd"))
    assert tfidf_scores(Task("t", "classification", False, ("bad", "good", "odd"), "macro_f1", task.splits, ""))["test"] == 1.0
