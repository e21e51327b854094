"""The prompt of a run: the config's own, or with prompt=search one that is found first, on a few training rows.

In: a run's context, a model, a task of which only the training split is touched. Out: a scorer, notes, and in the run's folder
``search.jsonl``, one line per candidate, from which a search that was stopped goes on, and ``prompt.yaml``, the prompt as an
option of conf/prompt. Leaves out how candidates are made and judged (modules/prompt_search.py).
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from omegaconf import OmegaConf

from tofro.encoders.model import Model
from tofro.modules.prompt_search import Found, PromptSearch
from tofro.modules.prompting import ClozeScorer, Scorer
from tofro.runs.context import Context
from tofro.runs.progress import progress
from tofro.runs.using import built_prompt, scorer_of
from tofro.text.few_shot import Split, draw_split, row_hash, rows_of
from tofro.text.task import Example, Task
from tofro.tokens.settings import PromptSettings, SearchSettings

KEPT_EVERY = 64  # lines of the journal that are put on the disk together
_SPECIAL, _ESCAPED = re.compile(r"[\\()\[\]{}:=,\s]"), r"\\\g<0>"  # in a bare key of Hydra's
SCORER = "tofro.modules.prompting.ClozeScorer"


@dataclass(frozen=True)
class Asked:
    """A prompt to put to the task, and what is to be said about where it comes from."""

    scorer: Scorer
    notes: tuple[str, ...] = ()


def asked(context: Context, model: Model, task: Task) -> Asked:
    """Return the run's prompt; ValueError where it does not fit the task, or where the task has too few rows to search on."""
    search = built_prompt(context, model, task)
    if not isinstance(search, PromptSearch):
        return Asked(scorer_of(context, model, task))
    settings = search.settings
    rows, checksum = search_rows(settings, task)
    with (
        Journal(context.folder / "search.jsonl", checksum) as journal,
        progress("searching", "candidates", context.shown) as told,
    ):
        found = search.find(rows, journal.known, journal.record, told)
    prompt = PromptSettings(SCORER, found.templates, settings.template, found.words, settings.calibration, settings.pair)
    written = context.folder / "prompt.yaml"
    write_preset(written, prompt, found, f"{len(rows)} training rows of {task.name}, sha256 {checksum[:16]}")
    scorer = ClozeScorer(prompt, model, context.start.tokenizer, task.labels, task.pair, context.config.task.max_length)
    best = found.judgements[0]
    return Asked(
        scorer,
        (
            f"prompt=search: {found.tried} of at most {settings.budget} candidates judged on {len(rows)} training rows "
            f"(sha256 {checksum}); validation and test were not looked at",
            f"prompt=search: found {found.templates[0]!r} with {spelt(found.words)}; it answers {best.accuracy:.3f} "
            "of the rows that chose it rightly, which flatters it",
        ),
    )


def search_rows(settings: SearchSettings, task: Task) -> tuple[list[Example], str]:
    """Return the rows that the search may see, all of them training rows, and the sha256 of their choice."""
    if settings.shots is None:
        rows = list({row_hash(row): row for row in task.splits["train"]}.values())
        return rows, Split(task.name, 0, (tuple(map(row_hash, rows)),)).checksum
    drawn = draw_split(task, settings.shots, settings.draw + 1, key="prompt.shots")
    split = Split(task.name, settings.shots, drawn.draws[-1:])
    return rows_of(split, task)[0], split.checksum


class Journal:
    """What a search has computed, a line of JSON each, so that it goes on where it stopped; a torn last line is dropped."""

    def __init__(self, path: Path, checksum: str) -> None:
        """Read ``path``. Raises ValueError where it was written for other rows than those of ``checksum``."""
        self.known: dict[str, Any] = {}
        whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
        try:
            lines = [json.loads(line) for line in whole.splitlines()]
            self.known = {str(line["name"]): line["value"] for line in lines}
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path}: not the journal of a search; delete the file, and the search starts anew") from None
        if self.known.setdefault("rows", checksum) != checksum:
            raise ValueError(f"{path}: written for other training rows; delete the file, and the search starts anew")
        self.file = path.open("r+b" if path.exists() else "w+b")
        self.file.truncate(len(whole) + 1 if whole else 0)
        self.file.seek(0, os.SEEK_END)
        self.waiting = 0
        if not whole:
            self.record("rows", checksum)

    def record(self, name: str, value: Any) -> None:
        """Add a line; the disk has it after at most ``KEPT_EVERY`` others."""
        self.file.write(json.dumps({"name": name, "value": value}, ensure_ascii=False).encode() + b"\n")
        self.waiting += 1
        if self.waiting >= KEPT_EVERY:
            self.keep()

    def keep(self) -> None:
        """Put on the disk what was added."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.waiting = 0

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.keep()
        self.file.close()


def spelt(words: dict[str, list[str]]) -> str:
    """Return label words in one line."""
    return ", ".join(f"{label}: {' '.join(chosen)}" for label, chosen in words.items())


def write_preset(path: Path, prompt: PromptSettings, found: Found, rows: str) -> None:
    """Write ``prompt`` as an option of conf/prompt, opened by where it comes from and how to use it."""
    preset = {"_target_": prompt._target_, "templates": prompt.templates, "words": prompt.words}
    preset |= {"calibration": prompt.calibration} if prompt.calibration != PromptSettings("").calibration else {}
    judged = [f"{each.accuracy:.4f} right, fit {each.fit:.4f}" for each in found.judgements]
    lines = [
        f"Found by prompt=search on {rows}; {found.tried} candidates.",
        *(f"Template {number} on these rows: {text}." for number, text in enumerate(judged)),
        "To use it: copy this file to conf/prompt/NAME.yaml of a checkout and say prompt=NAME; or anywhere, on the command line:",
        shlex.join(overrides(preset)),
    ]
    text = "".join(f"# {line}\n" for line in lines) + "defaults: [settings, _self_]\n\n" + OmegaConf.to_yaml(preset)
    beside = path.with_suffix(".part")
    beside.write_text(text, encoding="utf-8")
    beside.rename(path)


def overrides(preset: Mapping[str, Any]) -> list[str]:
    """Return the overrides that say what a preset says: texts quoted as JSON quotes them, keys as Hydra takes them, bare."""
    return [f"prompt.{name}={value if name == '_target_' else _quoted(value)}" for name, value in preset.items()]


def _quoted(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_SPECIAL.sub(_ESCAPED, key)}: {_quoted(each)}" for key, each in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)
