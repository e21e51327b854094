"""Weights in several files are those of one file, bit for bit, and an index that says anything else than its files is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tofro.encoders.folder import load_model, save_model
from tofro.encoders.model import build_model

from . import test_families, test_modernbert, test_parity
from .conftest import SMALL, VOCABULARY, StandInTokenizer, randomise

INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def make_hf(hf: Any, family: str) -> Any:
    """A tiny model of transformers with its language head."""
    if family == "bert":
        return test_parity.make_hf(hf, "BertForPreTraining", test_parity.settings_of("tiny"))
    if family == "modernbert":
        return test_modernbert.make_hf(hf, "ModernBertForMaskedLM", test_modernbert.TINY)
    return test_families.make_hf(hf, "ForMaskedLM", test_families.settings_of(family))


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "distilbert", "modernbert"])
def test_several_files_are_one(hf: Any, family: str, tmp_path: Path) -> None:
    theirs = make_hf(hf, family)
    theirs.save_pretrained(tmp_path / "one")
    theirs.save_pretrained(tmp_path / "many", max_shard_size="300KB")
    assert len(list((tmp_path / "many").glob("model-*.safetensors"))) > 1
    assert not (tmp_path / "many" / "model.safetensors").exists()
    one, many = (load_model(tmp_path / name) for name in ("one", "many"))
    assert one.model.settings == many.model.settings
    read = many.model.state_dict()
    assert read.keys() == one.model.state_dict().keys()
    assert all(torch.equal(tensor, read[name]) for name, tensor in one.model.state_dict().items())
    for name, opened in (("one", one), ("many", many)):
        save_model(tmp_path / f"out-{name}", opened.model, StandInTokenizer())
    assert len({(tmp_path / f"out-{name}" / "model.safetensors").read_bytes() for name in ("one", "many")}) == 1


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    """A folder whose weights lie in two files."""
    folder = tmp_path / "model"
    model = build_model(SMALL, VOCABULARY)
    randomise(model)
    save_model(folder, model, StandInTokenizer())
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    for file, part in ((FIRST, names[:20]), (SECOND, names[20:])):
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
    places = {name: FIRST if name in names[:20] else SECOND for name in names}
    write_index(folder, places)
    assert load_model(folder).made_anew == ()
    return folder


def write_index(folder: Path, places: Any) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))


def places_of(folder: Path) -> dict[str, str]:
    places: dict[str, str] = json.loads((folder / INDEX).read_text())["weight_map"]
    return places


def last(folder: Path) -> str:
    """A tensor of the second file."""
    return max(places_of(folder))


def move_index(folder: Path, file: str) -> None:
    """Let the index say that one tensor lies in ``file``."""
    write_index(folder, places_of(folder) | {last(folder): file})


def both(folder: Path) -> None:
    """Put a tensor of the second file into the first too."""
    name = last(folder)
    save_file(load_file(folder / FIRST) | {name: load_file(folder / SECOND)[name]}, folder / FIRST)


def drop(folder: Path) -> None:
    tensors = load_file(folder / SECOND)
    del tensors[last(folder)]
    save_file(tensors, folder / SECOND)


def outside(folder: Path) -> None:
    shutil.move(folder / SECOND, folder.parent / SECOND)


def lie(folder: Path) -> None:
    weights = (folder / SECOND).read_bytes()
    (folder / SECOND).write_bytes((2**40).to_bytes(8, "little") + weights[8:])


def forget(folder: Path) -> None:
    """Leave a tensor of a file out of the index."""
    write_index(folder, {name: file for name, file in places_of(folder).items() if name != last(folder)})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (outside, rf"{INDEX}: 1 of its 2 files are not in the folder \({SECOND}\)"),
        (lambda folder: move_index(folder, "model-00003-of-00003.safetensors"), r"1 of its 3 files are not in the folder"),
        (drop, rf"{SECOND}: lacks the tensor cls\.[\w.]+, which {INDEX} places there"),
        (both, rf"{FIRST}: holds the tensor cls\.[\w.]+, which {INDEX} does not place there"),
        (forget, rf"{SECOND}: holds the tensor cls\.[\w.]+, which"),
        (lambda folder: move_index(folder, FIRST), rf"{SECOND}: holds the tensor cls|{FIRST}: lacks"),
        (lie, rf"{SECOND}: is damaged"),
        (lambda folder: (folder / FIRST).write_bytes(b"\x80\x04K\x01."), rf"{FIRST}: is damaged"),
        (lambda folder: (folder / INDEX).write_text("{"), rf"{INDEX}: is not JSON"),
        (lambda folder: (folder / INDEX).write_text("[" * 100_000), rf"{INDEX}: is not JSON"),
        (lambda folder: (folder / INDEX).write_text("[]"), rf"{INDEX}: must hold a weight_map"),
        (lambda folder: write_index(folder, {}), "must hold a weight_map"),
        (lambda folder: write_index(folder, {"a": 1}), "must hold a weight_map"),
        (lambda folder: write_index(folder, {"a": [FIRST]}), "must hold a weight_map"),
    ],
)
def test_an_index_and_its_files_say_the_same(spoil: Callable[[Path], Any], message: str, cut: Path) -> None:
    spoil(cut)
    with pytest.raises(ValueError, match=message):
        load_model(cut)


@pytest.mark.parametrize(
    "place",
    [f"../{SECOND}", "ABSOLUTE", f"parts/{SECOND}", f"..\\{SECOND}", f"C:{SECOND}", "pytorch_model-00002-of-00002.bin", "..", ""],
)
def test_nothing_outside_the_folder_is_read(place: str, cut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the file is there and holds what the index promises."""
    outside(cut)
    (cut / "parts").mkdir()
    for copy in (cut / "parts" / SECOND, cut / "pytorch_model-00002-of-00002.bin"):
        shutil.copy(cut.parent / SECOND, copy)
    named = str(cut.parent / SECOND) if place == "ABSOLUTE" else place
    write_index(cut, {name: named if file == SECOND else file for name, file in places_of(cut).items()})
    opened: list[Path] = []
    monkeypatch.setattr("tofro.encoders.weights.load_file", lambda path: opened.append(path) or {})
    with pytest.raises(
        ValueError, match=rf"{INDEX}: names .*; the weights are read from \.safetensors files of the folder itself"
    ):
        load_model(cut)
    assert not opened


def test_heads_beside_several_files_come_along_and_are_there_once(cut: Path) -> None:
    name = last(cut)
    tensors = load_file(cut / SECOND)
    save_file({name: tensors.pop(name)}, cut / "tofro_heads.safetensors")
    save_file(tensors, cut / SECOND)
    write_index(cut, {each: file for each, file in places_of(cut).items() if each != name})
    assert load_model(cut).made_anew == ()
    save_file(tensors, cut / "tofro_heads.safetensors")
    with pytest.raises(ValueError, match=rf"tofro_heads\.safetensors: the tensor [\w.]+ is in {INDEX} too"):
        load_model(cut)


def test_one_file_counts_where_there_are_both(cut: Path) -> None:
    """As in transformers, which does not look at the index then."""
    save_file(load_file(cut / FIRST) | load_file(cut / SECOND), cut / "model.safetensors")
    (cut / INDEX).write_text("{")
    assert load_model(cut).made_anew == ()
