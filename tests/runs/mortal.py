"""Real processes that train a little and get a signal at a chosen moment, SIGKILL above all.

The processes are forked from a server that has imported torch and Lightning once. What a process sends itself, and when, is
hooked into tofro's own functions here; the code under test knows nothing of it.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from tests.batches.conftest import Corpus, write
from tests.conftest import BAD, GOOD, sentence
from tests.ranks import SERVER
from tofro import cli
from tofro.batches.datamodules import Loading, PretrainingData, TaskData
from tofro.batches.settings import ObjectiveSettings
from tofro.encoders.model import Model, build_model
from tofro.encoders.settings import EncoderSettings
from tofro.modules.base import Training
from tofro.modules.clock import Clock
from tofro.modules.pretraining import Pretraining
from tofro.modules.settings import BudgetSettings, OptimizerSettings
from tofro.modules.two_way import TwoWay
from tofro.objectives.alignment import infonce
from tofro.objectives.schedules import constant, linear
from tofro.objectives.settings import AlignmentSettings
from tofro.runs import checkpoint_io, counting, methods
from tofro.runs.agreement import Agreement
from tofro.runs.checkpoint_io import VerifiedIO
from tofro.runs.counting import Waiting
from tofro.runs.fit import FitPlace, fit
from tofro.runs.record import Recorder, as_json
from tofro.runs.selection import Selection
from tofro.runs.settings import TrainerSettings
from tofro.text.task import Example, Task
from tofro.tokens.settings import TokenizerSettings
from tofro.tokens.store import open_store
from tofro.tokens.training import train_tokenizer

STEPS, EVALUATE_EVERY, CHECKPOINT_EVERY = 12, 4, 3
BUDGET = BudgetSettings(steps=STEPS, batch=16, evaluate_every=EVALUATE_EVERY)
SETTINGS = EncoderSettings(layers=2, width=32, heads=2, intermediate=64, max_positions=64)


def process(target: Callable[..., None], *arguments: Any) -> int | None:
    """Call ``target`` in a process of its own and return how that ended: its exit code, or minus the signal that killed it."""
    child = SERVER.Process(target=target, args=arguments)
    child.start()
    child.join(120)
    assert child.exitcode is not None, "the process hangs"
    return child.exitcode


# -- what the processes do -----------------------------------------------------------------------------------------------------


def train(method: str, folder: Path, moment: str | None = None, step: int = 0, number: int = signal.SIGKILL) -> None:
    """Train in ``folder``, or go on with it; at ``moment`` of ``step`` send this process signal ``number``."""
    _prepare(moment, step, number)
    module, data = METHODS[method](folder)
    cadence = TrainerSettings(accelerator="cpu", progress=False, log_every=4, checkpoint_every=CHECKPOINT_EVERY)
    folder.mkdir(exist_ok=True)
    fit(module, data, BUDGET, FitPlace(folder, cadence))
    torch.save(module.state_dict(), folder / "weights.pt")


def command(words: list[str], log: Path, moment: str | None = None, step: int = 0, number: int = signal.SIGKILL) -> None:
    """Carry out a command line of tofro, its output in ``log``, and leave with its exit code."""
    _prepare(moment, step, number)
    with log.open("w", encoding="utf-8") as sys.stderr:
        sys.exit(cli.main(words))


def _prepare(moment: str | None, step: int, number: int) -> None:
    torch.set_num_threads(1)
    counting.SAMPLES = 1  # a counted step takes ten times as long
    if moment is not None:
        MOMENTS[moment](step, lambda: os.kill(os.getpid(), number))


def _training(steps_per_epoch: int, budget: BudgetSettings = BUDGET) -> Training:
    return Training(OptimizerSettings(lr=1e-3), lambda progress: linear(progress, 0.1), Clock(budget, steps_per_epoch), 11)


def _model(vocabulary: int) -> Model:
    return build_model(SETTINGS, vocabulary, ("mlm", "pooler", "pair"), dropout=0.1, seed=1)


def pretraining(folder: Path, budget: BudgetSettings = BUDGET, rank: int = 0, size: int = 1) -> tuple[Any, Any]:
    """Return a small pretraining and its data, the same at every call; what it builds once lies beside ``folder``."""
    corpus = Corpus(write(60))
    corpus.fingerprint = "0" * 64  # the same in every process
    tokenizer = train_tokenizer(TokenizerSettings(vocabulary=128), (" ".join(each) for each in corpus.documents("train")))
    objective = ObjectiveSettings(length=48)
    store = open_store(folder.parent / "stores", corpus, "train", tokenizer)
    data = PretrainingData(store, store, tokenizer, objective, Loading(budget.batch, seed=11, rank=rank, world_size=size))
    return Pretraining(_model(tokenizer.vocabulary), objective, _training(data.steps_per_epoch, budget)), data


def _two_way(folder: Path) -> tuple[Any, Any]:
    draw = random.Random(3)
    rows = [Example(sentence(draw, GOOD if number % 2 else BAD), None, "good" if number % 2 else "bad") for number in range(160)]
    splits = {"train": rows[:96], "validation": rows[96:], "test": rows[:8]}
    task = Task("mood", "classification", False, ("bad", "good"), "accuracy", splits, "0" * 64)
    tokenizer = train_tokenizer(TokenizerSettings(vocabulary=192), (row.text_a for row in rows))
    data = TaskData(task.splits, task.labels, tokenizer, 32, Loading(BUDGET.batch, seed=11))
    ft = _model(tokenizer.vocabulary)
    ft.add_task_head(2, seed=5)
    settings = AlignmentSettings(weight=0.5)
    return TwoWay(_model(tokenizer.vocabulary), ft, task, infonce, constant, settings, _training(data.steps_per_epoch)), data


METHODS: dict[str, Callable[[Path], tuple[Any, Any]]] = {"pretrain": pretraining, "two_way": _two_way}


# -- when they get a signal ----------------------------------------------------------------------------------------------------

Act = Callable[[], None]


def _step_of(arguments: tuple[Any, ...]) -> int:
    """Return the step that a call is about: a trainer's or a module's, or the one in a checkpoint's name."""
    for each in arguments:
        if isinstance(each, pl.Trainer | pl.LightningModule):
            return each.global_step
        if isinstance(each, dict) and "global_step" in each:
            return int(each["global_step"])
        name = str(each)
        if "step-" in name:
            return int(name.partition("step-")[2][:8])
    return -1


def before(owner: Any, name: str, in_thread: bool = False) -> Callable[[int, Act], None]:
    """Return a hook that acts before ``owner.name`` is called for a step, or where ``in_thread`` by the writing thread."""

    def hook(step: int, act: Act) -> None:
        original = getattr(owner, name)

        def hooked(*arguments: Any, **named: Any) -> Any:
            if _step_of(arguments) == step and (not in_thread or threading.current_thread().name == "checkpoint"):
                act()
            return original(*arguments, **named)

        setattr(owner, name, hooked)

    return hook


def after_rename(step: int, act: Act) -> None:
    rename = Path.rename

    def hooked(self: Path, target: Path) -> Path:
        made = rename(self, target)
        if _step_of((self,)) == step:
            act()
        return made

    Path.rename = hooked  # type: ignore[method-assign, assignment]


def half_a_state(step: int, act: Act) -> None:
    save = checkpoint_io._save

    def hooked(state: dict[str, Any], file: Any) -> str:
        if state["global_step"] != step:
            return save(state, file)
        whole = Path(file.name).with_name("whole")
        with whole.open("wb") as other:
            save(state, other)
        content = whole.read_bytes()
        whole.unlink()
        file.write(content[: len(content) // 2])
        file.flush()
        act()
        raise AssertionError("still alive")

    checkpoint_io._save = hooked


def half_a_row(step: int, act: Act) -> None:
    write = Recorder._write

    def hooked(self: Recorder, trainer: pl.Trainer, rows: list[dict[str, Any]]) -> None:
        if rows[-1]["step"] >= step and "train/loss" in rows[-1]:
            text = "".join(as_json(row) + "\n" for row in rows)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text[: len(text) - 20])
            act()
        write(self, trainer, rows)

    Recorder._write = hooked  # type: ignore[method-assign]


def half_forgotten(step: int, act: Act) -> None:
    remove = shutil.rmtree

    def hooked(path: Any, *rest: Any, **named: Any) -> None:
        if _step_of((path,)) == step:
            (Path(path) / "state.ckpt").unlink()
            act()
        remove(path, *rest, **named)

    shutil.rmtree = hooked  # type: ignore[assignment]


MOMENTS: dict[str, Callable[[int, Act], None]] = {
    "before a step": before(Waiting, "on_train_batch_start"),
    "before an update": before(pl.LightningModule, "optimizer_step"),
    "after an update": before(Agreement, "on_train_batch_end"),
    "half a row": half_a_row,
    "before a snapshot": before(VerifiedIO, "save_checkpoint"),
    "half a state": half_a_state,
    "before the manifest": before(checkpoint_io, "manifest", in_thread=True),
    "after the manifest": before(checkpoint_io, "sync", in_thread=True),
    "before the rename": before(Path, "rename", in_thread=True),
    "after the rename": after_rename,
    "half forgotten": half_forgotten,
    "in an evaluation": before(Agreement, "on_validation_batch_end"),
    "before the evaluation's row": before(Recorder, "on_validation_end"),
    "before the choice of weights": before(Selection, "on_validation_end"),
    "measuring": before(methods, "save"),
}
