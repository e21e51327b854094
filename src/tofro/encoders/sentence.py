"""Folders of sentence-transformers: which of their parts is the encoder, and how they make a vector of its states.

In: a folder that may have a modules.json. Out: where its encoder lies, ``mean``, ``cls`` or another pooling by its name in
1_Pooling/config.json, and with it what else makes its vectors (:class:`Rule`). :func:`write_modules` makes a folder of an
encoder that sentence-transformers opens as it stands. Files only, no tensors; nothing that a folder names is imported.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG, MODULES, POOLING = "config.json", "modules.json", "1_Pooling"
SENTENCE_CONFIG = "sentence_bert_config.json"
_PARTS = "sentence_transformers.models"
_MODES = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens"}
_FOLLOWED = ("Transformer", "Pooling", "Normalize")


@dataclass(frozen=True)
class Rule:
    """How a folder makes one vector of a text."""

    pooling: str | None = None  # mean, cls or another by its own name; None where the folder asks for none
    normalize: bool = False  # the vector is scaled to length 1
    lower: bool = False  # texts are put in lower case first
    length: int | None = None  # tokens of a text, special ones included
    others: tuple[str, ...] = ()  # kinds of its parts that change the vector and are none of tofro's, Dense say


def find_transformer(folder: Path) -> Path:
    """Return where the encoder of a sentence-transformers folder lies: the folder itself, or the one that modules.json names."""
    if (folder / CONFIG).is_file() or not (folder / MODULES).is_file():
        return folder
    inside = _part(folder, "Transformer")
    if inside is None:
        raise ValueError(f"{folder / MODULES}: names no Transformer module; give the folder with {CONFIG} itself.")
    return inside


def read_pooling(folder: Path) -> str | None:
    """Return the pooling that a folder asks for, ``mean``, ``cls`` or another by its own name; None where it asks for none."""
    inside = _part(folder, "Pooling") if (folder / MODULES).is_file() else None
    if inside is None or not (inside / CONFIG).is_file():
        return None
    config = _read(inside / CONFIG)
    if not isinstance(config, dict):
        raise ValueError(f"{inside / CONFIG}: must hold a JSON object.")
    if isinstance(config.get("pooling_mode"), str):  # newer folders
        return str(config["pooling_mode"])
    chosen = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
    known = {theirs: ours for ours, theirs in _MODES.items()}
    return "+".join(known.get(name, name.removeprefix("pooling_mode_")) for name in chosen) or None


def read_rule(folder: Path) -> Rule:
    """Return how a folder makes its vectors; a folder that has no modules.json asks for nothing."""
    if not (folder / MODULES).is_file():
        return Rule()
    inside, kinds = find_transformer(folder), [kind for kind, _ in _parts(folder)]
    said, tokenizer = (_keys(inside / name) for name in (SENTENCE_CONFIG, "tokenizer_config.json"))
    lengths = (said.get("max_seq_length"), tokenizer.get("model_max_length"))  # newer folders have the second alone
    return Rule(
        read_pooling(folder),
        "Normalize" in kinds,
        said.get("do_lower_case") is True,
        next((length for length in lengths if isinstance(length, int) and length > 0), None),
        tuple(kind for kind in kinds if kind not in _FOLLOWED),
    )


def write_modules(folder: Path, width: int, pooling: str) -> None:
    """Write modules.json and 1_Pooling/config.json beside an encoder of ``width`` D; ``pooling`` is ``mean`` or ``cls``."""
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": f"{_PARTS}.Transformer"},
        {"idx": 1, "name": "1", "path": POOLING, "type": f"{_PARTS}.Pooling"},
    ]
    config = {"word_embedding_dimension": width, **{theirs: ours == pooling for ours, theirs in _MODES.items()}}
    (folder / POOLING).mkdir()
    _write(folder / MODULES, modules)
    _write(folder / POOLING / CONFIG, config)


def _part(folder: Path, kind: str) -> Path | None:
    """Return the folder of the part of this kind, None where there is no such part; ValueError for one outside ``folder``."""
    paths = [path for found, path in _parts(folder) if found == kind]
    if not paths:
        return None
    inside = folder / paths[0]
    if not inside.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{folder / MODULES}: the part {paths[0]!r} lies outside the folder.")
    return inside


def _parts(folder: Path) -> list[tuple[str, str]]:
    """Return kind and path of each part, the kind being the last word of its class' name; nothing is imported."""
    modules = _read(folder / MODULES)
    try:
        return [(str(each["type"]).rpartition(".")[2], str(each["path"])) for each in modules]
    except (KeyError, TypeError):
        return []


def _keys(path: Path) -> dict[str, Any]:
    """Return a JSON object; {} where there is no such file, or another value in it."""
    found = _read(path) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not JSON in UTF-8 ({error}).") from None


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
