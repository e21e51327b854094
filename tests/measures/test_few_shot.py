from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.measures.test_probes import make_batch, make_model
from tofro.encoders.model import Model
from tofro.measures.few_shot import few_shot
from tofro.text.few_shot import Split, draw_split, read_split, row_hash, rows_of
from tofro.text.task import Example, Task


def make_task(labels: tuple[str, ...] = ("a", "b", "c"), rows: int = 60, name: str = "letters") -> Task:
    train = [Example(f"text {number}", None, labels[number % len(labels)]) for number in range(rows)]
    return Task(name, "classification", False, labels, "accuracy", {"train": train, "validation": train, "test": train}, "0")


def test_a_draw_has_k_rows_of_every_label_and_draws_differ() -> None:
    task = make_task()
    split = draw_split(task, 4, 5)
    drawn = rows_of(split, task)
    assert [Counter(str(row.label) for row in rows) for rows in drawn] == [{"a": 4, "b": 4, "c": 4}] * 5
    assert len({frozenset(draw) for draw in split.draws}) == 5
    assert all(len(set(draw)) == 12 for draw in split.draws)


def test_the_choice_hangs_on_content_and_draw_alone_and_smaller_ones_lie_within_larger() -> None:
    task = make_task()
    mixed = replace(task, name="other", splits={**task.splits, "train": task.splits["train"][::-1] * 2})
    one, same, larger = draw_split(task, 4, 3), draw_split(mixed, 4, 3), draw_split(task, 8, 3)
    assert [set(draw) for draw in one.draws] == [set(draw) for draw in same.draws]
    assert all(set(small) < set(large) for small, large in zip(one.draws, larger.draws, strict=True))
    assert draw_split(task, 4, 2).draws == one.draws[:2]


def test_a_row_is_known_by_all_that_it_says() -> None:
    row = Example("a", "b", "x")
    others = [Example("ab", None, "x"), Example("a", None, "x"), Example("b", "a", "x"), Example("a", "b", "y")]
    assert len({row_hash(each) for each in [row, *others]}) == 5
    assert row_hash(row) == row_hash(Example("a", "b", "x"))
    assert len(row_hash(row)) == 16


def test_a_regression_has_k_rows_in_all() -> None:
    train = [Example(f"text {number}", "other", number / 7) for number in range(30)]
    task = Task("scores", "regression", True, (), "spearman", {"train": train}, "0")
    assert [len(rows) for rows in rows_of(draw_split(task, 6, 2), task)] == [6, 6]


def test_a_label_with_too_few_rows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"method\.few_shot=21: letters has 20 different training rows of label 'a'"):
        draw_split(make_task(), 21, 1)


def write(path: Path, split: Split, **changes: Any) -> Path:
    path.write_text(json.dumps({**split.as_json(), **changes}), encoding="utf-8")
    return path


def test_a_split_file_comes_back_and_a_changed_one_does_not(tmp_path: Path) -> None:
    split = draw_split(make_task(), 4, 2)
    assert read_split(write(tmp_path / "s.json", split)) == split
    assert split.checksum == replace(split, task="renamed").checksum
    first = [list(split.draws[0]), list(split.draws[0])]
    for changes in ({"draws": first}, {"per_class": 3}, {"sha256": "0" * 64}):
        with pytest.raises(ValueError, match="checksum"):
            read_split(write(tmp_path / "s.json", split, **changes))
    for text in ("{}", "[", "[1]", '{"task": "x", "per_class": 1, "draws": 3, "sha256": ""}'):
        (tmp_path / "s.json").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=r"s\.json: is no split file"):
            read_split(tmp_path / "s.json")
    with pytest.raises(ValueError, match=r"method\.few_shot_splits: .*nowhere"):
        read_split(tmp_path / "nowhere")


def test_a_split_of_other_rows_or_other_counts_is_refused() -> None:
    task = make_task()
    split = draw_split(task, 4, 2)
    with pytest.raises(ValueError, match="4 of its rows"):
        rows_of(split, drop_label(task, "a"))
    with pytest.raises(ValueError, match="draw 0 has"):
        rows_of(replace(split, per_class=5), task)


def drop_label(task: Task, label: str) -> Task:
    return replace(task, splits={"train": [row for row in task.splits["train"] if row.label != label]})


def test_every_draw_is_fitted_on_its_rows_and_scored() -> None:
    task = make_task()
    seen: list[tuple[int, list[str]]] = []

    def fit(rows: Any, draw: int) -> Model:
        seen.append((draw, sorted(row_hash(row) for row in rows)))
        model = make_model()
        model.add_task_head(3, seed=draw)
        with torch.no_grad():
            model.heads["task"].linear.bias[draw % 3] += 100  # answers with the draw's number
        return model

    split = draw_split(task, 2, 3)
    batch = make_batch([3, 4, 5, 2], [0, 1, 2, 3], [0, 1, 1, 1])
    assert few_shot(task, split, fit, [batch]) == [0.25, 0.75, 0.0]
    assert seen == [(number, sorted(draw)) for number, draw in enumerate(split.draws)]
