"""``tofro inspect``: counts that add up, on tables and on text, with findings that refuse nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.runs.conftest import Chain
from tests.test_cli import run_alone
from tofro.cli import DONE, MISTAKE, main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A task with one of everything that deserves a note."""
    data = tmp_path / "data"
    data.mkdir()
    train = [{"text": f"Text number {number}.", "label": "yes" if number % 3 else "no"} for number in range(30)]
    train += [
        train[4],
        train[5] | {"label": "no"},
        {"text": " ", "label": "no"},
        {"text": None, "label": "yes"},
        {"text": 7, "label": "no"},
    ]
    (data / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in train) + "{oops\n", encoding="utf-8")
    test = "text,label\nText number 3.,yes\ntext NUMBER 4,no\nother,yess\n\nanother,yes\n"
    (data / "test.csv").write_bytes(b"\xef\xbb\xbf" + test.encode())
    (data / "validation.tsv").write_text("text\tlabel\none more\t-1\nand more\t-1\n", encoding="utf-8")
    return data


def inspected(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["inspect", *words, "--json"]) == DONE
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_task_is_counted_to_the_last_row(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = inspected(capsys, str(folder))
    assert (found["holds"], found["kind"], found["columns"]) == ("task", "classification", ["text", "label"])
    train, test, validation = (found["splits"][split] for split in ("train", "test", "validation"))
    assert train["rows"] + train["bad_rows"]["count"] + train["rows_without_text"]["count"] == 36
    assert train["bad_rows"]["first_lines"] == [36]
    assert train["rows_without_text"] == {"count": 1, "first_lines": [35]}
    assert train["empty_texts"] == {"count": 2, "first_lines": [33, 34]}
    assert train["labels"] == {"yes": 22, "no": 12}
    assert (train["repeated_texts"], train["texts_with_several_labels"]) == (2, 1)
    assert sum(test["labels"].values()) == test["rows"] == 4
    assert test["encoding"] == "UTF-8, with a byte order mark, which is dropped"
    assert found["leaks"]["test"] == {"exact": 1, "normalised": 2, "first_lines": [2, 3]}
    assert found["labels_unseen_in_train"] == {"test": {"yess": 1}}
    assert validation["labels_withheld"]
    assert test["characters"]["max"] == len("Text number 3.")
    assert test["words"]["min"] == 1


def test_findings_are_told_in_tables_and_refuse_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(folder)]) == DONE
    out = capsys.readouterr().out
    for said in (
        "classification",
        "withheld",
        "train: 1 rows can't be read: line 36: malformed JSON",
        "train: 2 of 34 rows repeat the text of an earlier one; 1 texts have more than one label",
        "test: 1 of 4 rows also occur in train, 2 where case",
        "labels that never occur in train, which a run refuses: 'yess' (1)",
        "22 (64.7%)",
    ):
        assert said in out, said


def test_tokens_are_counted_by_a_models_tokenizer(chain: Chain, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import tofro

    model = chain.runs["full"].folder
    found = inspected(capsys, str(folder / "test.csv"), "--model", str(model))
    tokenizer = tofro.load(model).tokenizer
    lengths = [len(tokenizer.encode([text])[0].ids) for text in ("Text number 3.", "text NUMBER 4", "other", "another")]
    assert found["splits"]["all rows"]["tokens"]["max"] == max(lengths)
    assert found["splits"]["all rows"]["tokens"]["mean"] == pytest.approx(sum(lengths) / 4)


def test_tags_pairs_and_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tags = tmp_path / "tags.jsonl"
    tags.write_text('{"tokens": ["Ada", "sleeps"], "tags": ["B-x", "O"]}\n{"tokens": ["So"], "tags": ["O"]}\n')
    found = inspected(capsys, str(tags))
    assert found["kind"] == "tags"
    assert found["splits"]["all rows"]["labels"] == {"O": 2, "B-x": 1}
    assert found["splits"]["all rows"]["words"]["max"] == 2
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("s1\ts2\tscore\na b\tc\t0.5\nd\te f\t3\n")
    found = inspected(capsys, str(pairs), "--text-a", "s1", "--text-b", "s2", "--label", "score")
    assert found["kind"] == "regression"
    assert found["splits"]["all rows"]["scores"] == {"min": 0.5, "median": 1.75, "mean": 1.75, "95%": 2.875, "max": 3.0}
    assert found["splits"]["all rows"]["characters"]["max"] == 4
    assert main(["inspect", str(pairs), "--text-a", "s1", "--text-b", "s2", "--label", "score"]) == DONE


def test_a_corpus_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("One line.\nAnother, longer line.\n\n\nÜber alles.\n\nOne line.\nAnother, longer line.\n", encoding="utf-8")
    found = inspected(capsys, str(text))["splits"]["all files"]
    assert (found["documents"], found["repeated_documents"], found["lines"]) == (3, 1, 5)
    assert found["characters"] == sum(map(len, text.read_text(encoding="utf-8").split("\n")))
    assert found["longest_line"] == {"characters": 21, "at": "text.txt:2"}
    assert found["scripts"] == {"LATIN": 1.0}
    chinese = tmp_path / "train.txt"
    chinese.write_text("我们去了北京。\n天气很好。\n", encoding="utf-8")
    (tmp_path / "validation.txt").write_text("ひらがなとカタカナ。\n", encoding="utf-8")
    found = inspected(capsys, str(tmp_path))["splits"]
    assert found["train"]["language"] == "Chinese"
    assert found["validation"]["language"].startswith("Japanese")
    assert main(["inspect", str(tmp_path)]) == DONE
    assert "everything is one document" in capsys.readouterr().out


def test_a_task_by_name_is_inspected_as_a_run_reads_it(capsys: pytest.CaptureFixture[str]) -> None:
    found = inspected(capsys, "pydoc_match")
    assert set(found["splits"]) == {"train", "validation", "test"}
    assert found["splits"]["train"]["rows"] == 6000
    assert found["metric"] == "accuracy"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b"", "a.jsonl: the file holds no row"),
        ("a.jsonl", b'{"a": "b"}\n', "a.jsonl:1: no column 'text' (--text-a); there are 'a'"),
        ("a.csv", b"text\ncaf\xe9\n", "a.csv:2: not UTF-8"),
        ("a.txt", b"caf\xe9\n", "a.txt:1: not UTF-8"),
        ("a.parquet", b"PAR1", "a.parquet: not readable as Parquet"),
        ("a.xlsx", b"", "its format is unknown"),
    ],
)
def test_what_cannot_be_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert main(["inspect", str(tmp_path / name)]) == MISTAKE
    assert said in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "gone.csv")]) == MISTAKE
    assert main(["inspect", "pydoc_knid"]) == MISTAKE
    assert "did you mean pydoc_kind?" in capsys.readouterr().err


def test_inspecting_imports_no_torch(folder: Path) -> None:
    code, out, err, heavy = run_alone("inspect", "data", folder=folder.parent)
    assert code == DONE, err
    assert "classification" in out
    assert heavy == []


def test_help_and_mistakes_of_predict_and_export_answer_without_torch(tmp_path: Path) -> None:
    for words, said in (
        (["predict", "--help"], "MODEL_DIR"),
        (["export", "--help"], "RUN_DIR"),
        (["inspect", "--help"], "DATA"),
        (["predict", "x", "--text", "a", "--pair", "b", "c"], "can't be mixed"),
        (["export", "gone", "out"], "no such folder"),
    ):
        code, out, err, heavy = run_alone(*words, folder=tmp_path)
        assert said in out + err
        assert "torch" not in heavy, words
        assert code == (DONE if "--help" in words else MISTAKE)


def test_real_tasks_are_inspected(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = inspected(capsys, str(shared / "tasks" / "chnsenticorp"))
    assert {split: each["rows"] for split, each in found["splits"].items()} == {"train": 9600, "validation": 1200, "test": 1200}
    for split, marked in (("validation", 342), ("test", 335)):  # marked in the data, a little more loosely than equal strings
        assert found["leaks"][split]["exact"] <= marked <= found["leaks"][split]["normalised"]
