"""Repeats and leaks are counted exactly, and loosely the same is what differs in case, spaces and punctuation alone."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter

import pytest

from tofro.text.duplicates import Leak, Seen, duplicate_notes, loosely
from tofro.text.settings import TaskSettings
from tofro.text.task import Example, read_task


def test_counts_are_those_of_a_plain_comparison() -> None:
    draw = random.Random(1)
    rows = [(draw.choice("abcdef"), draw.choice([None, "x", "y"]), draw.choice(["1", "2"])) for _ in range(400)]
    others = [(draw.choice("defghi"), draw.choice([None, "x", "y"]), "1") for _ in range(300)]
    train, test = Seen(), Seen()
    for seen, given in ((train, rows), (test, others)):
        for row in given:
            seen.add(*row)
    texts = Counter((a, b) for a, b, _ in rows)
    torn = sum(len({label for a, b, label in rows if (a, b) == text}) > 1 for text in texts)
    assert train.repeats() == (len(rows) - len(texts), torn)
    places = [place for place, (a, b, _) in enumerate(others) if (a, b) in texts]
    assert train.leaks_into(test, shown=3) == Leak(len(places), len(places), tuple(places[:3]))
    assert Seen().repeats() == (0, 0)
    assert Seen().leaks_into(test) == Leak(0, 0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Don't  panic!", "dont panic", True),
        ("ＡＢＣ１２", "abc12", True),
        ("STRASSE", "straße", True),
        ("房间很好，不错。", "房间很好不错", True),
        ("no", "on", False),
        ("...", "!!!", False),
        ("", " ", False),
    ],
)
def test_loosely_the_same(one: str, other: str, same: bool) -> None:
    assert (loosely(one) == loosely(other)) is same


def test_notes_tell_counts_and_nothing_where_there_is_nothing() -> None:
    def examples(*texts: str, label: str = "a") -> list[Example]:
        return [Example(text, None, label) for text in texts]

    train = [*examples("One.", "Two.", "Two."), *examples("One.", label="b")]
    notes = duplicate_notes({"train": train, "validation": examples("three"), "test": examples("two", "Two.", "four")})
    assert notes == [
        "train: 2 of 4 rows repeat the text of an earlier one; 1 texts have more than one label",
        "test: 1 of 3 rows also occur in train, 2 where case, spaces and punctuation don't count",
    ]
    assert duplicate_notes({"train": examples("a", "b"), "test": examples("c")}) == []


def test_a_run_keeps_its_duplicates_and_notes_them(tmp_path, write_rows) -> None:
    rows = [{"text": f"text {number % 30}", "label": "ab"[number % 2]} for number in range(40)]
    write_rows("train.jsonl", rows)
    write_rows("validation.jsonl", [{"text": "another", "label": "a"}])
    write_rows("test.jsonl", [{"text": "TEXT 3", "label": "a"}, {"text": "text 4", "label": "b"}])
    task = read_task(TaskSettings(name="file", path=str(tmp_path)))
    assert len(task.splits["train"]) == 40
    assert task.notes == (
        "train: 10 of 40 rows repeat the text of an earlier one",
        "test: 1 of 2 rows also occur in train, 2 where case, spaces and punctuation don't count",
    )


@pytest.mark.parametrize(
    ("name", "splits"), [("chnsenticorp", ("validation", "test")), ("cola", ("validation",)), ("mrpc", ("test",))]
)
def test_real_leaks_are_those_that_the_data_marks(shared, name: str, splits: tuple[str, ...]) -> None:
    """The data's own mark, `dup_of_train`, is set a little more loosely than for equal strings."""
    rows = {}
    for split in ("train", *splits):
        with gzip.open(shared / "tasks" / name / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
            rows[split] = [json.loads(line) for line in file]
    keys = {split: [(row.get("text", row.get("text_a")), row.get("text_b")) for row in each] for split, each in rows.items()}
    seen = {split: Seen() for split in rows}
    for split, each in keys.items():
        for text_a, text_b in each:
            seen[split].add(text_a, text_b, None)
    train = set(keys["train"])
    for split in splits:
        leak, marked = seen["train"].leaks_into(seen[split]), sum(bool(row.get("dup_of_train")) for row in rows[split])
        assert leak.exact == sum(key in train for key in keys[split])
        assert leak.exact <= marked <= leak.loose


def test_leaks_are_dropped_from_what_is_tested_on(tmp_path, write_rows) -> None:
    write_rows("train.jsonl", [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(20)])
    write_rows("validation.jsonl", [{"text": "TEXT 3!", "label": "a"}, {"text": "another", "label": "a"}])
    write_rows("test.jsonl", [{"text": "one more", "label": "a"}, {"text": "text 4", "label": "b"}])
    task, kept = (read_task(TaskSettings(name="file", path=str(tmp_path), on_leak=each)) for each in ("drop", "keep"))
    assert [[row.text_a for row in task.splits[split]] for split in ("validation", "test")] == [["another"], ["one more"]]
    assert task.splits["train"] == kept.splits["train"]
    assert task.notes == (
        "validation: 1 of 2 rows were dropped, for they occur in train (task.on_leak)",
        "test: 1 of 2 rows were dropped, for they occur in train (task.on_leak)",
    )
    assert len(kept.splits["test"]) == 2
    assert task.fingerprint != kept.fingerprint
    few = read_task(TaskSettings(name="file", path=str(tmp_path), on_leak="drop", train_rows=10))
    assert few.splits["test"] == task.splits["test"], "what is tested on does not follow how much is trained on"


def test_a_split_of_leaks_alone_is_refused(tmp_path, write_rows) -> None:
    write_rows("train.jsonl", [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(20)])
    write_rows("test.jsonl", [{"text": "text 4", "label": "b"}])
    with pytest.raises(ValueError, match=r"task\.on_leak=drop: every row of test occurs in train"):
        read_task(TaskSettings(name="file", path=str(tmp_path), on_leak="drop"))


@pytest.mark.parametrize(("name", "split"), [("chnsenticorp", "test"), ("tnews", "test"), ("trec", "test")])
def test_what_is_dropped_is_what_the_data_marks(shared, name: str, split: str) -> None:
    """A test without labels, tnews', is stood in for by validation."""
    file = "validation" if name == "tnews" else split
    with gzip.open(shared / "tasks" / name / f"{file}.jsonl.gz", "rt", encoding="utf-8") as lines:
        unmarked = [row["text"] for row in map(json.loads, lines) if not row.get("dup_of_train")]
    task = read_task(TaskSettings(name="file", path=str(shared / "tasks" / name), on_leak="drop"))
    assert [row.text_a for row in task.splits[split]] == unmarked
