"""What a run works with, made once and only when asked for: corpus, task, tokenizer, token stores and the starting models.

In: a sealed config and the run's folder. Out: :class:`Context`. Starting points are explicit and ordered (contract 7): the
run's own checkpoint (runs/fit.py), then ``init_from``, then scratch.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger

from tofro.batches.datamodules import Loading
from tofro.batches.order import key
from tofro.config.build import build
from tofro.encoders.folder import load_model
from tofro.encoders.model import Model, build_model
from tofro.encoders.pooling import POOLINGS
from tofro.encoders.sentence import find_transformer, read_pooling
from tofro.modules.base import Training
from tofro.modules.clock import Clock
from tofro.progress import Progress
from tofro.runs import ranks
from tofro.runs.folder import read_result
from tofro.runs.hub import locate
from tofro.runs.progress import progress
from tofro.runs.run import cache_of
from tofro.text.corpus import Corpus
from tofro.text.documents import Reading
from tofro.text.few_shot import Split, few_rows, own_split
from tofro.text.fingerprint import fingerprint_path, hash_json
from tofro.text.settings import CorpusSettings
from tofro.text.task import Task
from tofro.tokens.languages import find_words
from tofro.tokens.store import TokenStore, open_store
from tofro.tokens.tokenizer import Tokenizer
from tofro.tokens.training import open_tokenizer

RETAINED_HEADS = ("mlm", "pair")


@dataclass(frozen=True)
class Start:
    """A starting point: a model, its tokenizer, and a name that holds what they are."""

    model: Model
    tokenizer: Tokenizer
    lineage: str | None  # id of the run or hash of the folder; None from scratch
    fresh: tuple[str, ...]  # heads that hold random weights
    pooling: str | None = None  # what its folder asks for


class Context:
    """Lazily made parts of one run."""

    def __init__(self, config: DictConfig, folder: Path) -> None:
        self.config = config
        self.folder = folder
        self.cache = cache_of(config)
        self.trained_by: str | None = None  # id of the run whose training this one took (runs/trained.py)
        self.shown: bool = config.trainer.progress and ranks.is_first()

    @property
    def run_id(self) -> str:
        """The run's id, with which its folder's name ends."""
        return self.folder.name.rpartition("-")[2]

    def settings(self, group: str) -> Any:
        """Return a group's settings as the dataclass that its room takes."""
        return OmegaConf.to_object(self.config[group])

    @cached_property
    def loggers(self) -> tuple[Logger, ...]:
        """The run's tracker, where it has one; the first rank's alone."""
        if not (self.config.logger._target_ and ranks.is_first()):
            return ()
        return (build(self.config.logger, self.config, self.folder),)

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus of the config."""
        with progress(f"reading corpus {self.config.corpus.name}", "files", self.shown) as report:
            corpus: Corpus = build(self.config.corpus, report)
        return self.with_words(corpus, self.settings("corpus"))

    def with_words(self, corpus: Corpus, settings: CorpusSettings) -> Corpus:
        """Return ``corpus``, read as ``settings`` say, with where its words come from; ValueError where they can't be found."""
        objective = self.config.objective
        unit = objective.mask_unit if objective.mlm_weight else "token"  # pairs alone need no words
        return dataclasses.replace(corpus, words=find_words(corpus, settings, unit))

    @cached_property
    def whole_task(self) -> Task:
        """The task of the config, with all its rows."""
        with progress(f"reading task {self.config.task.name}", "files", self.shown) as report:
            task: Task = build(self.config.task, report)
        return task

    @cached_property
    def rows(self) -> Split | None:
        """Which rows of the task the run learns from, where it is a few of each label."""
        return own_split(self.whole_task, self.settings("task"))

    @cached_property
    def task(self) -> Task:
        """The task that the run learns."""
        return self.whole_task if self.rows is None else few_rows(self.whole_task, self.rows)

    def store(self, split: str, other: Corpus | None = None) -> TokenStore:
        """Return the token store of a split of the run's corpus, or of another one, built once for all runs."""
        corpus, start = other or self.corpus, self.start
        with ranks.first_alone(), progress(f"tokenizing {corpus.name}/{split}", corpus.unit, self.shown) as report:
            return open_store(self.cache / "stores", corpus, split, start.tokenizer, report)

    @cached_property
    def start(self) -> Start:
        """Where ``pre``, and without ``init_from_ft`` also ``ft``, starts."""
        start = self._scratch() if self.config.init_from is None else open_start(self.config.init_from, self.cache)
        longest = start.model.settings.max_positions
        for group, name in (("task", "max_length"), ("objective", "length")):
            length = self.config[group][name]
            if group in self.config.method.reads and length > longest:
                raise ValueError(
                    f"{group}.{name}={length}: the encoder reads at most {longest} tokens; set {group}.{name}={longest} or less"
                )
        if self.config.method.pooling == "folder" and start.pooling not in POOLINGS:
            asked = f"init_from asks for {start.pooling}, which tofro has not" if start.pooling else "init_from does not say"
            raise ValueError(f"method.pooling=folder: {asked}; set method.pooling to {' or '.join(POOLINGS)}")
        return start

    @property
    def pooling(self) -> str:
        """How measures make one vector of a text's states."""
        how: str = self.config.method.pooling
        return self.start.pooling or "mean" if how == "folder" else how

    @cached_property
    def start_ft(self) -> Start:
        """Where ``ft`` starts."""
        if self.config.init_from_ft is None:
            return self.start
        other = open_start(self.config.init_from_ft, self.cache)
        if other.tokenizer.fingerprint != self.start.tokenizer.fingerprint:
            raise ValueError("init_from_ft: its tokenizer differs from init_from's; both encoders must read the same tokens")
        return other

    def _scratch(self) -> Start:
        tokenizer, settings = self._own_tokenizer(), self.settings("encoder")
        if settings.unused_positions not in (0, tokenizer.pad_id + 1):
            raise ValueError(
                f"encoder.first_position={settings.first_position}: an encoder of family {settings.family} counts positions from "
                f"the row after that of padding, which is {tokenizer.pad_id}; set encoder.first_position={tokenizer.pad_id + 1}"
            )
        model = build_model(settings, tokenizer.vocabulary, RETAINED_HEADS, seed=self.config.seed)
        return Start(model, tokenizer, None, ("mlm", "pooler", "pair"))

    def _own_tokenizer(self) -> Tokenizer:
        settings = self.settings("tokenizer")
        made_from = hash_json([vars(settings), self.corpus.fingerprint, 1])
        folder = self.cache / "tokenizers" / made_from[:16]
        if settings.path is not None:
            return open_tokenizer(settings, ())
        with ranks.first_alone():
            if not folder.is_dir():
                with progress("training the tokenizer", self.corpus.unit, self.shown) as report:
                    tokenizer = open_tokenizer(settings, self._sentences(report))
                folder.parent.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as beside:
                    tokenizer.save(Path(beside) / "new")
                    with contextlib.suppress(OSError):  # another process has trained the same one in the meantime
                        (Path(beside) / "new").rename(folder)
            return Tokenizer.load(folder)

    def _sentences(self, report: Progress) -> Iterator[str]:
        reading = Reading()
        for document in self.corpus.documents("train", reading):
            yield from document
            report(reading.done, reading.total)

    def model_for_task(self, start: Model | None = None) -> Model:
        """Return a fresh ``ft``: a copy of its start, or of ``start``, made ready for the task."""
        return self.make_ready(copy.deepcopy(self.start_ft.model if start is None else start))

    def random_start(self) -> Model:
        """Return a model of the architecture that ``ft`` starts from, which has learnt nothing."""
        start = self.start_ft.model
        seed = key(self.config.seed, "random")  # not the seed of a pretraining, whose start it would be
        return build_model(start.settings, start.vocabulary, RETAINED_HEADS, seed=seed)

    def make_ready(self, model: Model, encoder: str = "ft") -> Model:
        """Give ``model`` the run's dropout and, unless a cloze answers the task, a new head for it; return it.

        The head is drawn from the run's seed, another one for ``pre`` than for ``ft``.
        """
        model.dropout = self.config.method.dropout
        if self.config.method.answer == "cloze":
            return model
        regression, words, seed = self.task.kind == "regression", self.task.kind == "tags", self.config.seed
        head_seed = seed if encoder == "ft" else key(seed, "head", encoder)
        model.add_task_head(1 if regression else len(self.task.labels), regression, head_seed, words)
        return model

    def loading(self) -> Loading:
        """Return how the global batch is cut and loaded."""
        budget, trainer = self.config.budget, self.config.trainer
        place = ranks.rank(), ranks.world_size()
        return Loading(budget.batch, budget.accumulate, trainer.workers, self.config.seed, *place, filled=trainer.compile)

    def training(self, steps_per_epoch: int) -> Training:
        """Return what a trained method needs beside its models."""
        budget = self.settings("budget")
        schedule = build(self.config.schedule)
        clock = Clock(budget, steps_per_epoch)
        optimizer, seed = self.settings("optimizer"), self.config.seed
        every = self.config.trainer.gradients_every
        return Training(optimizer, schedule, clock, seed, budget.clip, budget.accumulate, budget.clip_pre, every)


def open_start(place: str, cache: Path) -> Start:
    """Open a run folder (its ``models/pre``, else ``models/ft``), a Hugging Face model folder, or a model of the hub by name."""
    path = locate(place)
    if not path.is_dir():
        raise ValueError(f"init_from: {place} is no folder; give a finished run's folder or a Hugging Face model folder")
    result = read_result(path)
    if result is not None:
        lineage = str(result["id"])
        path = next((path / "models" / name for name in ("pre", "ft") if (path / "models" / name).is_dir()), path)
    elif (path / "config.yaml").exists():
        raise ValueError(f"init_from: the run {place} is not finished; finish it with `tofro run`, or give another folder")
    else:
        lineage = fingerprint_path(find_transformer(path), cache, None)
    pooling, path = read_pooling(path), find_transformer(path)
    opened = load_model(path, heads_may_be_missing=RETAINED_HEADS)
    if "task" in opened.model.heads:
        del opened.model.heads["task"]  # it answers another task; a run that needs one makes its own
    return Start(opened.model, Tokenizer.load(path), lineage, tuple(opened.made_anew), pooling)
