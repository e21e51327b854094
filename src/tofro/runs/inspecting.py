"""``tofro inspect``: what a task, a corpus or the folder of a prompt's run holds, in tables or as JSON.

In: a file, a glob, a folder of splits, or a task by name. Out: a dictionary of plain numbers, and the tables that show it. Tables
are read as a task, text files as a corpus. Findings refuse nothing; what can't be read is a ValueError. No torch, unless a
model's tokenizer is asked for.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tofro.config.build import build
from tofro.config.compose import compose, conf_folder
from tofro.config.errors import did_you_mean
from tofro.progress import Progress
from tofro.runs.progress import progress
from tofro.text.corpus_profile import CorpusProfile
from tofro.text.files import find_files, is_data
from tofro.text.fingerprint import match_glob
from tofro.text.profile import CountTokens, Read, SplitProfile, choose_columns, leaks, profile_table, unseen_labels
from tofro.text.reader import Rows
from tofro.text.splits import find_splits
from tofro.text.task import Task

TEXT = (".txt", ".txt.gz")
KEY = "inspect"


@dataclass(frozen=True)
class Asked:
    """What is to be inspected, and how its columns are called where not as usual."""

    data: str
    text_a: str | None = None
    text_b: str | None = None
    label: str | None = None
    model: str | Path | None = None


def examine(asked: Asked, shown: bool = True) -> dict[str, Any]:
    """Return what the data holds."""
    path = Path(asked.data).expanduser()
    prompt = path / "prompt.json"  # the folder of a run that put a prompt (runs/diagnosis.py)
    if prompt.is_file():
        return {"holds": "prompt", "data": asked.data, **json.loads(prompt.read_text(encoding="utf-8"))}
    count = None if asked.model is None else _token_counter(asked.model)
    if not path.exists() and not glob.has_magic(asked.data):
        return _named_task(asked, count, shown)
    if _is_corpus(path, asked.data):
        return _corpus(asked, count, shown)
    files = {"all rows": [path]} if path.is_file() else find_splits(asked.data, KEY)
    return _tables(asked, files, count, shown)


def _is_corpus(path: Path, data: str) -> bool:
    """Say whether the data is text files; a folder whose train split is a table is none."""
    if path.is_dir():
        with suppress(ValueError):
            find_splits(path, KEY)
            return False
        return any(file.name.lower().endswith(TEXT) for file in path.rglob("*"))
    files = [path] if path.exists() else match_glob(data)
    return bool(files) and all(file.name.lower().endswith(TEXT) for file in files)


def _tables(asked: Asked, files: dict[str, list[Path]], count: CountTokens | None, shown: bool) -> dict[str, Any]:
    profiles: dict[str, SplitProfile] = {}
    read, columns = None, []
    total, behind = sum(file.stat().st_size for each in files.values() for file in each), 0
    with progress(f"inspecting {asked.data}", "bytes", shown) as report:
        for split, each in files.items():
            profiles[split] = SplitProfile(count)
            for file in each:
                table = Rows(file, "quarantine", KEY, _told(report, behind, total))
                there = table.columns()
                if read is None:
                    columns, read = there, choose_columns(there, str(file), asked.text_a, asked.text_b, asked.label)
                profile_table(table, read, profiles[split])
                behind += file.stat().st_size
    assert read is not None, "there is a file"
    found = _task_numbers(asked.data, columns, read, profiles)
    for split, each in files.items():
        found["splits"][split] |= {"files": [file.name for file in each], "encoding": _encoding(each)}
    return found


def _task_numbers(data: str, columns: list[str], read: Read, profiles: dict[str, SplitProfile]) -> dict[str, Any]:
    first = profiles["train"] if "train" in profiles else next(iter(profiles.values()))
    return {
        "data": data,
        "holds": "task",
        "kind": first.kind,
        "columns": columns,
        "read": {"text_a": read.text_a, "text_b": read.text_b, "label": read.label},
        "splits": {split: profile.numbers() for split, profile in profiles.items()},
        "leaks": leaks(profiles),
        "labels_unseen_in_train": unseen_labels(profiles),
    }


def _named_task(asked: Asked, count: CountTokens | None, shown: bool) -> dict[str, Any]:
    names = sorted(path.stem for path in (conf_folder() / "task").glob("*.yaml"))
    if asked.data not in names:
        hint = did_you_mean(asked.data, names) or f"tasks by name: {', '.join(names)}"
        raise ValueError(f"{asked.data}: no such file or folder, and no task of conf/task; {hint}")
    if asked.data in ("file", "hub"):
        raise ValueError(f"{asked.data} reads data of yours; give its file or folder instead")
    with progress(f"reading task {asked.data}", "files", shown) as report:
        task: Task = build(compose([f"task={asked.data}"]).task, report)
    profiles = {}
    for split, examples in task.splits.items():
        profiles[split] = SplitProfile(count)
        for number, example in enumerate(examples, 1):
            profiles[split].add_example(number, example)
    read = Read("tokens" if task.kind == "tags" else "text", "text_b" if task.pair else None, "label")
    return _task_numbers(asked.data, [], read, profiles) | {"metric": task.metric, "notes": list(task.notes)}


def _corpus(asked: Asked, count: CountTokens | None, shown: bool) -> dict[str, Any]:
    train, validation = find_files(asked.data)
    files = {"train": train, "validation": validation} if validation else {"all files": train}
    counted: Callable[[list[str]], int] | None = None if count is None else lambda texts: sum(count(texts))
    total, behind = sum(file.stat().st_size for each in files.values() for file in each), 0
    found: dict[str, Any] = {"data": asked.data, "holds": "corpus", "splits": {}}
    with progress(f"inspecting {asked.data}", "bytes", shown) as report:
        for split, each in files.items():
            profile = CorpusProfile(counted)
            for file in each:
                if not is_data(file, TEXT):
                    raise ValueError(f"{file}: of a corpus, text files are inspected; this is none")
                profile.add_file(file, _told(report, behind, total))
                behind += file.stat().st_size
            found["splits"][split] = {"files": [file.name for file in each], "encoding": _encoding(each), **profile.numbers()}
    return found


def _told(report: Progress, before: int, total: int) -> Callable[[int], None]:
    return lambda behind: report(before + behind, total)


def _encoding(files: list[Path]) -> str:
    """Say how files begin; that they are UTF-8 to their end is known once they are read."""
    marked = []
    for file in files:
        with file.open("rb") as stored:
            marked.append(stored.read(3) == b"\xef\xbb\xbf")
    if all(file.name.lower().endswith(".parquet") for file in files):
        return "Parquet"
    return "UTF-8" + (", with a byte order mark, which is dropped" if any(marked) else "")


def _token_counter(place: str | Path) -> CountTokens:
    """Return a function that counts the tokens of texts without line breaks, by the tokenizer of a run or a model."""
    from tofro.runs.model_place import find_model
    from tofro.tokens.pieces import Encoder
    from tofro.tokens.tokenizer import Tokenizer

    encoder = Encoder(Tokenizer.load(find_model(place, "--model")))
    return lambda texts: encoder.encode("".join(f"{text}\n" for text in texts)).lengths.tolist()
