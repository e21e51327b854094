"""Tasks of saved datasets, from Parquet and from globs; names that can't be fetched say what to do instead."""

from __future__ import annotations

import gzip
import json
import sys

import pytest

from tofro.text.hub_task import mark_spans, read_hub_task
from tofro.text.settings import HubTaskSettings, TaskSettings
from tofro.text.task import read_task

datasets = pytest.importorskip("datasets", reason="needs the extra hub")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra hub")


def hub(**changes):
    return read_hub_task(HubTaskSettings(**{"name": "hub"} | changes))


def made(count, start=0, **more):
    rows = range(start, start + count)
    features = datasets.Features(
        {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["negative", "positive"])}
    )
    return datasets.Dataset.from_dict(
        {"sentence": [f"text {n}" for n in rows], "label": [n % 2 for n in rows]}, features=features
    )


def withheld(count):
    return made(count, 900).map(lambda row: {"label": -1})


@pytest.fixture
def saved(tmp_path):
    splits = datasets.DatasetDict({"train": made(40), "validation": made(10, 100), "test": withheld(5)})
    splits.save_to_disk(str(tmp_path / "reviews"))
    return tmp_path / "reviews"


def test_a_saved_dataset_is_a_task_with_the_names_of_its_classes(saved):
    task = hub(path=str(saved), hub_text_a="sentence", hub_label="label")
    assert (task.name, task.kind, task.labels) == ("reviews", "classification", ("negative", "positive"))
    assert {split: len(rows) for split, rows in task.splits.items()}["test"] == 10  # validation: the test's labels are withheld
    assert sum(map(len, task.splits.values())) == 50
    assert {(example.text_a, example.label) for example in task.splits["test"]} == {
        (f"text {n}", "positive" if n % 2 else "negative") for n in range(100, 110)
    }
    assert any("has no labels" in note for note in task.notes)
    assert hub(path=str(saved), text_a="sentence").fingerprint == task.fingerprint
    assert hub(path=str(saved), text_a="sentence", validation_split=None).fingerprint != task.fingerprint


def test_the_same_task_from_files_with_tofros_columns_or_the_datasets(tmp_path, saved, write_rows):
    named = {"hub_text_a": "sentence", "hub_label": "label"}
    expected = hub(path=str(saved), **named)
    for folder, column in (("ours", "text"), ("theirs", "sentence")):
        for split, rows in (("train", range(40)), ("validation", range(100, 110))):
            write_rows(
                f"{folder}/{split}.jsonl",
                [{column: f"text {n}", "label": "positive" if n % 2 else "negative"} for n in rows],
            )
        task = hub(path=str(tmp_path / folder), **named)
        assert task.splits == expected.splits
    with pytest.raises(ValueError, match=r"no column 'body' \(task\.text_a\)"):
        hub(path=str(tmp_path / "ours"), text_a="body", **named)


def test_parquet_gives_what_json_lines_give(tmp_path, write_rows):
    rows = [{"text": f"text {n} é", "label": "ab"[n % 2]} for n in range(60)]
    write_rows("json/train.jsonl", rows[:50])
    write_rows("json/test.jsonl", rows[50:])
    (tmp_path / "parquet").mkdir()
    for name, part in (("train-00000-of-00002", rows[:30]), ("train-00001-of-00002", rows[30:50]), ("test", rows[50:])):
        datasets.Dataset.from_list(part).to_parquet(str(tmp_path / "parquet" / f"{name}.parquet"))
    ours = read_task(TaskSettings(name="file", path=str(tmp_path / "json")))
    theirs = read_task(TaskSettings(name="file", path=str(tmp_path / "parquet")))
    assert theirs.splits == ours.splits
    made(40).to_parquet(str(tmp_path / "named.parquet"))
    assert read_task(TaskSettings(name="file", path=str(tmp_path / "named.parquet"), text_a="sentence")).labels == (
        "negative",
        "positive",
    )


def test_tags_of_a_dataset_are_names(tmp_path):
    features = datasets.Features(
        {"tokens": [datasets.Value("string")], "ner_tags": [datasets.ClassLabel(names=["O", "B-x", "I-x"])]}
    )
    rows = {"tokens": [["Ada", f"word{n}"] for n in range(40)], "ner_tags": [[1, 0]] * 20 + [[0, 0]] * 20}
    datasets.DatasetDict({"train": datasets.Dataset.from_dict(rows, features=features)}).save_to_disk(str(tmp_path / "ner"))
    task = hub(path=str(tmp_path / "ner"), kind="tags", metric="entity_f1", hub_text_a="tokens", hub_label="ner_tags")
    assert (task.kind, task.labels, task.metric) == ("tags", ("B-x", "O"), "entity_f1")


def test_lists_of_strings_are_joined_where_told(tmp_path):
    rows = {"abst": [f"a {n}" for n in range(40)], "keyword": [["x", "y"]] * 40, "label": ["0", "1"] * 20}
    datasets.DatasetDict({"train": datasets.Dataset.from_dict(rows)}).save_to_disk(str(tmp_path / "csl"))
    named = {"path": str(tmp_path / "csl"), "hub_text_a": "abst", "hub_text_b": "keyword", "hub_label": "label"}
    assert hub(**named, join="、").splits["test"][0].text_b == "x、y"
    with pytest.raises(ValueError, match="'keyword' is list, a string was expected"):
        hub(**named, kind="classification")


def test_two_spans_are_marked_in_the_text(tmp_path):
    def row(number, index=0):
        spans = {"span1_text": "小明", "span1_index": index, "span2_text": "他", "span2_index": 5}
        return {"text": f"小明喜欢，他说{number}", "target": spans, "label": str(number % 2)}

    named = {"hub_text_a": "text", "hub_label": "label", "spans": "target"}
    datasets.DatasetDict({"train": datasets.Dataset.from_list(list(map(row, range(40))))}).save_to_disk(str(tmp_path / "wsc"))
    texts = {example.text_a for rows in hub(path=str(tmp_path / "wsc"), **named).splits.values() for example in rows}
    assert texts == {f"[小明]喜欢，_他_说{number}" for number in range(40)}
    rows = [*map(row, range(40)), row(40, index=1), row(41, index=4) | {"text": "x"}]
    datasets.DatasetDict({"train": datasets.Dataset.from_list(rows)}).save_to_disk(str(tmp_path / "odd"))
    with pytest.raises(ValueError, match=r":41: 'target' marks no two spans of the text \('小明' is not at 1\)"):
        hub(path=str(tmp_path / "odd"), **named)
    assert "train: 2 bad rows" in hub(path=str(tmp_path / "odd"), on_bad_row="quarantine", **named).notes[0]


def test_spans_that_come_in_any_order_are_marked_and_those_that_overlap_are_not():
    spans = {"span1_text": "bc", "span1_index": 1, "span2_text": "a", "span2_index": 0}
    assert mark_spans("abcd", spans) == "_a_[bc]d"
    with pytest.raises(LookupError, match="overlap"):
        mark_spans("abcd", spans | {"span2_text": "ab"})


def test_a_glob_is_cut_into_splits_by_the_files_names(tmp_path, write_rows):
    for number in range(3):
        write_rows(f"data/part{number}.jsonl", [{"text": f"p{number} {n}", "label": "ab"[n % 2]} for n in range(10)])
    rows = [{"text": f"v {n}", "label": "ab"[n % 2]} for n in range(4)]
    (tmp_path / "data" / "dev.csv.gz").write_bytes(
        gzip.compress(("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in rows)).encode())
    )
    write_rows("data/test-1.jsonl", [{"text": "t", "label": "a"}])
    task = read_task(TaskSettings(name="file", path=str(tmp_path / "data" / "*")))
    assert {split: len(rows) for split, rows in task.splits.items()} == {"train": 30, "validation": 4, "test": 1}
    assert [example.text_a for example in task.splits["train"]][:11] == [f"p0 {n}" for n in range(10)] + ["p1 0"]
    only = read_task(TaskSettings(name="file", path=str(tmp_path / "data" / "part*.jsonl")))
    assert sum(map(len, only.splits.values())) == 30
    for pattern, said in (("no*", "no file that ends in"), ("test-*", "there is none to train on")):
        with pytest.raises(ValueError, match=said):
            read_task(TaskSettings(name="file", path=str(tmp_path / "data" / pattern)))
    write_rows("data/part2.jsonl", [{"text": "x", "lable": "a"}])
    with pytest.raises(ValueError, match=r"part2\.jsonl:1: no column 'label'"):
        read_task(TaskSettings(name="file", path=str(tmp_path / "data" / "*")))


def test_the_positive_label_is_the_last(write_rows):
    path = str(write_rows("own.jsonl", [{"text": f"{n}", "label": ["same", "other"][n % 2]} for n in range(40)]))
    plain, named = (read_task(TaskSettings(name="file", path=path, metric="f1", positive=each)) for each in (None, "other"))
    assert (plain.labels, named.labels) == (("other", "same"), ("same", "other"))
    assert plain.fingerprint != named.fingerprint
    with pytest.raises(ValueError, match=r"task\.positive=oter: no such label; there are 'other', 'same'"):
        read_task(TaskSettings(name="file", path=path, positive="oter"))


def test_bad_parquet_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    made(2000).to_parquet(str(path))
    whole = path.read_bytes()
    for content in (b"", b"PAR1", whole[:-9], whole[:400] + b"\0" * 900 + whole[1300:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.parquet: not readable as Parquet"):
            read_task(TaskSettings(name="file", path=str(path), text_a="sentence"))


def test_a_name_that_cannot_be_fetched_tells_the_local_way(monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"task\.dataset=no/such: can't be fetched .*task\.path=FOLDER.*save_to_disk"):
        hub(dataset="no/such")
    with pytest.raises(ValueError, match=r"columns text_a, text_b and label"):
        hub(dataset="no/such", hub_text_a="a", hub_text_b="b")
    with pytest.raises(ValueError, match=r"one of task\.dataset=NAME .* and task\.path"):
        hub()


@pytest.mark.parametrize("missing", ["datasets", "pyarrow"])
def test_a_missing_extra_is_named(tmp_path, monkeypatch, missing):
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ValueError, match=r"needs the extra hub, which is not installed: pip install 'tofro\[hub\]'"):
        hub(dataset="a/b") if missing == "datasets" else hub(path=str(tmp_path / "c.parquet"))


def test_a_damaged_or_partial_dataset_is_named(saved):
    with pytest.raises(ValueError, match=r"task\.train_split=all: no such split in .*; it has train, validation, test"):
        hub(path=str(saved), train_split="all")
    (saved / "train" / "state.json").write_text(json.dumps({}))
    with pytest.raises(ValueError, match="can't be opened"):
        hub(path=str(saved))


def test_without_an_address_the_hub_is_not_tried_again_and_again(monkeypatch):
    from datasets import config
    from huggingface_hub import constants

    from tofro.text import extras

    def no_address(*unused):
        raise OSError("Name or service not known")

    monkeypatch.setattr(extras.urllib.request, "getproxies", dict)
    for lookup, offline in ((no_address, True), (lambda *unused: [], False)):
        monkeypatch.setattr(extras.socket, "getaddrinfo", lookup)
        with extras.hub_or_cache():
            assert offline == constants.HF_HUB_OFFLINE == config.HF_HUB_OFFLINE
        assert not constants.HF_HUB_OFFLINE
    monkeypatch.setattr(extras.urllib.request, "getproxies", lambda: {"https": "http://proxy"})
    assert extras._has_address("nowhere.invalid")
