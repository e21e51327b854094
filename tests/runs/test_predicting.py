"""``tofro predict``: the same answers from every kind of file, in the order of the texts, whole or in chunks."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tofro
from tests.runs.conftest import Chain
from tofro.cli import DONE, MISTAKE, main
from tofro.runs import predicting
from tofro.runs.loaded import Prediction
from tofro.runs.predicting import chunks, shown, tagged_text
from tofro.text.inputs import Input

TEXTS = ["The bright river finds the bridge.", "A cold, gloomy engine.", "Station?", "The warm garden follows the lovely letter."]


@pytest.fixture
def folder(chain: Chain) -> str:
    return str(chain.runs["full"].folder)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def write(path: Path, content: str | bytes) -> str:
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(raw) if path.name.endswith(".gz") else raw)
    return str(path)


def test_every_kind_of_file_gives_the_same_answers(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = tofro.load(folder).predict(TEXTS)
    plain = "\n".join(TEXTS) + "\n"
    table = "number\ttext\n" + "".join(f"{number}\t{text}\n" for number, text in enumerate(TEXTS))
    rows = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    quoted = "id,sentence\n" + "".join(f'{number},"{text}"\n' for number, text in enumerate(TEXTS))
    for name, content, more in (
        ("a.txt", plain, []),
        ("a.txt.gz", plain.replace("\n", "\r\n\n"), []),
        ("a.tsv", "\ufeff" + table, []),
        ("a.jsonl.gz", rows, []),
        ("a.csv", quoted, ["--text-a", "sentence"]),
    ):
        assert main(["predict", folder, write(tmp_path / name, content), "--json", *more]) == DONE
        found = lines(capsys)
        assert [each["text"] for each in found] == TEXTS, name
        assert [each["label"] for each in found] == [answer.label for answer in expected]
        for each, answer in zip(found, expected, strict=True):
            assert each["probabilities"] == pytest.approx(answer.probabilities, abs=1e-5)
            assert each["probability"] == max(each["probabilities"].values())
    assert [each["line"] for each in found] == [2, 3, 4, 5]


def test_texts_of_the_command_line_and_of_standard_input(
    folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["predict", folder, "--json", *(word for text in TEXTS for word in ("--text", text))]) == DONE
    typed = lines(capsys)
    assert [each["text"] for each in typed] == TEXTS
    for source in (["-"], []):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(TEXTS).encode())))
        assert main(["predict", folder, "--json", *source]) == DONE
        piped = lines(capsys)
        assert [each.pop("line") for each in piped] == [1, 2, 3, 4]
        assert piped == typed
    assert main(["predict", folder, "--json", "--pair", "The river.", "The bridge."]) == DONE
    assert [(each["text_a"], each["text_b"]) for each in lines(capsys)] == [("The river.", "The bridge.")]


def test_a_table_for_the_eye(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", folder, "--text", TEXTS[0], "--text", "red \x1b[31m alert\nA"]) == DONE
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["label", "probability", "text"]
    label, probability, *words = first.split()
    assert label in ("good", "bad")
    assert 0.5 <= float(probability) <= 1
    assert " ".join(words) == TEXTS[0]
    assert second.endswith("red [31m alert A")
    assert first.index("The") == second.index("red")


def test_chunks_change_nothing_and_hold_few(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    path = write(tmp_path / "a.txt", "".join(f"The river {number}.\n" for number in range(23)))
    main(["predict", folder, path, "--json"])
    whole = lines(capsys)
    monkeypatch.setattr(predicting, "CHUNK", 5)
    main(["predict", folder, path, "--json"])
    apart = lines(capsys)
    assert [each["text"] for each in apart] == [each["text"] for each in whole]
    for one, other in zip(apart, whole, strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)

    read = 0

    def endless() -> Iterator[Input]:
        nonlocal read
        while True:
            read += 1
            yield Input("x" * 1000)

    each = next(chunks(endless()))
    assert len(each) == read == 5
    monkeypatch.setattr(predicting, "CHUNK_CHARACTERS", 3000)
    assert len(next(chunks(endless()))) == 3


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"fine\ncaf\xe9\n", "a.txt:2: not UTF-8"),
        ("a.txt", b"fine\nnul \0\n", "a.txt:2: the line holds a NUL"),
        ("a.txt", b"\n \n", "holds no text"),
        ("a.txt", "fine\n".encode("utf-16"), "the file is UTF-16"),
        ("a.csv", b"text,label\nfine\n", "a.csv:2: 1 fields where the header names 2"),
        ("a.csv", b"body\nfine\n", "a.csv:1: no column 'text' (--text-a); there are 'body'"),
        ("a.jsonl", b'{"text": 3}\n', "a.jsonl:1: 'text' is int, a string was expected"),
        (
            "a.jsonl",
            b'{"text": "fine"}\n{"text": " "}\n',
            "a.jsonl:2: 'text' is empty; mend the row, or set bad rows aside with --on-bad",
        ),
        ("a.xml", b"<a/>", "its format is unknown"),
    ],
)
def test_bad_files_are_named(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, said: str
) -> None:
    assert main(["predict", folder, write(tmp_path / name, content)]) == MISTAKE
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


def test_bad_rows_are_set_aside_and_counted(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "one"}\n{oops\n{"text": ""}\n{"text": "two"}\n')
    assert main(["predict", folder, path, "--json", "--on-bad-row", "quarantine"]) == DONE
    out, err = capsys.readouterr()
    assert [json.loads(line)["line"] for line in out.splitlines()] == [1, 4]
    assert "2 bad rows set aside: line 2: malformed JSON" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["FULL", "a.txt", "--text", "x"], "texts come from one place"),
        (["FULL", "gone.txt"], "gone.txt does not exist"),
        (["FULL", "--text", "x", "--pair", "a", "b"], "can't be mixed"),
        (["FULL", "--text", " "], "a text is empty"),
        (["PRE", "--text", "x"], "has no task head"),
        (["./nowhere", "--text", "x"], "nowhere: no such folder"),
    ],
)
def test_mistakes_are_named(
    chain: Chain, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("fine\n")
    places = {"FULL": str(chain.runs["full"].folder), "PRE": str(chain.runs["pretrain"].folder)}
    assert main(["predict", *(places.get(word, word) for word in words)]) == MISTAKE
    assert said in capsys.readouterr().err


def test_entities_stand_in_brackets() -> None:
    tags = ("O", "B-place", "I-place", "O", "S-person")
    found = Prediction(tags, (0.9,) * 5, words=("in", "New", "York", "with", "Ada"))
    assert tagged_text(found, as_entities=True) == "in [New York]place with [Ada]person"
    assert tagged_text(Prediction(("NOUN",), (1.0,), words=("dog",)), as_entities=False) == "dog/NOUN"
    assert shown(" a\tb\r\nc\x07 ") == "a b c"


def test_progress_tells_rate_and_time_left_beside_the_answers(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tofro.runs import progress

    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    monkeypatch.setattr(predicting, "CHUNK", 300)
    path = write(tmp_path / "a.txt", "".join(f"River {number}.\n" for number in range(1500)))
    assert main(["predict", folder, path]) == DONE
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1501
    last = err.splitlines()[-1]
    assert last.startswith("predicting: 1,500/")
    assert "texts/s" in last
    assert "s left" in err
