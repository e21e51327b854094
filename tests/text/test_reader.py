from __future__ import annotations

import csv
import gzip
import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tofro.text.reader import Rows

GOOD = b'{"text": "a", "label": "x"}\n'


def read(path, on_bad_row="error"):
    rows = Rows(path, on_bad_row)
    return list(rows), rows.quarantined


def put(tmp_path, name, content: bytes):
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "é \\u2028 ,\\t", "label": "x"}\r\n\n{"text": "b", "label": "y"}'),
        ("a.csv", 'text,label\r\n"é \u2028 ,\t",x\r\n\r\nb,y\r\n'),
        ("a.tsv", 'text\tlabel\r\n"é" \u2028\tx\r\n\r\nb\ty\r\n'),
    ],
)
def test_three_formats_give_the_same_rows_with_their_lines(tmp_path, name, content, packed):
    raw = b"\xef\xbb\xbf" + content.encode()
    path = put(tmp_path, name + ".gz", gzip.compress(raw, mtime=0)) if packed else put(tmp_path, name, raw)
    rows, bad = read(path)
    assert [row["label"] for _, row in rows] == ["x", "y"]
    assert rows[1] == (rows[1][0], {"text": "b", "label": "y"})
    assert [line for line, _ in rows] == ([1, 3] if name == "a.jsonl" else [2, 4])
    assert bad == []


def test_csv_agrees_with_the_standard_writer(tmp_path):
    texts = ["plain", 'a "quoted" word', "two\nlines", "comma, tab\t", "  spaces ", "x" * 200_000]
    path = tmp_path / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text", "label"], *([text, "l"] for text in texts)])
    rows, _ = read(path)
    assert [row["text"] for _, row in rows] == texts
    assert [line for line, _ in rows] == [2, 3, 4, 6, 7, 8]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", GOOD + b"{oops}\n", r"a\.jsonl:2: malformed JSON"),
        ("a.jsonl", GOOD + b"[1]\n", r"a\.jsonl:2: a JSON object was expected, not list"),
        ("a.jsonl", GOOD + b'{"text": NaN}\n', r"a\.jsonl:2: .*NaN"),
        ("a.jsonl", GOOD + b'{"a": 1, "a": 2}\n', r"a\.jsonl:2: .*twice"),
        ("a.jsonl", GOOD + b'{"text": "\\ud800"}\n', r"a\.jsonl:2: .*surrogate"),
        ("a.jsonl", GOOD + b'{"text": "\\u0000"}\n', r"a\.jsonl:2: .*NUL"),
        ("a.jsonl", GOOD + b"[" * 100_000 + b"\n", r"a\.jsonl:2: "),
        ("a.csv", b"text,label\na,b\nc\n", r"a\.csv:3: 1 fields where the header names 2 \(text, label\)"),
        ("a.csv", b'text,label\n"a"b,c\n', r"a\.csv:2: malformed CSV"),
        ("a.csv", b"text,label\na\0,b\n", r"a\.csv:2: .*NUL"),
        ("a.tsv", b"text\tlabel\na\tb\tc\n", r"a\.tsv:2: 3 fields"),
    ],
)
def test_a_bad_row_is_refused_or_set_aside_with_its_line(tmp_path, name, content, message):
    path = put(tmp_path, name, content)
    with pytest.raises(ValueError, match=message):
        read(path)
    last = b'{"text": "z", "label": "x"}\n' if name.endswith("jsonl") else b"z\tx\n" if name.endswith("tsv") else b"z,x\n"
    path.write_bytes(content + last)
    rows, bad = read(path, "quarantine")
    assert rows[-1][1] == {"text": "z", "label": "x"}
    assert bad == [int(message.split(":")[1])]


@pytest.mark.parametrize("on_bad_row", ["error", "quarantine"])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "holds no row"),
        ("a.jsonl", b"\n \n", "holds no row"),
        ("a.csv", b"text,label\n", "holds no row"),
        ("a.jsonl", GOOD + b'{"text": "caf\xe9"}\n', r"a\.jsonl:2: not UTF-8 \(byte 0xe9 at offset 41\).*iconv"),
        ("a.csv", "text,label\na,b\n".encode("utf-16"), r"a\.csv:1: the file is UTF-16"),
        ("a.jsonl", gzip.compress(GOOD, mtime=0), r"a\.jsonl:1: the file is gzip"),
        ("a.jsonl.gz", GOOD, r"a\.jsonl\.gz:1: not readable as gzip"),
        ("a.jsonl.gz", gzip.compress(GOOD * 99, mtime=0)[:-12], r"a\.jsonl\.gz:\d+: the gzip file ends too early"),
        ("a.csv", b"text,text\na,b\n", r"a\.csv:1: .*twice: 'text'"),
        ("a.csv", b'text,label\na,b\n"c,d\ne,f\n', r"a\.csv:3: a quote opened in this row never closes"),
        ("a.json", GOOD, r"ends in none of \.jsonl, \.csv, \.tsv"),
    ],
)
def test_what_spoils_a_file_is_always_refused(tmp_path, name, content, message, on_bad_row):
    with pytest.raises(ValueError, match=message):
        read(put(tmp_path, name, content), on_bad_row)


def test_a_missing_file_is_named_with_its_neighbours(tmp_path):
    put(tmp_path, "train.csv", b"")
    with pytest.raises(ValueError, match=r"task\.path: .*trian\.csv does not exist; its folder holds train\.csv"):
        Rows(tmp_path / "trian.csv")
    with pytest.raises(ValueError, match="is a folder"):
        Rows(tmp_path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.jsonl.gz", "a.csv.gz"])
@given(content=st.binary(max_size=300) | st.text(alphabet='"{}:,\t\r\n\0ab\ud7ff[]\\u0', max_size=200).map(str.encode))
@example(content=b'text\r"\n')
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_bytes_give_rows_or_one_clear_error(tmp_path, name, content):
    path = put(tmp_path, name, gzip.compress(content, mtime=0) if name.endswith("csv.gz") else content)
    for on_bad_row in ("error", "quarantine"):
        try:
            rows, _ = read(path, on_bad_row)
        except ValueError as error:
            assert name in str(error)  # noqa: PT017
        else:
            json.dumps(rows).encode()


def test_rows_and_quarantine_account_for_every_line(tmp_path):
    lines = [GOOD if number % 3 else b"{bad\n" for number in range(100)]
    rows, bad = read(put(tmp_path, "a.jsonl", b"".join(lines)), "quarantine")
    assert sorted([*(line for line, _ in rows), *bad]) == list(range(1, 101))


def test_a_long_line_is_read_whole(tmp_path):
    rows, _ = read(put(tmp_path, "a.jsonl", json.dumps({"text": "x" * 5_000_000}).encode()))
    assert len(rows[0][1]["text"]) == 5_000_000
