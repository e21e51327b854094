from __future__ import annotations

import hashlib
import json
import os
import shutil

import pytest

from tofro.text.cache import write_cache
from tofro.text.fingerprint import fingerprint_path, share_of

OLD = 1_600_000_000


def put(path, content: bytes, modified=OLD):
    path.write_bytes(content)
    os.utime(path, (modified, modified))
    return path


def test_a_file_is_named_by_its_bytes(tmp_path):
    path = put(tmp_path / "a.txt", b"hello")
    assert fingerprint_path(path) == hashlib.sha256(b"hello").hexdigest()
    assert fingerprint_path(put(tmp_path / "b.csv", b"hello")) == fingerprint_path(path)


def test_a_folder_is_named_by_its_data_files(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    put(one / "train.jsonl", b"a")
    put(one / "test.jsonl.gz", b"b")
    shutil.copytree(one, two)
    put(two / "README.md", b"words")
    first = fingerprint_path(one)
    assert fingerprint_path(two) == first
    assert fingerprint_path(two, suffixes=None) != first
    (two / "test.jsonl.gz").rename(two / "dev.jsonl.gz")
    assert fingerprint_path(two) != first
    put(one / "train.jsonl", b"c")
    assert fingerprint_path(one) != first


def test_the_cache_saves_reading_and_notices_changes(tmp_path):
    cache = tmp_path / "cache"
    path = put(tmp_path / "a.txt", b"hello")
    first = fingerprint_path(path, cache)
    put(path, b"HELLO")  # the same size and time: only reading would tell
    assert fingerprint_path(path, cache) == first
    put(path, b"HELLO", OLD + 1)
    assert fingerprint_path(path, cache) == hashlib.sha256(b"HELLO").hexdigest()
    put(path, b"longer", OLD + 1)
    assert fingerprint_path(path, cache) == hashlib.sha256(b"longer").hexdigest()


def test_a_file_touched_just_now_is_not_trusted(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"hello")
    fingerprint_path(path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"/x": 3}', json.dumps({"PATH": [5, OLD * 10**9, None]})])
def test_a_damaged_cache_only_costs_time(tmp_path, content):
    path = put(tmp_path / "a.txt", b"hello")
    cache = tmp_path / "cache"
    assert write_cache(cache / "fingerprints.json", content.replace("PATH", str(path)))
    assert fingerprint_path(path, cache) == hashlib.sha256(b"hello").hexdigest()
    assert [file.name for file in cache.iterdir()] == ["fingerprints.json"]


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path):
    path = put(tmp_path / "a.txt", b"hello")
    blocked = put(tmp_path / "file", b"") / "cache"
    assert fingerprint_path(path, blocked) == hashlib.sha256(b"hello").hexdigest()


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such file or folder"):
        fingerprint_path(tmp_path / "gone")
    with pytest.raises(ValueError, match="holds no data file"):
        fingerprint_path(tmp_path)


def test_shares_are_uniform_and_keep_texts_apart():
    shares = [share_of("text", str(number)) for number in range(4000)]
    assert all(0 <= share < 1 for share in shares)
    assert abs(sum(share < 0.25 for share in shares) / 4000 - 0.25) < 0.03
    assert share_of("ab", "c") != share_of("a", "bc")
    assert share_of("a", None) == share_of("a", None)
