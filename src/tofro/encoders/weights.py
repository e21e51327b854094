"""The tensors of a model folder: model.safetensors, or several files and the index that says which tensor lies in which.

In: a folder. Out: its tensors by their names there, those of tofro_heads.safetensors among them. Strict: the index and its files
must say the same, and a file is named by its name alone, so that nothing outside the folder is read. Safetensors only, so
reading executes nothing. Left out: what the names mean, and which tensors a model needs (folder.py).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file
from torch import Tensor

WEIGHTS, EXTRA_HEADS = "model.safetensors", "tofro_heads.safetensors"
INDEX = f"{WEIGHTS}.index.json"
_PLAIN = re.compile(r"[\w-][\w.-]*\.safetensors")  # no folder, no drive, no parent


def weights_of(folder: Path) -> Path:
    """Return the file that speaks for a folder's weights, for messages too: the single file, or the index of several."""
    single, index = folder / WEIGHTS, folder / INDEX
    return index if index.is_file() and not single.is_file() else single  # as transformers chooses where there are both


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return every tensor of a folder's weights; ValueError, with the file, for what is damaged, missing or there twice."""
    path = weights_of(folder)
    if path.name == INDEX:
        tensors = _read_parts(path)
    elif path.is_file():
        tensors = _read_file(path)
    elif any(folder.glob("pytorch_model*.bin")):
        raise ValueError(
            f"{folder}: pytorch_model.bin is a pickle, which can run code, and is not read. Where you trust it, convert it: "
            f"transformers' AutoModel.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER) writes {WEIGHTS}."
        )
    else:
        raise ValueError(f"{path}: not found; the folder has no weights.")
    extra = folder / EXTRA_HEADS
    if extra.is_file():
        for name, tensor in _read_file(extra).items():
            if name in tensors:
                raise ValueError(f"{extra}: the tensor {name} is in {path.name} too.")
            tensors[name] = tensor
    return tensors


def _read_parts(index: Path) -> dict[str, Tensor]:
    """Return the tensors of all files that an index names, each from the file that it says."""
    places = _read_index(index)
    files = sorted(set(places.values()))
    gone = [name for name in files if not (index.parent / name).is_file()]
    if gone:
        few = ", ".join(gone[:3])
        raise ValueError(f"{index}: {len(gone)} of its {len(files)} files are not in the folder ({few}); copy or fetch it whole.")
    tensors: dict[str, Tensor] = {}
    for file in files:
        part = _read_file(index.parent / file)
        unnamed = next((name for name in part if places.get(name) != file), None)
        if unnamed is not None:
            raise ValueError(f"{index.parent / file}: holds the tensor {unnamed}, which {INDEX} does not place there.")
        tensors |= part
    absent = [name for name in places if name not in tensors]
    if absent:
        raise ValueError(f"{index.parent / places[absent[0]]}: lacks the tensor {absent[0]}, which {INDEX} places there.")
    return tensors


def _read_index(path: Path) -> dict[str, str]:
    """Return which file each tensor lies in."""
    try:
        index: Any = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not JSON in UTF-8 ({error}).") from None
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
        raise ValueError(f"{path}: must hold a weight_map that gives the file of each tensor.")
    odd = next((file for file in places.values() if not _PLAIN.fullmatch(file)), None)
    if odd is not None:
        raise ValueError(f"{path}: names {odd!r}; the weights are read from .safetensors files of the folder itself.")
    return places


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        tensors = load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path}: is damaged or not a safetensors file ({error}).") from None
    odd = [name for name, tensor in tensors.items() if not tensor.is_floating_point() and not name.endswith("position_ids")]
    if odd:
        raise ValueError(f"{path}: {odd[0]} holds {tensors[odd[0]].dtype}; quantised weights are not read.")
    return tensors
