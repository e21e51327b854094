from __future__ import annotations

import json
from collections import Counter

import pytest

from tofro.text.settings import TaskSettings
from tofro.text.task import read_task


def task_of(path, **changes):
    return read_task(TaskSettings(name="file", path=str(path), **changes))


def some_rows(count, labels=("no", "yes"), start=0):
    return [{"text": f"text {start + number}", "label": labels[number % len(labels)]} for number in range(count)]


def test_a_folder_of_splits_is_taken_as_it_is(tmp_path, write_rows):
    write_rows("movies/train.jsonl", some_rows(10))
    write_rows("movies/dev.jsonl", some_rows(4, start=10))
    write_rows("movies/test.jsonl", [{**row, "dup_of_train": True} for row in some_rows(6, start=20)])
    task = task_of(tmp_path / "movies")
    assert (task.name, task.kind, task.pair, task.labels, task.metric) == (
        "movies",
        "classification",
        False,
        ("no", "yes"),
        "accuracy",
    )
    assert {split: len(rows) for split, rows in task.splits.items()} == {"train": 10, "validation": 4, "test": 6}
    assert task.notes == ()
    assert task.splits["train"][1].text_a == "text 1"
    assert task.splits["train"][1].text_b is None


def test_a_single_file_is_carved_in_three_without_loss(write_rows):
    path = write_rows("own.jsonl", some_rows(200))
    task = task_of(path)
    assert {split: len(rows) > 5 for split, rows in task.splits.items()} == {"train": True, "validation": True, "test": True}
    assert sorted(example.text_a for rows in task.splits.values() for example in rows) == sorted(f"text {n}" for n in range(200))
    assert task == task_of(path)
    assert len(task.notes) == 2
    assert task.name == "own"


def test_equal_texts_are_carved_to_one_side(write_rows):
    task = task_of(write_rows("own.jsonl", some_rows(60) * 3), validation_share=0.3)
    texts = {split: {example.text_a for example in rows} for split, rows in task.splits.items()}
    assert not texts["train"] & texts["validation"]
    assert not texts["train"] & texts["test"]
    assert not texts["validation"] & texts["test"]


def test_an_unlabelled_test_is_replaced_by_validation(tmp_path, write_rows):
    write_rows("train.jsonl", some_rows(40))
    write_rows("validation.jsonl", some_rows(7, start=100))
    write_rows("test.jsonl", [{"text": f"t{number}"} for number in range(5)])
    task = task_of(tmp_path)
    assert [example.text_a for example in task.splits["test"]] == [f"text {100 + number}" for number in range(7)]
    assert len(task.splits["train"]) + len(task.splits["validation"]) == 40
    assert any("has no labels" in note for note in task.notes)
    assert any("validation file serves as test" in note for note in task.notes)
    write_rows("test.jsonl", [{"text": f"t{number}", "label": -1} for number in range(5)])
    assert task_of(tmp_path).splits["test"] == task.splits["test"]


def test_a_rare_label_stays_in_training(write_rows):
    for share in (0.1, 0.3, 0.5):
        task = task_of(write_rows("own.jsonl", [*some_rows(50), {"text": "rare", "label": "other"}]), validation_share=share)
        assert {example.label for example in task.splits["train"]} == {"no", "yes", "other"}


def test_columns_are_mapped_and_pairs_found(tmp_path, write_rows):
    path = tmp_path / "pairs.csv"
    path.write_text("premise,hypothesis,gold\n" + "".join(f"p{n},h{n},{n % 3}\n" for n in range(60)))
    task = task_of(path, text_a="premise", text_b="hypothesis", label="gold")
    assert task.pair
    assert task.labels == ("0", "1", "2")
    assert task.splits["train"][0].text_b.startswith("h")
    assert task_of(write_rows("p.jsonl", [{"text_a": f"{n}", "text_b": "b", "label": n % 2} for n in range(30)])).pair


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ([0.5, 3.0], "regression"),
        ([1.0, 2.0], "regression"),
        (["0.5", "3"], "regression"),
        ([1, 2.5], "regression"),
        ([0, 1], "classification"),
        (["0", "1"], "classification"),
        (["1.5", "high"], "classification"),
        ([True, False], "classification"),
    ],
)
def test_the_kind_follows_from_the_labels(write_rows, labels, kind):
    task = task_of(write_rows("own.jsonl", some_rows(60, labels)))
    assert task.kind == kind
    assert task.metric == ("spearman" if kind == "regression" else "accuracy")
    assert len(task.labels) == (0 if kind == "regression" else 2)
    assert all(isinstance(example.label, float if kind == "regression" else str) for example in task.splits["train"])


def test_train_rows_are_nested_and_keep_every_class(write_rows):
    path = write_rows("own.jsonl", [*some_rows(100), *({"text": f"r{n}", "label": "rare"} for n in range(2))])
    few, more = (task_of(path, train_rows=count).splits for count in (60, 75))
    assert len(few["train"]) == 60
    assert set(few["train"]) < set(more["train"])
    assert few["test"] == more["test"]
    with pytest.raises(ValueError, match=r"task\.train_rows=2: no row is left of label"):
        task_of(path, train_rows=2)
    with pytest.raises(ValueError, match=r"task\.train_rows=500: the training split has \d+ rows"):
        task_of(path, train_rows=500)


def test_validation_rows_are_nested_and_no_more_than_there_are(write_rows):
    path = write_rows("own.jsonl", some_rows(200))
    whole, few, more, all_of_them = (task_of(path, validation_rows=count) for count in (None, 5, 9, 10_000))
    assert len(few.splits["validation"]) == 5
    assert set(few.splits["validation"]) < set(more.splits["validation"]) < set(whole.splits["validation"])
    assert all_of_them.splits == whole.splits
    assert few.splits["train"] == whole.splits["train"]
    assert few.splits["test"] == whole.splits["test"]
    assert len({few.fingerprint, more.fingerprint, whole.fingerprint}) == 3


def test_bad_rows_are_counted(write_rows):
    rows = [*some_rows(40), {"text": " ", "label": "no"}, {"text": "x"}, {"text": 5, "label": "no"}, {"text": "y", "label": ""}]
    path = write_rows("own.jsonl", rows)
    with pytest.raises(ValueError, match=r"own\.jsonl:41: 'text' is empty"):
        task_of(path)
    task = task_of(path, on_bad_row="quarantine")
    assert task.notes[0] == ("train: 4 bad rows of own.jsonl set aside (lines 41, 42, 43, 44)")
    assert sum(map(len, task.splits.values())) == 40


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        (
            some_rows(9),
            {"label": "lable"},
            r"own\.jsonl:1: no column 'lable' \(task\.label\); there are 'text', 'label'; did you mean",
        ),
        (
            some_rows(9),
            {"text_a": "sentence"},
            r"no column 'sentence' \(task\.text_a\); there are 'text', 'label'; set task\.text_a",
        ),
        (some_rows(9), {"text_b": "text_b"}, r"no column 'text_b' \(task\.text_b\)"),
        (some_rows(9, ["only"]), {}, r"own\.jsonl: every training row has the label 'only'"),
        (some_rows(9), {"metric": "pearson"}, r"task\.metric=pearson does not suit a classification task"),
        (some_rows(9, [0.5]), {"metric": "f1"}, r"task\.metric=f1 does not suit a regression task"),
        (some_rows(99, ["a", "b", "c"]), {"metric": "f1"}, r"task\.metric=f1 is for two labels"),
        (some_rows(9), {"kind": "regression"}, r"own\.jsonl:1: label 'no' is no finite number"),
        (some_rows(9, [0.5, 1e999]), {"kind": "regression"}, r"own\.jsonl:2: "),
        (some_rows(2), {}, r"too few to hold some out"),
        ([{"text": ["a"], "label": "no"}], {}, r"own\.jsonl:1: 'text' is sound, but 'label' is no list of tags"),
        ([{"question": "q", "context": "c", "answers": []}], {}, r"question answering task, which is not supported"),
    ],
)
def test_a_task_that_cannot_be_used_is_refused(write_rows, rows, changes, message):
    with pytest.raises(ValueError, match=message):
        task_of(write_rows("own.jsonl", rows), **changes)


def test_a_label_unseen_in_training_is_refused_with_its_line(tmp_path, write_rows):
    write_rows("train.jsonl", some_rows(9, ["positive", "negative"]))
    write_rows("test.jsonl", [*some_rows(3, ["positive"]), {"text": "t", "label": "postive"}])
    with pytest.raises(ValueError, match=r"test\.jsonl:4: label 'postive' never occurs in training.*did you mean 'positive'"):
        task_of(tmp_path)


def test_folders_that_name_no_or_two_train_files_are_refused(tmp_path, write_rows):
    with pytest.raises(ValueError, match=r"task\.path is not set"):
        read_task(TaskSettings(name="file"))
    with pytest.raises(ValueError, match=r"task\.path: .*gone does not exist"):
        task_of(tmp_path / "gone")
    with pytest.raises(ValueError, match="has no train file"):
        task_of(tmp_path)
    write_rows("train.jsonl", some_rows(9))
    (tmp_path / "train.csv").write_text("text,label\n")
    with pytest.raises(ValueError, match=r"has both train\.csv and train\.jsonl"):
        task_of(tmp_path)


def test_the_fingerprint_follows_content_and_reading(write_rows):
    path = write_rows("own.jsonl", some_rows(50))
    prints = [task_of(path).fingerprint, task_of(path, train_rows=20).fingerprint]
    write_rows("own.jsonl", some_rows(51))
    prints.append(task_of(path).fingerprint)
    write_rows("own.jsonl", some_rows(50))
    assert len(set(prints)) == 3
    assert task_of(path).fingerprint == prints[0]


COUNTS = {  # rows in train, validation, test as published with the data; None: a test without labels
    "ag_news": (14792, 1600, 7600),
    "chnsenticorp": (9600, 1200, 1200),
    "cola": (8551, 1043, None),
    "mrpc": (3668, 408, 1725),
    "rte": (2490, 277, None),
    "snli_subset": (19996, 9842, 9824),
    "sst2": (67349, 872, 1821),
    "sst2_sentences": (6920, 872, 1821),
    "stsb": (5749, 1500, 1379),
    "tnews": (53360, 10000, None),
    "trec": (4952, 500, 500),
}


@pytest.mark.parametrize("name", COUNTS)
def test_real_tasks_load_with_their_published_counts(shared, name):
    task = task_of(shared / "tasks" / name)
    sizes = {split: len(rows) for split, rows in task.splits.items()}
    train, validation, test = COUNTS[name]
    if test is None:
        assert sizes["test"] == validation
        assert sizes["train"] + sizes["validation"] == train
    else:
        assert tuple(sizes.values()) == COUNTS[name]
    assert task.kind == ("regression" if name == "stsb" else "classification")
    assert max(Counter(type(example.label) for example in task.splits["test"]).values()) == sizes["test"]


def test_a_real_task_of_another_kind_is_refused(shared):
    with pytest.raises(ValueError, match="question answering"):
        task_of(shared / "tasks" / "squad2_subset")


def test_rows_keep_unicode_and_order(write_rows):
    rows = [{"text": f"第{n}句 é", "label": "no" if n % 2 else "yes"} for n in range(50)]
    kept = [example.text_a for example in task_of(write_rows("own.jsonl", rows)).splits["train"]]
    assert kept == [row["text"] for row in rows if row["text"] in set(kept)]
    assert json.loads(json.dumps(kept)) == kept
