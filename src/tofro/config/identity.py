"""Who a run is: an id of 8 hex digits that depends on whatever bears on the result, and on nothing else.

In: a composed config and a function that fingerprints data. Out: :class:`Identity`. Only the groups that the method reads enter,
of them only keys that differ from the dataclass defaults, and a path enters as what it holds: a run of tofro as its id, anything
else as a hash of its content. Moving a corpus, spelling out a default or changing the trainer leaves the id alone.
"""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tofro.text.settings import word_source

VERSION = 1  # raise it when the same config starts to mean another result
FROM_SCRATCH = ("encoder", "tokenizer")  # groups that init_from answers for
# keys that name or describe, and compute nothing
LABELS = ("corpus.name", "task.name", "method.reads", "method.reads_if_set", "control.name")
PATHS = ("method.tasks", "method.corpora", "method.few_shot_splits", "task.split_file")  # each path enters as what it holds
WORDS = "corpus.words"  # enters as what `auto` comes to
MODEL_FILES = (".safetensors", ".json", ".txt", ".bin", ".model")
BUILT_IN = "tofro.text.pydoc."
GENERIC_NAMES = ("text", "hub", "file")  # conf/corpus/text.yaml, hub.yaml and conf/task/file.yaml: the data's own name says more
_RUN_FILES = ("environment.json", "metrics.jsonl", "checkpoints")

Fingerprint = Callable[[str], str]
Locate = Callable[[str, str], Path]  # (place, key) -> its path, where a name on the hub may be the place


@dataclass(frozen=True)
class Identity:
    """A run's id, the name of its folder, and the keys and values the id is made of."""

    id: str
    name: str
    full: dict[str, Any]


def identity(config: DictConfig, fingerprint: Fingerprint, locate: Locate | None = None) -> Identity:
    """Return the identity of a composed config.

    ``fingerprint`` takes a path of a corpus, task or model file and returns its content hash, or ``"pydoc"`` and returns that of
    the built-in data. Given the folder of a run that is not finished, or whose result is damaged, it may answer with that run's
    id (8 hex digits), for a study that plans ahead. ``locate`` finds models by name; such a one enters as what it holds.
    ValueError where init_from is not there, or is a run that is not finished.
    """
    full: dict[str, Any] = {"version": VERSION, "seed": config.seed, **_start(config, fingerprint, locate)}
    reads = groups_read(config)
    for group in reads:
        full |= {key: value for key, value in _changed(config[group], f"{group}.") if key not in (*LABELS, WORDS)}
    for group in ("corpus", "task", "tokenizer"):
        if group in reads:
            full |= _content(config[group], group, fingerprint)
    full |= {key: _held(full[key], fingerprint) for key in PATHS if key in full}
    full = {key: _canonical(value) for key, value in sorted(full.items())}
    digest = hashlib.sha256(json.dumps(full, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()[:8]
    data = config.task if "task" in config.method.reads else config.corpus
    return Identity(digest, f"{_clean(config.method.name)}-{_clean(data_name(data))}-s{config.seed}-{digest}", full)


def groups_read(config: DictConfig) -> list[str]:
    """Return the groups that bear on the run's result, `method` last; the others can be set to anything."""
    reads = [group for group in config.method.reads if not (config.init_from and group in FROM_SCRATCH)]
    reads += [group for group in config.method.reads_if_set if is_set(config[group])]
    return list(dict.fromkeys([*reads, "method"]))


def is_set(node: DictConfig) -> bool:
    """Say whether a group is more than `none`: whether it names what it builds."""
    return not OmegaConf.is_missing(node, "_target_")


def _changed(node: DictConfig, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of what differs from the node's dataclass; of an untyped node, of everything."""
    settings = OmegaConf.get_type(node)
    defaults = OmegaConf.structured(settings) if dataclasses.is_dataclass(settings) else OmegaConf.create({})
    for name in map(str, node):  # skips values that are not set
        value = node[name]
        if isinstance(value, DictConfig):
            yield from _changed(value, f"{prefix}{name}.")
        elif OmegaConf.is_list(value):
            plain = OmegaConf.to_container(value, resolve=True)
            if name not in defaults or plain != OmegaConf.to_container(defaults[name]):
                yield f"{prefix}{name}", plain
        elif name not in defaults or value != defaults[name]:
            yield f"{prefix}{name}", value


def _held(places: str | list[str], fingerprint: Fingerprint) -> str | list[str]:
    """Return what stands for a path, or for a list of them."""
    return fingerprint(places) if isinstance(places, str) else [fingerprint(place) for place in places]


def _content(node: DictConfig, group: str, fingerprint: Fingerprint) -> dict[str, Any]:
    """Return what stands for a group's data in place of its path, and for a corpus its words where a segmenter finds them."""
    words = word_source(node.words, node.language) if group == "corpus" else "tokenizer"
    content = {} if words == "tokenizer" else {WORDS: words}
    if node.path is not None:
        content[f"{group}.path"] = _hash_files(node.path, fingerprint) if group == "tokenizer" else fingerprint(node.path)
    elif str(node.get("_target_", "")).startswith(BUILT_IN):
        content[f"{group}.path"] = fingerprint("pydoc")
    return content


def _start(config: DictConfig, fingerprint: Fingerprint, locate: Locate | None) -> dict[str, str]:
    parts = config.method.pooling == "folder"  # which a file of a part says
    places = {key: config[key] for key in ("init_from", "init_from_ft") if config[key]}
    return {key: starting_point(key, place, fingerprint, locate, parts) for key, place in places.items()}


def starting_point(key: str, place: str, fingerprint: Fingerprint, locate: Locate | None = None, parts: bool = False) -> str:
    """Return what stands for the models that a run starts from: ``run:<id>``, or ``files:<hash>`` of a foreign folder.

    With ``parts`` the files of its subfolders count too, as they do where the encoder lies in one.
    """
    path = Path(place).expanduser()
    for folder, inside in ((path, ""), (path.parent.parent, f"/models/{path.name}")):
        if inside and path.parent.name != "models":
            continue
        if (folder / "result.json").is_file():
            found = _finished_id(folder)
            if found is None:
                problem = f"{folder / 'result.json'} can't be read; delete it and run the run again, which resumes it"
                return _planned(key, place, fingerprint, problem)
            return f"run:{found}{inside}"
        if any((folder / name).exists() for name in _RUN_FILES):
            return _planned(key, place, fingerprint, "this run is not finished; run it to its end first")
    if not path.is_dir() and locate is not None:
        path = locate(place, key)
    if not path.is_dir():
        return _planned(key, place, fingerprint, "no such folder; give a finished run's folder or a model folder")
    return f"files:{_hash_files(str(path), fingerprint, parts or not (path / 'config.json').is_file())}"


def _finished_id(folder: Path) -> str | None:
    """Return the id of a finished run, None where its result is damaged."""
    try:
        found = json.loads((folder / "result.json").read_text(encoding="utf-8"))["id"]
    except (ValueError, KeyError, TypeError):
        return None
    return str(found)


def _planned(key: str, place: str, fingerprint: Fingerprint, problem: str) -> str:
    """Return the id of a run that a study has yet to make; any other missing or unfinished folder is the user's mistake."""
    path = Path(place).expanduser()
    places = [(place, "")]
    if path.parent.name == "models":  # one of the run's two models
        places.append((str(path.parent.parent), f"/models/{path.name}"))
    for folder, inside in places:
        try:
            found = fingerprint(folder)
        except (ValueError, OSError):
            continue
        if re.fullmatch("[0-9a-f]{8}", found):
            return f"run:{found}{inside}"
    raise ValueError(f"{key}={place}: {problem}")


def _hash_files(place: str, fingerprint: Fingerprint, parts: bool = False) -> str:
    """Hash the names and contents of a model's or tokenizer's files, with ``parts`` of those in its subfolders too.

    A README, say, does not count.
    """
    path = Path(place).expanduser()
    files = [path]
    if path.is_dir():
        inside = [*path.iterdir(), *(path.glob("*/*") if parts else ())]
        files = sorted(each for each in inside if each.suffix in MODEL_FILES and each.is_file())
    whole = hashlib.sha256()
    for file in files:
        name = file.name if file.parent == path or file == path else file.relative_to(path).as_posix()
        whole.update(f"{name}\0{fingerprint(str(file))}\n".encode())
    return whole.hexdigest()


def _canonical(value: Any) -> Any:
    """Give numbers that are equal one spelling: a whole float is written as an integer."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_canonical(each) for each in value]
    return value


def data_name(node: DictConfig) -> str:
    """Return the corpus' or task's name; for one read from a path with no name of its own, the file's or folder's."""
    name = None if OmegaConf.is_missing(node, "name") else node.name
    if name is not None and name not in GENERIC_NAMES:
        return name
    if node.path is None:
        return str(node.get("dataset") or name or "data").rpartition("/")[2]
    path = Path(node.path).expanduser().absolute()
    stem = path.name if path.is_dir() else path.name.partition(".")[0]
    if stem in ("train", "validation", "test") or glob.has_magic(stem):
        return next(folder.name for folder in path.parents if not glob.has_magic(folder.name))
    return stem


def _clean(name: str) -> str:
    """Keep what is safe in a folder's name anywhere: letters, digits, dot, underscore and hyphen, not too many."""
    return re.sub(r"[^\w.]+", "-", name).strip("-._")[:48] or "data"
