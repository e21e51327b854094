"""A tiny labelled task, its data module, and models to fit on it."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import BAD, GOOD, sentence
from tofro.batches.datamodules import Loading, TaskData
from tofro.encoders.model import Model, build_model
from tofro.encoders.settings import EncoderSettings
from tofro.modules.base import Schedule, Training
from tofro.modules.clock import Clock
from tofro.modules.cloze_output import ClozeOutput
from tofro.modules.fine_tuning import FineTuning
from tofro.modules.regularizers import Regularizers
from tofro.modules.settings import BudgetSettings, OptimizerSettings
from tofro.modules.two_way import Alignment, TwoWay
from tofro.objectives.alignment import infonce
from tofro.objectives.schedules import constant, linear
from tofro.objectives.settings import ControlSettings, InfoNCESettings
from tofro.runs.fit import FitPlace, FitReport, fit
from tofro.runs.settings import TrainerSettings
from tofro.text.task import Example, Task
from tofro.tokens.settings import TokenizerSettings
from tofro.tokens.tokenizer import Tokenizer
from tofro.tokens.training import train_tokenizer

SETTINGS = EncoderSettings(layers=2, width=32, heads=2, intermediate=64, max_positions=64)


@pytest.fixture(scope="session")
def task() -> Task:
    draw = random.Random(3)
    rows = [Example(sentence(draw, GOOD if number % 2 else BAD), None, "good" if number % 2 else "bad") for number in range(160)]
    return Task(
        "mood",
        "classification",
        False,
        ("bad", "good"),
        "accuracy",
        {"train": rows[:96], "validation": rows[96:128], "test": rows[128:]},
        "0" * 64,
    )


@pytest.fixture(scope="session")
def tokenizer(task: Task) -> Tokenizer:
    return train_tokenizer(TokenizerSettings(vocabulary=192), (row.text_a for row in task.splits["train"]))


@pytest.fixture
def start(tokenizer: Tokenizer) -> Model:
    return build_model(SETTINGS, tokenizer.vocabulary, ("mlm", "pair"), dropout=0.1, seed=1)


class Bench:
    """Fits methods on the tiny task in a folder; the task is answered by ``cloze`` where there is one, else by a head."""

    cloze: ClozeOutput | None = None

    def __init__(self, start: Model, task: Task, tokenizer: Tokenizer, folder: Path) -> None:
        self.start, self.task, self.tokenizer, self.folder = start, task, tokenizer, folder

    def ft(self) -> Model:
        model = copy.deepcopy(self.start)
        if self.cloze is None:
            model.add_task_head(len(self.task.labels), seed=5)
        return model

    def data(self, budget: BudgetSettings, filled: bool = False) -> TaskData:
        loading = Loading(budget.batch, budget.accumulate, 0, 11, filled=filled)
        builder = None if self.cloze is None else self.cloze.builder
        return TaskData(self.task.splits, self.task.labels, self.tokenizer, 32, loading, builder=builder)

    def training(self, budget: BudgetSettings) -> Training:
        return Training(
            OptimizerSettings(lr=1e-3),
            lambda progress: linear(progress, 0.1),
            Clock(budget, 6),
            11,
            budget.clip,
            budget.accumulate,
        )

    def full(self, budget: BudgetSettings, ft: Model | None = None) -> FineTuning:
        return FineTuning(ft or self.ft(), self.task, self.training(budget), output=self.cloze)

    def two_way(
        self,
        budget: BudgetSettings,
        loss: Alignment = infonce,
        schedule: Schedule = constant,
        regularizers: Regularizers | None = None,
        control: ControlSettings | None = None,
        **settings: object,
    ) -> TwoWay:
        alignment = InfoNCESettings(**settings)  # type: ignore[arg-type]
        pre = copy.deepcopy(self.start)
        if self.cloze is None and (alignment.compares == "logits" or alignment.pre_task):
            pre.add_task_head(len(self.task.labels), seed=6)
        training = self.training(budget)
        return TwoWay(pre, self.ft(), self.task, loss, schedule, alignment, training, regularizers, control, self.cloze)

    def fit(
        self,
        module: FineTuning,
        budget: BudgetSettings,
        name: str,
        checkpoint_every: int = 500,
        callbacks: tuple = (),
        **settings: Any,
    ) -> FitReport:
        """Fit, with trainer ``settings`` of the caller's own."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        trainer = TrainerSettings(accelerator="cpu", progress=False, log_every=4, checkpoint_every=checkpoint_every, **settings)
        return fit(module, self.data(budget, trainer.compile), budget, FitPlace(folder, trainer, callbacks=callbacks))


@pytest.fixture
def bench(start: Model, task: Task, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("tofro.runs.counting.SAMPLES", 1)  # a counted step takes ten times as long
    return Bench(start, task, tokenizer, tmp_path)


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Say whether two modules hold the same bits under the same names."""
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
