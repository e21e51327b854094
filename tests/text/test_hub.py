"""Parquet and datasets of the extra `hub`, on local folders only."""

from __future__ import annotations

import sys

import pytest

from tofro.text.corpus import read_corpus
from tofro.text.documents import Reading
from tofro.text.hub import read_hub_corpus
from tofro.text.settings import CorpusSettings, HubSettings

datasets = pytest.importorskip("datasets", reason="needs the extra hub")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra hub")

ROWS = [f"Row {n} begins. It goes on.\n\nIts end." for n in range(200)]
SENTENCES = sorted([f"Row {n} begins.", "It goes on.", "Its end."] for n in range(200))


def hub(**changes):
    return HubSettings(name="hub", unit="paragraph", **changes)


def table(texts):
    import pyarrow

    return pyarrow.table({"id": list(range(len(texts))), "text": texts})


def everything(corpus, reading=None):
    return [document for split in ("train", "validation") for document in corpus.documents(split, reading)]


def test_parquet_files_are_read_row_by_row(tmp_path):
    parquet.write_table(table(ROWS[:150]), tmp_path / "train-00000-of-2.parquet", row_group_size=40)
    parquet.write_table(table(ROWS[150:]), tmp_path / "train-00001-of-2.parquet")
    reading = Reading()
    corpus = read_corpus(CorpusSettings(name="text", path=str(tmp_path), unit="paragraph"))
    train = list(corpus.documents("train", reading))
    assert reading.done == reading.total == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert sorted([*train, *corpus.documents("validation")]) == SENTENCES
    as_glob = read_hub_corpus(hub(path=str(tmp_path / "*.parquet")))
    assert list(as_glob.documents("train")) == train


def test_lists_of_sentences_and_rows_without_text(tmp_path):
    parquet.write_table(table([["One. Same.", "Two."], None, [], ["Three."]]), tmp_path / "c.parquet")
    reading = Reading()
    corpus = read_corpus(CorpusSettings(name="text", path=str(tmp_path / "c.parquet"), unit="paragraph"))
    assert sorted(everything(corpus, reading)) == [["One. Same.", "Two."], ["Three."]]
    assert reading.empty_documents == 2 * 2


def test_bad_parquet_is_named(tmp_path):
    path = tmp_path / "c.parquet"
    parquet.write_table(table(ROWS), path)
    with pytest.raises(ValueError, match=r"c\.parquet:1: no column 'txt' .* did you mean 'text'"):
        read_corpus(CorpusSettings(name="text", path=str(path), text="txt"))
    with pytest.raises(ValueError, match=r"c\.parquet: row 1: 'id' holds int"):
        read_corpus(CorpusSettings(name="text", path=str(path), text="id"))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"c\.parquet: not readable as Parquet"):
        read_corpus(CorpusSettings(name="text", path=str(path)))


def test_a_saved_dataset_is_a_corpus(tmp_path):
    dataset = datasets.Dataset.from_dict({"text": ROWS})
    dataset.save_to_disk(str(tmp_path / "prose"))
    reading = Reading()
    corpus = read_hub_corpus(hub(path=str(tmp_path / "prose"), validation_share=0.1))
    assert corpus.name == "prose"
    assert len(list(corpus.documents("train", reading))) > 150
    assert (reading.done, reading.total, corpus.unit) == (200, 200, "documents")
    assert sorted(everything(corpus)) == SENTENCES

    splits = datasets.DatasetDict({"train": dataset, "test": dataset.select(range(5))})
    splits.save_to_disk(str(tmp_path / "both"))
    corpus = read_hub_corpus(hub(path=str(tmp_path / "both"), validation_split="test"))
    assert (len(list(corpus.documents("train"))), len(list(corpus.documents("validation")))) == (200, 5)
    other = read_hub_corpus(hub(path=str(tmp_path / "both"), train_split="test"))
    assert other.fingerprint != corpus.fingerprint
    with pytest.raises(ValueError, match=r"corpus\.validation_split=dev: no such split in .*; it has train, test"):
        read_hub_corpus(hub(path=str(tmp_path / "both"), validation_split="dev"))
    with pytest.raises(ValueError, match=r"no column 'body'"):
        read_hub_corpus(hub(path=str(tmp_path / "both"), text="body"))
    (tmp_path / "both" / "train" / "state.json").write_text("{")
    with pytest.raises(ValueError, match="can't be opened"):
        read_hub_corpus(hub(path=str(tmp_path / "both")))


def test_a_name_that_cannot_be_fetched_tells_the_way_without_a_network(monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"corpus\.dataset=no/such: can't be fetched .*save_to_disk.*corpus\.path=FOLDER"):
        read_hub_corpus(hub(dataset="no/such"))


def test_one_of_name_and_folder_is_needed(tmp_path):
    for given in ({}, {"dataset": "a/b", "path": str(tmp_path)}):
        with pytest.raises(ValueError, match=r"one of corpus\.dataset=NAME"):
            read_hub_corpus(hub(**given))


@pytest.mark.parametrize("missing", ["datasets", "pyarrow"])
def test_a_missing_extra_is_named(tmp_path, monkeypatch, missing):
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ValueError, match=r"needs the extra hub, which is not installed: pip install 'tofro\[hub\]'"):
        read_hub_corpus(hub(dataset="a/b") if missing == "datasets" else hub(path=str(tmp_path / "c.parquet")))
