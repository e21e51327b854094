from __future__ import annotations

import random

import pytest

from tests.measures.test_tasks import TOKENIZER
from tofro.encoders.model import Model, build_model
from tofro.encoders.settings import EncoderSettings
from tofro.measures.classic import majority_score, tfidf_scores
from tofro.measures.probes import probe_words
from tofro.text.task import Example, Task

FILM = ["movie", "fine"]  # a film has a name of these two words


def make_model() -> Model:
    """A random encoder whose states still tell the tokens apart."""
    settings = EncoderSettings(layers=1, width=64, heads=2, intermediate=64, max_positions=32)
    return build_model(settings, TOKENIZER.vocabulary, dropout=0.5, seed=2)


def make_task(count: int = 90, metric: str = "entity_f1") -> Task:
    draw = random.Random(0)
    rows = []
    for _ in range(count):
        words = draw.choices(["it", "was", "a", "the", "."], k=draw.randint(1, 5))
        place = draw.randint(0, len(words))
        tags = ["O"] * place + ["B-film", "I-film"] + ["O"] * (len(words) - place)
        words[place:place] = FILM
        rows.append(Example(" ".join(words), None, tuple(tags), tuple(words)))
    cut = count // 3
    splits = {"train": rows[:cut], "validation": rows[cut : 2 * cut], "test": rows[2 * cut :]}
    return Task("films", "tags", False, ("B-film", "I-film", "O"), metric, splits, "0" * 64)


def test_the_majority_is_the_commonest_tag():
    assert majority_score(make_task(), "test") == 0.0
    words = [tag for example in make_task().splits["test"] for tag in example.labels]
    assert majority_score(make_task(metric="accuracy"), "test") == pytest.approx(words.count("O") / len(words))


def test_spelling_tells_what_words_and_their_neighbours_decide():
    task = make_task()
    assert tfidf_scores(task) == {"validation": 1.0, "test": 1.0}
    assert tfidf_scores(task) == tfidf_scores(task)
    unknown = [
        Example(f"a {name}son was", None, ("O", "B-x", "O"), ("a", f"{name}son", "was")) for name in ("Ander", "Gib", "Wat")
    ]
    rows = [*unknown * 3, *(Example("a dog was", None, ("O", "O", "O"), ("a", "dog", "was")) for _ in range(9))]
    held_out = [Example("a Jackson was", None, ("O", "B-x", "O"), ("a", "Jackson", "was"))]
    names = Task("n", "tags", False, ("B-x", "O"), "entity_f1", {"train": rows, "validation": held_out, "test": held_out}, "")
    assert tfidf_scores(names)["test"] == 1.0  # by its ending and its shape


def test_a_probe_reads_the_states_of_words():
    task, model = make_task(), make_model()
    found = probe_words(model, TOKENIZER, task, 16, rows=20)
    assert found == probe_words(model, TOKENIZER, task, 16, rows=20)
    assert set(found) == {"validation", "test"}
    assert found["test"] > 0.9
    assert probe_words(model, TOKENIZER, task, 16, rows=20, splits=["test"]) == {"test": found["test"]}


def test_a_probe_counts_lost_words_as_outside():
    task = make_task()
    late = [Example("it " * 5 + "movie fine", None, ("O",) * 5 + ("B-film", "I-film"), ("it",) * 5 + ("movie", "fine"))] * 4
    splits = {**task.splits, "test": task.splits["test"] + late}
    longer = Task("films", "tags", False, task.labels, "entity_f1", splits, "")
    found = {length: probe_words(make_model(), TOKENIZER, longer, length, splits=["test"])["test"] for length in (16, 7)}
    cut = sum(example.label.index("B-film") >= 4 for example in splits["test"])  # of five tokens the name's last is lost
    assert found[16] == 1.0
    assert found[7] == pytest.approx(2 * (34 - cut) / (34 + 34 - sum(e.label.index("B-film") >= 5 for e in splits["test"])))


def test_a_single_tag_is_nothing_to_probe():
    task = make_task()
    plain = [Example("it was", None, ("O", "O"), ("it", "was"))] * 5
    with pytest.raises(ValueError, match="single tag"):
        probe_words(
            make_model(), TOKENIZER, Task("t", "tags", False, task.labels, "entity_f1", {**task.splits, "train": plain}, ""), 16
        )
