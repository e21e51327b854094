"""Token tagging: rows of words and tags become a task, entities are those of the CoNLL rules, counts of parts add up."""

from __future__ import annotations

import random

import pytest

from tofro.text.settings import TaskSettings
from tofro.text.tags import count_tags, entities, score_counts
from tofro.text.task import Task, read_task

TAGS = ["O", "B-a", "I-a", "E-a", "S-a", "B-b", "I-b", "E-b", "S-b", "B-b-c", "B", "I"]


def task_of(path, **changes) -> Task:
    return read_task(TaskSettings(name="file", path=str(path), **changes))


def tagged(words: str, tags: str) -> dict[str, list[str]]:
    return {"tokens": words.split(), "tags": tags.split()}


def some_rows(count: int, start: int = 0) -> list[dict[str, list[str]]]:
    return [tagged(f"Ada {start + number} visits New York .", "B-person O O B-place I-place O") for number in range(count)]


def test_words_and_their_tags_make_a_task(tmp_path, write_rows) -> None:
    write_rows("names/train.jsonl", some_rows(10))
    write_rows("names/validation.jsonl", some_rows(4, start=10))
    write_rows("names/test.jsonl", some_rows(6, start=20))
    task = task_of(tmp_path / "names")
    assert (task.kind, task.metric, task.pair) == ("tags", "entity_f1", False)
    assert task.labels == ("B-person", "B-place", "I-place", "O")
    assert {split: len(rows) for split, rows in task.splits.items()} == {"train": 10, "validation": 4, "test": 6}
    example = task.splits["train"][1]
    assert example.words == ("Ada", "1", "visits", "New", "York", ".")
    assert example.text_a == "Ada 1 visits New York ."
    assert example.label == ("B-person", "O", "O", "B-place", "I-place", "O")
    assert task.fingerprint != task_of(tmp_path / "names", metric="accuracy", train_rows=5).fingerprint


def test_columns_and_metrics_may_be_named(write_rows) -> None:
    rows = [{"words": row["tokens"], "ner": row["tags"], "text": "as it was"} for row in some_rows(30)]
    path = write_rows("own.jsonl", rows)
    task = task_of(path, text_a="words", label="ner", metric="macro_f1")
    assert (task.kind, task.metric) == ("tags", "macro_f1")
    classes = [tagged(f"the {number} dog", "DET NUM NOUN") for number in range(30)]
    assert task_of(write_rows("own.jsonl", classes)).metric == "accuracy"
    assert task_of(path, metric="entity_f1").metric == "entity_f1"


def test_what_is_missing_is_carved_and_chosen_by_content_and_every_tag_keeps_a_training_row(write_rows) -> None:
    rare = [tagged("Only here", "O I-rare")]
    path = write_rows("own.jsonl", [*some_rows(100), *rare])
    for share in (0.1, 0.5):
        task = task_of(path, validation_share=share)
        assert "I-rare" in {tag for example in task.splits["train"] for tag in example.labels}
        assert sum(map(len, task.splits.values())) == 101
    plain = write_rows("plain.jsonl", some_rows(100))
    few, more = (task_of(plain, train_rows=count).splits["train"] for count in (50, 70))
    assert set(few) < set(more)
    with pytest.raises(ValueError, match=r"task\.train_rows=2: no row is left of label 'I-rare'"):
        task_of(path, train_rows=2)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, r"'tokens' is a list of 2 words, but 'tags' has 1 tags"),
        ({"tokens": [], "tags": []}, r"'tokens' is an empty list"),
        ({"tokens": ["a", 5], "tags": ["O", "O"]}, r"word 2 is int, a string was expected"),
        ({"tokens": ["a", "x\0"], "tags": ["O", "O"]}, r"word 2 holds a NUL"),
        ({"tokens": [" ", ""], "tags": ["O", "O"]}, r"a list of blank words"),
        ({"tokens": "a b", "tags": ["O", "O"]}, r"'tokens' is str, a list of words was expected"),
        ({"tokens": ["a"], "tags": "O"}, r"'tags' is no list of tags"),
        ({"tokens": ["a"], "tags": [3]}, r"'tags' is no list of tags, which are strings"),
        ({"tokens": ["a"]}, r"the label 'tags' is missing"),
    ],
)
def test_a_bad_row_is_named_or_set_aside(write_rows, row, message) -> None:
    path = write_rows("own.jsonl", [*some_rows(30), row])
    with pytest.raises(ValueError, match=r"own\.jsonl:31: .*" + message):
        task_of(path)
    task = task_of(path, on_bad_row="quarantine")
    assert task.notes[0] == "train: 1 bad rows of own.jsonl set aside (lines 31)"
    assert sum(map(len, task.splits.values())) == 30


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        ([tagged("a b", "O O")] * 9, {}, r"own\.jsonl: every training word has the tag 'O'"),
        (some_rows(9), {"metric": "f1"}, r"task\.metric=f1 does not suit a tags task"),
        (some_rows(9), {"kind": "classification"}, r"no column 'text'"),
        (some_rows(9), {"label": "ner"}, r"no column 'ner' \(task\.label\)"),
        ([{**row, "text_b": "x"} for row in some_rows(9)], {}, r"task\.text_b=text_b: words are tagged in one text"),
        ([{"text": "a", "label": "b"}] * 9, {"kind": "tags"}, r"no column 'tokens' \(task\.text_a\)"),
    ],
)
def test_a_task_that_cannot_be_used_is_refused(write_rows, rows, changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        task_of(write_rows("own.jsonl", rows), **changes)


def test_a_table_has_no_lists(tmp_path) -> None:
    (tmp_path / "own.csv").write_text("tokens,tags\n" + "a b,O B-x\n" * 9)
    with pytest.raises(ValueError, match=r"own\.csv:2: 'tokens' is str, a list of words was expected"):
        task_of(tmp_path / "own.csv", kind="tags")


def test_a_tag_unseen_in_training_is_refused_with_its_line(tmp_path, write_rows) -> None:
    write_rows("train.jsonl", some_rows(9))
    write_rows("test.jsonl", [*some_rows(3), tagged("Ada", "B-persn")])
    with pytest.raises(ValueError, match=r"test\.jsonl:4: label 'B-persn' never occurs in training.*did you mean 'B-person'"):
        task_of(tmp_path)


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("B-a I-a O", [("a", 0, 2)]),
        ("B-a B-a", [("a", 0, 1), ("a", 1, 2)]),
        ("O I-a I-a", [("a", 1, 3)]),  # I after O begins an entity
        ("B-a I-b I-b", [("a", 0, 1), ("b", 1, 3)]),  # and so does a change of type
        ("I-a B-a I-a", [("a", 0, 1), ("a", 1, 3)]),
        ("B-a I-a E-a I-a", [("a", 0, 3), ("a", 3, 4)]),
        ("S-a S-a E-a", [("a", 0, 1), ("a", 1, 2), ("a", 2, 3)]),
        ("B M E S", [("", 0, 3), ("", 3, 4)]),
        ("B-a I-a L-a U-a", [("a", 0, 3), ("a", 3, 4)]),
        ("DET NOUN NOUN", [("DET", 0, 1), ("NOUN", 1, 3)]),
        ("B-work-of-art I-work-of-art", [("work-of-art", 0, 2)]),
        ("O O", []),
    ],
)
def test_entities_follow_the_rules_of_the_conll_script(tags: str, found: list[tuple[str, int, int]]) -> None:
    assert entities(tags.split()) == found


def begins(last: str, last_type: str, place: str, kind: str) -> bool:
    """When a chunk begins, as the script lists the cases one by one."""
    cases = {*("BB", "IB", "OB", "EB", "SB"), *("BS", "IS", "OS", "ES", "SS"), *("EE", "EI", "SE", "SI", "OE", "OI")}
    return last + place in cases or (place != "O" and last_type != kind)


def ends(last: str, last_type: str, place: str, kind: str) -> bool:
    """When a chunk ends before the present word."""
    cases = {"BB", "BS", "BO", "IB", "IS", "IO"} | {first + second for first in "ES" for second in "BIESO"}
    return last + place in cases or (last != "O" and last_type != kind)


def test_entities_equal_the_scripts_cases_on_random_tags() -> None:
    draw = random.Random(0)
    for _ in range(2000):
        tags = draw.choices(TAGS, k=draw.randint(1, 9))
        found, start, last = [], 0, ("O", "")
        for number, tag in enumerate([*tags, "O"]):
            now = (tag[0], tag[2:])
            if ends(*last, *now):
                found.append((last[1], start, number))
            if begins(*last, *now):
                start = number
            last = now
        assert entities(tags) == found, tags


def drawn(seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """Forty texts of random tags, and predictions of which six in ten are right."""
    draw = random.Random(seed)
    true = [draw.choices(TAGS, k=draw.randint(1, 9)) for _ in range(40)]
    return [[tag if draw.random() < 0.6 else draw.choice(TAGS) for tag in row] for row in true], true


SEQEVAL = {0: 0.6109510086455332, 1: 0.6098191214470285, 2: 0.5853658536585366, 3: 0.6569767441860465}


@pytest.mark.parametrize("seed", SEQEVAL)
def test_entity_f1_is_that_of_seqeval(seed: int) -> None:
    """Computed once with seqeval 1.2.2, whose last release is of 2020 and has no wheel, so it is no dependency."""
    assert score_counts(count_tags("entity_f1", TAGS, *drawn(seed))) == pytest.approx(SEQEVAL[seed], abs=1e-12)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_word_metrics_are_those_of_scikit_learn(metric: str) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    predicted, true = drawn(1)
    flat = [[tag for row in rows for tag in row] for rows in (true, predicted)]
    expected = accuracy_score(*flat) if metric == "accuracy" else f1_score(*flat, average="macro")
    assert score_counts(count_tags(metric, TAGS, predicted, true)) == pytest.approx(expected)


@pytest.mark.parametrize("metric", ["entity_f1", "accuracy", "macro_f1"])
def test_counts_of_parts_add_up(metric: str) -> None:
    predicted, true = drawn(2)
    parts = [count_tags(metric, TAGS, predicted[part], true[part]) for part in (slice(0, 3), slice(3, 40))]
    summed = [[one + other for one, other in zip(*rows, strict=True)] for rows in zip(*parts, strict=True)]
    assert summed == count_tags(metric, TAGS, predicted, true)
    assert score_counts(count_tags(metric, TAGS, true, true)) == 1.0


def test_all_outside_finds_no_entity() -> None:
    _, true = drawn(3)
    outside = [["O"] * len(row) for row in true]
    assert score_counts(count_tags("entity_f1", TAGS, outside, true)) == 0.0
    assert score_counts(count_tags("entity_f1", TAGS, outside, outside)) == 0.0
    assert count_tags("macro_f1", ("DET",), [["O"]], [["DET"]]) == [[0, 0, 1]]  # O may be none of the labels


def test_the_real_task_loads_with_its_published_counts(shared) -> None:
    task = task_of(shared / "tasks" / "wnut17")
    assert (task.kind, task.metric, len(task.labels)) == ("tags", "entity_f1", 13)
    assert [len(rows) for rows in task.splits.values()] == [3394, 1009, 1287]
    assert [sum(len(entities(example.labels)) for example in rows) for rows in task.splits.values()] == [1975, 836, 1079]
