"""Malformed input: read with exact counts, or one clear ValueError of tofro's own; never a library's traceback, never a hang.

A corpus of what goes wrong in practice, and 200 files fuzzed from sound ones with a fixed seed. Each goes through the task
reader, the inspector and the reader of inputs to predict.
"""

from __future__ import annotations

import gzip
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tofro.config.errors import is_mistake
from tofro.runs.inspecting import Asked, examine
from tofro.text.inputs import InputFile
from tofro.text.reader import Rows
from tofro.text.settings import TaskSettings
from tofro.text.task import Task, read_task

SECONDS = 10.0
COUNT = 40
ROWS = [{"text": f'Row {number}, "quoted" é 中.', "label": "ab"[number % 2]} for number in range(COUNT)]


def jsonl(rows: list[dict] = ROWS, end: str = "\n") -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + end for row in rows).encode()


def csv(end: str = "\n") -> bytes:
    lines = ["text,label", *(f'"{row["text"].replace(chr(34), chr(34) * 2)}",{row["label"]}' for row in ROWS)]
    return "".join(line + end for line in lines).encode()


def tsv(end: str = "\n") -> bytes:
    return "".join(line + end for line in ["text\tlabel", *(f"{row['text']}\t{row['label']}" for row in ROWS)]).encode()


def labelled(labels: list[object]) -> list[dict]:
    return [row | {"label": labels[number % len(labels)]} for number, row in enumerate(ROWS)]


def mixed_ends(raw: bytes) -> bytes:
    lines = raw.split(b"\n")
    return b"".join(line + (b"\r\n" if number % 2 else b"\n") for number, line in enumerate(lines) if line)


def utf16(raw: bytes, mark: bool = True) -> bytes:
    return raw.decode().encode("utf-16" if mark else "utf-16-le")


def long_line(words: int) -> bytes:
    return jsonl([*ROWS, {"text": "word " * words, "label": "a"}])


def read(path: Path, on_bad_row: str) -> Task:
    return read_task(TaskSettings(name="file", path=str(path), on_bad_row=on_bad_row))


SOUND: dict[str, tuple[str, Callable[[], bytes], int]] = {  # read with so many rows
    "BOM, JSON lines": ("a.jsonl", lambda: b"\xef\xbb\xbf" + jsonl(), COUNT),
    "BOM, CSV": ("a.csv", lambda: b"\xef\xbb\xbf" + csv(), COUNT),
    "BOM, TSV": ("a.tsv.gz", lambda: gzip.compress(b"\xef\xbb\xbf" + tsv()), COUNT),
    "CRLF and LF mixed, JSON lines": ("a.jsonl", lambda: mixed_ends(jsonl()), COUNT),
    "CRLF and LF mixed, CSV": ("a.csv", lambda: mixed_ends(csv()), COUNT),
    "CRLF and LF mixed, TSV": ("a.tsv", lambda: mixed_ends(tsv()), COUNT),
    "blank lines": ("a.jsonl", lambda: jsonl(end="\n\n \n"), COUNT),
    "no line end at the end": ("a.csv", lambda: csv().rstrip(), COUNT),
    "labels of mixed types": ("a.jsonl", lambda: jsonl(labelled([1, "1", 1.0, "0", 0])), COUNT),
    "a line of 2 MB": ("a.jsonl", lambda: long_line(400_000), COUNT + 1),
    "a line of 50 MB": ("a.jsonl", lambda: long_line(10_000_000), COUNT + 1),
}  # fmt: skip

BAD: dict[str, tuple[str, Callable[[], bytes], int | None, str]] = {
    # rows that remain where bad ones are set aside (None: refused all the same), and what is said where they are not
    "UTF-16": ("a.csv", lambda: utf16(csv()), None, "a.csv:1: the file is UTF-16, not UTF-8; convert it: iconv -f UTF-16"),
    "UTF-16, packed": ("a.csv.gz", lambda: gzip.compress(utf16(csv())), None, "gzip -cd a.csv.gz | iconv -f UTF-16"),
    "UTF-16 without a mark": ("a.jsonl", lambda: utf16(jsonl(), mark=False), None, "a.jsonl:1: "),
    "UTF-32": ("a.jsonl", lambda: jsonl().decode().encode("utf-32"), None, "a.jsonl:1: the file is UTF-32"),
    "Latin-1": ("a.tsv", lambda: tsv() + "café\ta\n".encode("latin-1"), None, "a.tsv:42: not UTF-8 (byte 0xe9"),
    "Latin-1, what to do": ("a.tsv", lambda: tsv() + "café\ta\n".encode("latin-1"), None, "iconv -f LATIN1 -t UTF-8 a.tsv > new"),
    "GB18030": ("a.tsv", lambda: tsv() + "这是一个句子\ta\n".encode("gb18030"), None, "iconv -f GB18030"),
    "NUL": ("a.csv", lambda: csv() + b"nul \0,a\n", COUNT, "a.csv:42: 'text' holds a NUL character"),
    "ragged rows": ("a.csv", lambda: csv() + b"one\na,b,c\nmore,a\n", COUNT + 1, "a.csv:42: 1 fields where the header names 2"),
    "ragged rows, TSV": ("a.tsv", lambda: tsv() + b"one\n", COUNT, "a.tsv:42: 1 fields"),
    "an unbalanced quote": ("a.csv", lambda: csv() + b'"open,a\nnext,b\n', None, "a.csv:42: a quote opened in this row never"),
    "a quote within a field": ("a.csv", lambda: csv() + b'"a"b,a\n', COUNT, "a.csv:42: malformed CSV"),
    "gzip cut off": ("a.jsonl.gz", lambda: gzip.compress(jsonl(ROWS * 50))[:-20], None, "the gzip file ends too early"),
    "gzip with a damaged middle": ("a.jsonl.gz", lambda: damaged(gzip.compress(jsonl(ROWS * 50))), None, "a.jsonl.gz:"),
    "mixed JSON types": ("a.jsonl", lambda: jsonl() + b'[1]\n"x"\n3\nnull\n{"text": 5, "label": "a"}\n', COUNT, "a JSON object"),
    "a key twice": ("a.jsonl", lambda: jsonl() + b'{"text": "x", "text": "y", "label": "a"}\n', COUNT, "a key occurs twice"),
    "NaN": ("a.jsonl", lambda: jsonl() + b'{"text": "x", "label": NaN}\n', COUNT, "NaN is no JSON number"),
    "an endless number": ("a.jsonl", lambda: jsonl() + b'{"text": "x", "label": ' + b"9" * 5000 + b"}\n", COUNT, "a.jsonl:41: "),
    "a deep nest": ("a.jsonl", lambda: jsonl() + b'{"text": ' + b"[" * 100_000 + b"\n", COUNT, "a.jsonl:41: malformed JSON"),
    "half a surrogate pair": ("a.jsonl", lambda: jsonl() + b'{"text": "\\ud83d", "label": "a"}\n', COUNT, "half of a surrogate"),
    "an empty file": ("a.jsonl", lambda: b"", None, "a.jsonl: the file holds no row"),
    "a header alone": ("a.csv", lambda: b"text,label\n", None, "a.csv: the file holds no row"),
    "texts all empty": ("a.jsonl", lambda: jsonl([row | {"text": " "} for row in ROWS]), None, "a.jsonl:1: 'text' is empty"),
    "labels all empty": ("a.jsonl", lambda: jsonl(labelled([""])), None, "a.jsonl:1: the label 'label' is missing"),
    "a column twice": ("a.csv", lambda: b"text,label,text\na,b,c\n", None, "a.csv:1: the header names a column twice: 'text'"),
    "a misspelt column": ("a.csv", lambda: csv().replace(b"text,label", b"text,labl", 1), None, "no column 'label' (task.label)"),
    "Parquet in name only": ("a.parquet", jsonl, None, "a.parquet: not readable as Parquet"),
    "an empty Parquet file": ("a.parquet", lambda: b"", None, "a.parquet: not readable as Parquet"),
    "a picture": ("a.csv", lambda: b"\x89PNG\r\n\x1a\n" + bytes(range(256)), None, "a.csv:1: not UTF-8"),
}  # fmt: skip


def damaged(raw: bytes) -> bytes:
    middle = len(raw) // 2
    return raw[:middle] + bytes(byte ^ 0x55 for byte in raw[middle : middle + 40]) + raw[middle + 40 :]


@pytest.mark.parametrize("case", [pytest.param(case, marks=pytest.mark.slow if "50 MB" in case else ()) for case in SOUND])
def test_what_can_be_read_is_read_to_the_last_row(tmp_path: Path, case: str) -> None:
    name, content, rows = SOUND[case]
    path = tmp_path / name
    path.write_bytes(content())
    started = time.monotonic()
    task = read(path, "error")
    assert sum(map(len, task.splits.values())) == rows
    assert examine(Asked(str(path)), shown=False)["splits"]["all rows"]["rows"] == rows
    assert len(list(InputFile(path))) == rows
    assert time.monotonic() - started < SECONDS


@pytest.mark.parametrize("case", BAD)
def test_what_is_bad_is_named_or_set_aside(tmp_path: Path, case: str) -> None:
    name, content, rows, said = BAD[case]
    path = tmp_path / name
    path.write_bytes(content())
    with pytest.raises(ValueError) as caught:
        read(path, "error")
    assert said in str(caught.value)
    assert is_mistake(caught.value)
    if rows is not None:
        assert sum(map(len, read(path, "quarantine").splits.values())) == rows
    else:
        with pytest.raises(ValueError):
            read(path, "quarantine")


def test_a_misspelt_label_is_named_with_the_right_one(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(jsonl(labelled(["positive", "negative"])))
    (tmp_path / "test.jsonl").write_bytes(jsonl([{"text": "x", "label": "positive"}, {"text": "y", "label": "postive"}]))
    with pytest.raises(ValueError, match=r"test\.jsonl:2: label 'postive' never occurs .* did you mean 'positive'\?"):
        read(tmp_path, "quarantine")
    assert examine(Asked(str(tmp_path)), shown=False)["labels_unseen_in_train"] == {"test": {"postive": 1}}


def test_a_long_text_is_tokenised_no_further_than_it_is_read(tmp_path: Path, world: Path) -> None:
    from tofro.batches.labelled import LabelledBuilder
    from tofro.text.task import Example
    from tofro.tokens.settings import TokenizerSettings
    from tofro.tokens.training import open_tokenizer

    tokenizer = open_tokenizer(TokenizerSettings(vocabulary=192), (world / "corpus.txt").read_text(encoding="utf-8").split("\n"))
    long = "The bright river finds the bridge, again. " * 30_000
    started = time.monotonic()
    builder = LabelledBuilder([Example(long, None, "a"), Example(long[:400], None, "b")], tokenizer, 32, ("a", "b"))
    assert time.monotonic() - started < SECONDS / 2
    assert builder.cut == 2
    first, second = (builder.build(np.array([number])).tokens.tolist() for number in range(2))
    assert first == second
    assert len(first) == 32


SEEDS = range(200)
KINDS = ("a.jsonl", "a.csv", "a.tsv", "a.jsonl.gz", "a.csv.gz", "a.parquet")


def fuzz(draw: random.Random, raw: bytes) -> bytes:
    """Return bytes with one to three accidents."""
    content = bytearray(raw)
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(content) + 1)
        accident = draw.randrange(7)
        if accident == 0:
            del content[place : place + draw.choice([1, 1, 2, 30, 500])]
        elif accident == 1:
            content[place:place] = draw.choice(
                [b'"', b"\0", b"\n", b"\r", b"\t", b",", b"\xff\xfe", b"\xef\xbb\xbf", b"{", b"\\u", b"\xe9"]
            )
        elif accident == 2:
            content[place:place] = bytes(draw.randrange(256) for _ in range(draw.randint(1, 20)))
        elif accident == 3 and content:
            content[place % len(content)] ^= 1 << draw.randrange(8)
        elif accident == 4:
            content[place:place] = content[: draw.randint(0, 200)]
        elif accident == 5:
            del content[place:]
        else:
            content[place : place + 3] = draw.choice([b"NaN", b"null", b"1e9", b"[[[", b"}}}", b'"",'])
    return bytes(content)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    contents = {"a.jsonl": jsonl(), "a.csv": csv(), "a.tsv": tsv()}
    try:
        import pyarrow
        import pyarrow.parquet

        path = tmp_path_factory.mktemp("parquet") / "a.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
        contents["a.parquet"] = path.read_bytes()
    except ImportError:
        pass
    return contents


@pytest.mark.parametrize("start", range(0, 200, 50))
def test_fuzzed_files_are_read_or_refused(tmp_path: Path, sound: dict[str, bytes], start: int) -> None:
    for seed in SEEDS[start : start + 50]:
        draw = random.Random(seed)
        name = draw.choice(KINDS)
        raw = sound.get(name.removesuffix(".gz"), sound["a.jsonl"])
        if name.endswith(".gz") and draw.random() < 0.5:
            content = fuzz(draw, gzip.compress(raw, mtime=0))
        else:
            content = fuzz(draw, raw)
            content = gzip.compress(content, mtime=0) if name.endswith(".gz") else content
        path = tmp_path / f"{seed}-{name}"
        path.write_bytes(content)
        started = time.monotonic()
        for act in ACTS:
            try:
                act(path)
            except ValueError as error:
                assert is_mistake(error), (seed, error)  # noqa: PT017
                assert name in str(error) or "task." in str(error) or "training rows" in str(error), (seed, error)  # noqa: PT017
        assert time.monotonic() - started < SECONDS, seed


def _counts_add_up(path: Path) -> None:
    """Rows and rows set aside are all the lines that hold anything."""
    rows = Rows(path, "quarantine")
    good = [line for line, _ in rows]
    assert len({*good, *rows.quarantined}) == len(good) + len(rows.quarantined)
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        raw = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
        filled = [number for number, line in enumerate(raw.decode("utf-8-sig").split("\n"), 1) if line.strip()]
        assert sorted([*good, *rows.quarantined]) == filled


ACTS: tuple[Callable[[Path], object], ...] = (
    lambda path: read(path, "error"),
    lambda path: read(path, "quarantine"),
    lambda path: examine(Asked(str(path)), shown=False),
    lambda path: list(InputFile(path)),
    _counts_add_up,
)
