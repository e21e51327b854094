"""An id depends on what bears on the result, and on nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tofro.config.compose import compose
from tofro.config.identity import Identity, identity
from tofro.config.schema import NEUTRAL_GROUPS, NEUTRAL_KEYS, SETTINGS, RunConfig


def fingerprint(what: str) -> str:
    """Hash a file or a folder's files; stand in for the built-in data."""
    if what == "pydoc":
        return "p" * 64
    path = Path(what)
    if not path.exists():
        raise ValueError(f"{what}: no such file")
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def identify(*overrides: str) -> Identity:
    return identity(compose(list(overrides)), fingerprint)


def test_the_name_says_method_data_seed_and_id() -> None:
    who = identify("method=two_way", "seed=3")
    assert re.fullmatch(r"two_way-pydoc_kind-s3-[0-9a-f]{8}", who.name)
    assert who.name.endswith(who.id)
    assert identify("method=pretrain").name.startswith("pretrain-pydoc-s0-")


def test_the_id_is_the_hash_of_the_canonical_json() -> None:
    who = identify("method=full")
    text = json.dumps(who.full, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert who.id == hashlib.sha256(text.encode()).hexdigest()[:8]
    assert json.loads(text) == who.full


def test_order_and_spelled_out_defaults_do_not_matter() -> None:
    who = identify("method=two_way", "budget.batch=8", "seed=1")
    assert identify("seed=1", "budget.batch=8", "method=two_way") == who
    spelled_out = ["alignment.weight=0.1", "optimizer.beta1=0.9", "tuning=all", "task.path=null", "encoder=mini"]
    assert identify("method=two_way", "budget.batch=8", "seed=1", *spelled_out) == who


def test_words_count_by_where_they_come_from(tmp_path: Path) -> None:
    file = tmp_path / "corpus.txt"
    file.write_text("Text.\n")
    own = ["method=pretrain", "corpus=text", f"corpus.path={file}"]
    assert identify(*own, "corpus.words=tokenizer") == identify(*own)
    assert "corpus.words" not in identify(*own).full
    chinese = identify(*own, "corpus.language=zh")
    assert chinese.full["corpus.words"] == "segmenter"
    assert identify(*own, "corpus.language=zh", "corpus.words=segmenter") == chinese
    assert identify(*own, "corpus.language=zh", "corpus.words=tokenizer") != chinese


def test_numbers_count_by_value() -> None:
    assert identify("budget.epochs=2") == identify("budget.epochs=2.0")
    whole, point = (identify("method=two_way", f"alignment.loss.temperature={number}") for number in ("1", "1.0"))
    assert whole == point
    assert identify("budget.epochs=2") != identify("budget.epochs=2.5")


def other_value(settings: type, name: str, default: Any) -> str:
    """Return another value that the key accepts."""
    each = next(each for each in dataclasses.fields(settings) if each.name == name)
    for choice in each.metadata.get("choices", ()):
        if choice != default:
            return str(choice)
    if isinstance(default, bool):
        return str(not default).lower()
    if isinstance(default, int):
        return str(default + 1)
    return "3" if any(kind in str(each.type) for kind in ("int", "float")) else "elsewhere"


def neutral() -> list[str]:
    found = []
    for group in NEUTRAL_GROUPS:
        for each in dataclasses.fields(SETTINGS[group]["settings"]):
            if each.name == "fit":
                found.append("trainer.fit.benchmark=true")
            else:
                found.append(f"{group}.{each.name}={other_value(SETTINGS[group]['settings'], each.name, each.default)}")
    return found + [f"{key}=elsewhere" for key in NEUTRAL_KEYS]


@pytest.mark.parametrize("override", neutral())
@pytest.mark.parametrize("method", ["two_way", "pretrain"])
def test_a_neutral_key_never_enters(override: str, method: str) -> None:
    assert identify(f"method={method}", override).id == identify(f"method={method}").id


def test_every_other_root_key_is_neutral_or_enters() -> None:
    known = {"seed", "init_from", "init_from_ft", *NEUTRAL_KEYS, *SETTINGS}
    assert {each.name for each in dataclasses.fields(RunConfig)} == known


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "alignment.weight=0.2",
        "alignment=supcon",
        "alignment/schedule=ramp",
        "tuning=head",
        "optimizer.lr=1e-3",
        "schedule=cosine",
        "budget.epochs=4",
        "budget.precision=bf16",
        "encoder=tiny",
        "tokenizer.vocabulary=1024",
        "task.train_rows=100",
        "task.validation_rows=100",
        "method.dropout=0",
        "method=full",
    ],
)
def test_a_key_that_bears_on_the_result_enters(override: str) -> None:
    assert identify("method=two_way", override).id != identify("method=two_way").id


def test_a_group_that_the_method_does_not_read_stays_out() -> None:
    assert identify("method=full", "alignment.weight=7", "prompt.template=1") == identify("method=full")
    assert identify("method=pretrain", "task.label=x", "tuning=head").id == identify("method=pretrain").id
    assert identify("method=tfidf", "encoder=tiny", "optimizer.lr=1", "budget.batch=2") == identify("method=tfidf")


def test_a_group_that_may_be_left_at_none_counts_where_it_is_set() -> None:
    prompted = identify("method=full", "prompt=pydoc_kind")
    assert prompted != identify("method=full") == identify("method=full", "prompt=none")
    assert prompted != identify("method=full", "prompt=pydoc_kind", "prompt.template=1")
    assert identify("method=tfidf", "prompt=pydoc_kind") == identify("method=tfidf")


def test_lists_of_paths_count_by_content(tmp_path: Path) -> None:
    for name, text in {"a": "one", "b": "one", "c": "two"}.items():
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
    for key in ("method.tasks", "method.few_shot_splits"):
        a, b, c = (identify("method=full", f"{key}=[{tmp_path / name}.csv]") for name in "abc")
        assert a == b != c
        assert identify("method=full", f"{key}=[]") == identify("method=full")
        assert not any(str(tmp_path) in str(value) for value in a.full.values())


def test_what_a_task_is_called_does_not_matter() -> None:
    renamed = identify("method=tfidf", "task.name=mine")
    assert renamed.id == identify("method=tfidf").id
    assert renamed.name.startswith("tfidf-mine-s0-")


def test_a_path_counts_by_its_content(tmp_path: Path) -> None:
    texts = {"a": "one", "b": "one", "c": "two"}
    for name, text in texts.items():
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
    a, b, c = (identify("method=tfidf", "task=file", f"task.path={tmp_path / name}.csv") for name in texts)
    assert a.id == b.id != c.id
    assert a.name.startswith("tfidf-a-s0-")
    assert not any(str(tmp_path) in str(value) for value in a.full.values())
    corpus = [identify("method=pretrain", "corpus=text", f"corpus.path={tmp_path / name}.csv").id for name in texts]
    assert corpus[0] == corpus[1] != corpus[2]


def test_a_tokenizer_counts_by_its_files(tmp_path: Path) -> None:
    for name, text in {"a": "{}", "b": "{}", "c": "[]"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_text(text, encoding="utf-8")
    (tmp_path / "b" / "README.md").write_text("mine", encoding="utf-8")
    a, b, c = (identify("method=pretrain", f"tokenizer.path={tmp_path / name}").id for name in "abc")
    assert a == b != c


def run_folder(place: Path, finished: bool = True, **result: Any) -> Path:
    (place / "models" / "pre").mkdir(parents=True)
    (place / "models" / "pre" / "model.safetensors").write_bytes(b"weights")
    (place / "environment.json").write_text("{}", encoding="utf-8")
    if finished:
        (place / "result.json").write_text(json.dumps({"id": "0123abcd", **result}), encoding="utf-8")
    return place


def test_a_run_counts_by_its_id(tmp_path: Path) -> None:
    one, two = run_folder(tmp_path / "one"), run_folder(tmp_path / "two")
    who = identify("method=full", f"init_from={one}")
    assert who.full["init_from"] == "run:0123abcd"
    assert who == identify("method=full", f"init_from={two}")
    assert who.id != identify("method=full").id
    assert who.id != identify("method=full", f"init_from={one}/models/pre").id
    assert identify("method=full", f"init_from={one}/models/pre").full["init_from"] == "run:0123abcd/models/pre"


def test_what_init_from_answers_for_stays_out(tmp_path: Path) -> None:
    start = f"init_from={run_folder(tmp_path / 'one')}"
    assert identify("method=full", start, "encoder=tiny", "tokenizer.vocabulary=1024") == identify("method=full", start)


def test_an_unfinished_or_missing_start_is_refused(tmp_path: Path) -> None:
    unfinished = run_folder(tmp_path / "one", finished=False)
    with pytest.raises(ValueError, match="not finished"):
        identify("method=full", f"init_from={unfinished}")
    with pytest.raises(ValueError, match="not finished"):
        identify("method=full", f"init_from={unfinished}/models/pre")
    with pytest.raises(ValueError, match=r"init_from_ft=.*no such folder"):
        identify("method=two_way", "init_from_ft=nowhere")
    (unfinished / "result.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"result\.json can't be read"):
        identify("method=full", f"init_from={unfinished}")


def test_a_planned_run_and_the_finished_one_are_the_same_start(tmp_path: Path) -> None:
    place = tmp_path / "one"
    config = compose(["method=full", f"init_from={place}"])
    planned = identity(config, lambda what: "0123abcd" if what == str(place) else fingerprint(what))
    run_folder(place)
    assert identity(config, fingerprint) == planned


def test_a_foreign_folder_counts_by_its_model_files(tmp_path: Path) -> None:
    for name, weights in {"a": b"1", "b": b"1", "c": b"2"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(weights)
        (tmp_path / name / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "b" / "README.md").write_text("a model", encoding="utf-8")
    a, b, c = (identify("method=full", f"init_from={tmp_path / name}").id for name in "abc")
    assert a == b != c


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "../../etc", "a b/c", "..", "-", "x" * 300, "情感"])
def test_a_name_is_safe_in_a_folder(name: str) -> None:
    quoted = json.dumps(name, ensure_ascii=False)
    folder = identity(compose([f"task.name={quoted}", "method=tfidf"]), fingerprint).name
    assert re.fullmatch(r"tfidf-[\w.][\w.-]*-s0-[0-9a-f]{8}", folder)
    assert ".." not in folder
    assert len(folder) < 80
