"""A run's own few rows: k of each label to train on, k others to validate on, none from the test split."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tofro.text.few_shot import Split, draw_own, draw_split, few_rows, own_split, row_hash
from tofro.text.fingerprint import hash_json
from tofro.text.settings import TaskSettings
from tofro.text.task import Example, Task


def rows(part: str, count: int) -> list[Example]:
    return [Example(f"{part} text {number}", None, "abc"[number % 3]) for number in range(count)]


TASK = Task(
    "letters",
    "classification",
    False,
    ("a", "b", "c"),
    "accuracy",
    {"train": rows("train", 90), "validation": rows("validation", 30), "test": rows("test", 30)},
    "0" * 64,
)


def settings(**keys: Any) -> TaskSettings:
    return TaskSettings(name="letters", **keys)


def few(task: Task = TASK, **keys: Any) -> Task:
    split = own_split(task, settings(**keys))
    assert split is not None
    return few_rows(task, split)


def names(examples: list[Example]) -> set[str]:
    return {row_hash(example) for example in examples}


def test_k_of_each_label_train_and_k_others_validate_and_the_test_split_stays() -> None:
    task = few(per_class=4)
    for split in ("train", "validation"):
        assert Counter(row.label for row in task.splits[split]) == {"a": 4, "b": 4, "c": 4}
        assert names(task.splits[split]) <= names(TASK.splits["train"])
    assert not names(task.splits["train"]) & names(task.splits["validation"])
    assert task.splits["test"] == TASK.splits["test"]
    assert "4 rows of each label" in task.notes[-1]
    assert "90 rows" in task.notes[-1]


def test_the_rows_are_those_of_the_few_shot_measure() -> None:
    measured = draw_split(TASK, 4, 3)
    for draw in range(3):
        assert names(few(per_class=4, draw=draw).splits["train"]) == set(measured.draws[draw])


def test_smaller_choices_lie_within_larger_ones_and_draws_differ() -> None:
    small, large, other = few(per_class=4), few(per_class=15), few(per_class=4, draw=1)
    for split in ("train", "validation"):
        assert names(small.splits[split]) < names(large.splits[split])
        assert names(small.splits[split]) != names(other.splits[split])


def test_neither_order_nor_repeats_nor_the_other_splits_bear_on_the_choice() -> None:
    mixed = replace(TASK, splits={"train": TASK.splits["train"][::-1] * 2, "validation": [], "test": rows("more", 3)})
    one, other = draw_own(TASK, 5, 2), draw_own(mixed, 5, 2)
    assert set(one.draws[0]) == set(other.draws[0])
    assert set(one.validation[0]) == set(other.validation[0])


def test_the_fingerprint_says_which_rows() -> None:
    kinds = [{"per_class": 4}, {"per_class": 5}, {"per_class": 4, "draw": 1}]
    prints = [TASK.fingerprint, *(few(**kind).fingerprint for kind in kinds)]
    assert len(set(prints)) == 4
    assert few(per_class=4).fingerprint == prints[1]


def test_a_split_without_rows_to_validate_on_keeps_the_checksum_it_always_had() -> None:
    assert Split("x", 1, (("a", "b"),)).checksum == hash_json([1, [["a", "b"]]])
    assert "validation" not in Split("x", 1, (("a", "b"),)).as_json()


def test_all_rows_unless_few_are_asked_for() -> None:
    assert own_split(TASK, settings()) is None


def test_a_regression_has_k_rows_in_all() -> None:
    scores = [Example(f"text {number}", None, number / 7) for number in range(30)]
    task = few(
        replace(TASK, kind="regression", labels=(), splits={"train": scores, "validation": [], "test": scores}), per_class=6
    )
    assert [len(task.splits[split]) for split in ("train", "validation", "test")] == [6, 6, 30]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"per_class": 16}, r"task\.per_class=16: letters has 30 .* rows of label 'a', and it takes 16 .* and 16 to validate on"),
        ({"per_class": 4, "train_rows": 50}, r"task\.train_rows=50: task\.per_class chooses the training rows already"),
        ({"per_class": 4, "validation_rows": 9}, r"task\.validation_rows=9: task\.per_class chooses those rows too"),
        ({"draw": 2}, r"task\.draw=2: .* set task\.per_class or task\.split_file"),
        ({"split_file": "nowhere.json"}, r"task\.split_file: nowhere\.json can't be read"),
    ],
)
def test_what_can_not_be_chosen_names_its_key(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        few(**keys)


def test_tags_have_no_few_rows_of_each_class() -> None:
    with pytest.raises(ValueError, match=r"task\.per_class: letters tags words.*task\.train_rows"):
        few(replace(TASK, kind="tags"), per_class=4)


# -- split files -----------------------------------------------------------------------------------------------------------------


def write(path: Path, split: Split, **changes: Any) -> str:
    path.write_text(json.dumps({**split.as_json(), **changes}), encoding="utf-8")
    return str(path)


def test_a_split_file_takes_the_place_of_the_draw(tmp_path: Path) -> None:
    place = write(tmp_path / "s.json", draw_own(TASK, 4, 3))
    assert few(split_file=place) == few(per_class=4, draw=3) == few(split_file=place, per_class=4)


def test_a_file_of_several_draws_is_read_by_number(tmp_path: Path) -> None:
    drawn = [draw_own(TASK, 4, draw) for draw in (5, 6)]
    both = Split("letters", 4, tuple(each.draws[0] for each in drawn), tuple(each.validation[0] for each in drawn))
    assert few(split_file=write(tmp_path / "s.json", both), draw=1) == few(per_class=4, draw=6)


def test_a_changed_or_unfit_split_file_is_refused(tmp_path: Path) -> None:
    split, path = draw_own(TASK, 4, 0), tmp_path / "s.json"
    moved = {"draws": split.validation, "validation": split.draws}
    refused: list[tuple[Split, dict[str, Any], dict[str, Any], str]] = [
        (split, moved, {}, "checksum"),
        (split, {"validation": [split.draws[0]]}, {}, "checksum"),
        (replace(split, validation=split.draws), {}, {}, r"s\.json: .* both trained and validated on"),
        (draw_split(TASK, 4, 1), {}, {}, "no rows to validate on"),
        (split, {}, {"draw": 1}, r"task\.draw=1: .* has 1 draws"),
        (split, {}, {"per_class": 5}, r"task\.per_class=5: .* chooses 4"),
        (replace(split, draws=(split.draws[0][:-1],)), {}, {}, r"s\.json: .* draw 0 has"),
        (replace(split, validation=(tuple(map(row_hash, TASK.splits["test"][:12])),)), {}, {}, "not in letters's train"),
    ]
    for given, changes, keys, message in refused:
        with pytest.raises(ValueError, match=message):
            few(split_file=write(path, given, **changes), **keys)
