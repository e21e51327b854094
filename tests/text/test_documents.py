"""Files of every kind, long lines and long documents: nothing lost, everything counted."""

from __future__ import annotations

import gzip
import json
from itertools import chain

import pytest

from tofro.text import documents, files
from tofro.text.corpus import read_corpus
from tofro.text.documents import Reading
from tofro.text.fingerprint import fingerprint_path
from tofro.text.lines import read_lines
from tofro.text.settings import CorpusSettings


def settings_for(path, **changes):
    return CorpusSettings(name="text", path=str(path), **changes)


def write_rows(path, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def everything(corpus, reading=None):
    return [document for split in ("train", "validation") for document in corpus.documents(split, reading)]


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_rows_are_documents(tmp_path, packed):
    rows = [{"body": f"Row {n} begins. It ends.\n\n Its second line.\r\n", "id": n} for n in range(20)]
    write_rows(tmp_path / f"c.jsonl{packed}", [*rows, {"body": ["One sentence. Or two.", " ", "The\nlast. "]}])
    found = everything(read_corpus(settings_for(tmp_path / f"c.jsonl{packed}", text="body")))
    assert sorted(found) == sorted(
        [[f"Row {n} begins. It ends.", "Its second line."] for n in range(20)] + [["One sentence. Or two.", "The last."]]
    )
    found = everything(read_corpus(settings_for(tmp_path / f"c.jsonl{packed}", text="body", unit="paragraph")))
    assert ["Row 3 begins.", "It ends.", "Its second line."] in found
    assert ["One sentence. Or two.", "The last."] in found  # sentences that are given are not split


def test_rows_without_text_are_counted(tmp_path):
    write_rows(tmp_path / "c.jsonl", [{"text": "One."}, {"text": " \n"}, {"text": None}, {"text": []}, {"text": "Two."}])
    reading = Reading()
    corpus = read_corpus(settings_for(tmp_path / "c.jsonl"))
    assert len(list(corpus.documents("train", reading))) == 1
    assert reading.empty_documents == 3
    assert (reading.done, reading.total) == ((tmp_path / "c.jsonl").stat().st_size,) * 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"words": "One."}', r"c\.jsonl:2: no column 'text' \(corpus\.text\); there are 'words'"),
        ('{"text": 7}', r"c\.jsonl:2: 'text' holds int, text or a list of sentences was expected"),
        ('{"text": ["One.", 7]}', r"c\.jsonl:2: 'text' holds list"),
        ('{"text": ["a\\u0000b"]}', r"c\.jsonl:2: 'text' holds a NUL"),
        ('{"text": ["a\\ud800b"]}', r"c\.jsonl:2: 'text' holds half of a surrogate pair"),
        ('{"text": "cut', r"c\.jsonl:2: malformed JSON .*; mend the row$"),
        ('["One."]', r"c\.jsonl:2: a JSON object was expected"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path, row, message):
    (tmp_path / "c.jsonl").write_text('{"text": "One."}\n' + row + '\n{"text": "Three."}\n{"text": "Four."}\n')
    with pytest.raises(ValueError, match=message):
        everything(read_corpus(settings_for(tmp_path / "c.jsonl")))


def test_a_glob_reads_its_files_by_name_and_keeps_validation_apart(tmp_path):
    write_rows(tmp_path / "data" / "b.jsonl.gz", [{"text": "B."}])
    (tmp_path / "data" / "a.txt").write_text("A1.\n\nA2.\n")
    (tmp_path / "data" / "validation.txt").write_text("V.\n")
    (tmp_path / "data" / "notes.md").write_text("No data.")
    corpus = read_corpus(settings_for(tmp_path / "data" / "*"))
    assert list(corpus.documents("train")) == [["A1."], ["A2."], ["B."]]
    assert list(corpus.documents("validation")) == [["V."]]
    assert corpus.name == "data"
    before = corpus.fingerprint, fingerprint_path(tmp_path / "data" / "*")
    (tmp_path / "data" / "a.txt").write_text("A1.\n\nA3.\n")
    assert read_corpus(settings_for(tmp_path / "data" / "*")).fingerprint != before[0]
    assert fingerprint_path(tmp_path / "data" / "*") != before[1]
    with pytest.raises(ValueError, match=r"corpus\.path: no file .* matches .*/none\*"):
        read_corpus(settings_for(tmp_path / "data" / "none*"))
    with pytest.raises(ValueError, match="are called validation"):
        read_corpus(settings_for(tmp_path / "data" / "v*.txt"))


@pytest.mark.parametrize(
    "names", [("train.jsonl",), ("train-00000-of-2.jsonl", "train-00001-of-2.jsonl"), ("train/x.jsonl", "train/y.jsonl")]
)
def test_a_folder_may_hold_numbered_files_or_folders(tmp_path, names):
    for name in names:
        write_rows(tmp_path / name, [{"text": name}])
    write_rows(tmp_path / "dev" / "z.jsonl", [{"text": "held out"}])
    corpus = read_corpus(settings_for(tmp_path))
    assert list(corpus.documents("train")) == [[name] for name in names]
    assert list(corpus.documents("validation")) == [["held out"]]
    before = fingerprint_path(tmp_path)
    write_rows(tmp_path / "dev" / "z.jsonl", [{"text": "changed"}])
    assert fingerprint_path(tmp_path) != before
    (tmp_path / "train.txt").write_text("Twice.\n")
    with pytest.raises(ValueError, match=r"has both train.* and train"):
        read_corpus(settings_for(tmp_path))


def test_a_long_line_comes_in_parts_and_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LONGEST_LINE", 64)
    monkeypatch.setattr(documents, "LONGEST_LINE", 64)
    long = " ".join(f"word{n}" for n in range(100))
    (tmp_path / "c.txt").write_text(f"One.\n{long}\nTwo.\n\nThree.\n{'é' * 200}\n")
    write_rows(tmp_path / "c.jsonl", [{"text": f"One.\n{long}\nTwo."}, {"text": f"Three.\n{'é' * 200}"}])
    for name in ("c.txt", "c.jsonl"):
        reading = Reading()
        corpus = read_corpus(settings_for(tmp_path / name))
        first, second = sorted(everything(corpus, reading))
        assert reading.cut_lines == 2 * 2  # each of the two splits reads the whole file
        assert " ".join(first) == f"One. {long} Two."
        assert "".join(second[1:]) == "é" * 200
        assert max(len(part.encode()) for part in first) <= 64
        assert max(map(len, second)) <= 64


def test_the_end_of_a_cut_line_ends_no_document(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LONGEST_LINE", 16)
    (tmp_path / "c.txt").write_text("x" * 15 + "\n" + "y" * 16 + "\nOne.\n\n" + "z" * 15 + " " * 9 + "\nEnd.\n\nTwo.\n")
    assert sorted(everything(read_corpus(settings_for(tmp_path / "c.txt")))) == [
        ["Two."],
        ["x" * 15, "y" * 15, "y", "One."],
        ["z" * 15, "End."],
    ]


def test_a_long_document_comes_in_parts_on_one_side(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "LONGEST_DOCUMENT", 1000)
    lines = [[f"Document {d}, line {n}." for n in range(60)] for d in range(30)]
    (tmp_path / "c.txt").write_text("\n\n".join("\n".join(document) for document in lines))
    reading = Reading()
    corpus = read_corpus(settings_for(tmp_path / "c.txt", validation_share=0.3))
    train, validation = (list(corpus.documents(split, reading)) for split in ("train", "validation"))
    assert reading.cut_documents == 2 * 30
    assert sorted(chain(*train, *validation)) == sorted(chain(*lines))
    sides = [{document[0].split(",")[0] for document in side} for side in (train, validation)]
    assert len(train) > len(sides[0]) > 0
    assert not sides[0] & sides[1]


def test_a_line_that_no_memory_should_hold_is_refused(tmp_path, monkeypatch):
    from tofro.text import lines

    monkeypatch.setattr(lines, "LONGEST", 20)
    (tmp_path / "c.jsonl").write_text('{"text": "One."}\n{"text": "' + "x" * 30 + '"}\n')
    with pytest.raises(ValueError, match=r"c\.jsonl:2: a line longer than 20 bytes"):
        everything(read_corpus(settings_for(tmp_path / "c.jsonl")))


@pytest.mark.parametrize("cut", [8, 9, 10, 11, 17, 1000])
def test_cut_lines_hold_every_character(tmp_path, cut):
    text = "﻿a é中🙂é中🙂é中🙂é中🙂 bb ccc dddd eeeee ffffff\n\nx\n" + "🙂" * 9
    (tmp_path / "c.txt").write_text(text, encoding="utf-8")
    whole = dict(read_lines(tmp_path / "c.txt"))
    parts: dict[int, list[str]] = {}
    for number, part in read_lines(tmp_path / "c.txt", cut=cut):
        parts.setdefault(number, []).append(part)
        assert len(part.encode()) <= cut
    assert {number: "".join(found) for number, found in parts.items()} == whole
