"""Folders that try to run code, or lie about what they hold: nothing runs, and each is opened without it or refused by name."""

from __future__ import annotations

import importlib
import json
import pickle
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tofro
from tests.runs.conftest import Chain
from tofro.cli import DONE, MISTAKE, main
from tofro.runs.context import open_start

INDEX = "model.safetensors.index.json"


class Payload:
    """Pickled, it makes the file ``ran`` in the current folder when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


PICKLE = pickle.dumps(Payload())


@pytest.fixture
def folder(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fine-tuned model with a module `evil` beside it, which is there to be imported; both kinds of payload leave a trace."""
    folder = tmp_path / "model"
    shutil.copytree(chain.runs["full"].folder / "models" / "ft", folder)
    (folder / "evil.py").write_text("from pathlib import Path\nPath('ran').touch()\nclass Evil:\n    pass\n")
    for name in ("training_args.bin", "optimizer.pt", "tokenizer.pkl", "rust_model.ot"):
        (folder / name).write_bytes(PICKLE)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("evil", None)


def edit(path: Path, **keys: Any) -> None:
    path.write_text(json.dumps((json.loads(path.read_text()) if path.is_file() else {}) | keys))


def pickle_instead(folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(PICKLE)


def pickle_as_part(folder: Path, name: str) -> None:
    pickle_instead(folder, name)
    edit(folder / INDEX, weight_map={"bert.embeddings.word_embeddings.weight": name})


def evil_part(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([*modules, {"idx": 2, "name": "2", "path": "", "type": "evil.Evil"}]))


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "weights that are a pickle": (lambda folder: pickle_instead(folder, "pytorch_model.bin"), "is a pickle"),
    "weights that are pickles": (lambda folder: pickle_instead(folder, "pytorch_model-00001-of-00002.bin"), "is a pickle"),
    "a pickle by the name of weights": (lambda folder: pickle_instead(folder, "model.safetensors"), "is damaged"),
    "a part that is a pickle": (lambda folder: pickle_as_part(folder, "model-00001-of-00001.safetensors"), "is damaged"),
    "an index to a pickle": (lambda folder: pickle_as_part(folder, "pytorch_model.bin"), "names 'pytorch_model.bin'"),
    "heads that are a pickle": (lambda folder: (folder / "tofro_heads.safetensors").write_bytes(PICKLE), "is damaged"),
    "a config that names code": (lambda folder: edit(folder / "config.json", auto_map={"AutoModel": "evil.Evil"}), "auto_map"),
    "a model type that is code": (lambda folder: edit(folder / "config.json", model_type="evil"), "model_type is 'evil'"),
    "a class that is code": (lambda folder: edit(folder / "config.json", architectures=["evil.Evil"]), "evil.Evil"),
}
OPENED: dict[str, Callable[[Path], Any]] = {
    "pickles that lie about": lambda folder: None,
    "a tokenizer that names code": lambda folder: edit(
        folder / "tokenizer_config.json", tokenizer_class="Evil", auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    ),
    "a part that is code": evil_part,
}


def test_the_payloads_would_leave_a_trace(folder: Path) -> None:
    pickle.loads(PICKLE)
    assert (folder / "ran").exists()
    (folder / "ran").unlink()
    importlib.import_module("evil")
    assert (folder / "ran").exists()


@pytest.mark.parametrize("case", REFUSED)
def test_code_is_refused_by_name_and_never_runs(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, said = REFUSED[case]
    change(folder)
    for act in (lambda: tofro.load(folder), lambda: open_start(str(folder), folder.parent / "cache")):
        with pytest.raises(ValueError, match=said):
            act()
    assert main(["predict", str(folder), "--text", "x"]) == MISTAKE
    assert said in capsys.readouterr().err
    assert not (folder / "ran").exists()
    assert "evil" not in sys.modules


@pytest.mark.parametrize("case", OPENED)
def test_code_beside_a_model_is_left_alone(case: str, folder: Path) -> None:
    OPENED[case](folder)
    loaded = tofro.load(folder)
    assert loaded.encode(["A river."], "mean").shape == (1, 32)
    open_start(str(folder), folder.parent / "cache")
    assert main(["predict", str(folder), "--text", "x"]) == DONE
    if case == "a part that is code":
        with pytest.raises(ValueError, match="made with Evil, which tofro has not"):
            loaded.encode(["A river."])
    assert not (folder / "ran").exists()
    assert "evil" not in sys.modules


def header(data: bytes = b"\0" * 16, **tensors: Any) -> bytes:
    """A safetensors file whose header says this of its tensors: type, shape, first and last byte."""
    said = {
        name: {"dtype": kind, "shape": shape, "data_offsets": [first, end]} for name, (kind, shape, first, end) in tensors.items()
    }
    raw = json.dumps(said).encode()
    return struct.pack("<Q", len(raw)) + raw + data


LIES = {
    "bytes beyond the end": header(a=("F32", [4], 0, 16), b=("F32", [4], 16, 32)),
    "bytes far beyond the end": header(a=("F32", [2**40], 0, 2**42)),
    "an end before the beginning": header(a=("F32", [4], 16, 0)),
    "two tensors in one place": header(a=("F32", [4], 0, 16), b=("F32", [4], 0, 16)),
    "a hole": header(a=("F32", [1], 0, 4), b=("F32", [2], 8, 16)),
    "bytes that no tensor has": header(a=("F32", [2], 0, 8)),
    "a shape larger than its bytes": header(a=("F32", [400], 0, 16)),
    "a shape that no machine holds": header(a=("F32", [2**40, 2**40], 0, 16)),
    "a negative shape": header(a=("F32", [-4], 0, 16)),
    "a type that is none": header(a=("PICKLE", [4], 0, 16)),
    "a header that is no JSON": struct.pack("<Q", 16) + PICKLE[:16].ljust(16, b"\0"),
    "a header that is a list": struct.pack("<Q", 2) + b"[]",
    "a deep header": struct.pack("<Q", 100_000) + b"[" * 100_000,
    "a header longer than the file": struct.pack("<Q", 10_000) + b"{}",
    "a header longer than any file": struct.pack("<Q", 2**64 - 1) + b"{}",
    "no header": b"\0" * 7,
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("part", [False, True], ids=["in one file", "in a part"])
def test_lying_headers_are_refused(lie: str, part: bool, folder: Path) -> None:
    name = "model-00001-of-00001.safetensors" if part else "model.safetensors"
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(LIES[lie])
    if part:
        edit(folder / INDEX, weight_map={"a": name, "b": name})
    with pytest.raises(ValueError, match=rf"{name}: is damaged or not a safetensors file"):
        tofro.load(folder)
