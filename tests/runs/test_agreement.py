"""Two ranks are one run: one rank's signal, bad number or clock decides for both at the same step."""

from __future__ import annotations

import math
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from tests.ranks import together
from tests.runs import mortal
from tests.runs.conftest import rows_of
from tofro.modules.settings import BudgetSettings
from tofro.modules.terms import Term
from tofro.runs import counting, ranks
from tofro.runs.checkpoint_io import newest_intact
from tofro.runs.fit import FitPlace, fit
from tofro.runs.settings import TrainerSettings
from tofro.runs.signals import Stopped

STEPS = BudgetSettings(steps=12, batch=16, evaluate_every=4)


class Send(pl.Callback):
    """Sends the second rank a signal at a moment of a step."""

    def __init__(self, moment: str, step: int, number: int) -> None:
        self.moment, self.step, self.number = moment, step, number

    def _at(self, moment: str, trainer: pl.Trainer) -> None:
        if (moment, trainer.global_step, ranks.rank()) == (self.moment, self.step, 1):
            os.kill(os.getpid(), self.number)

    def on_train_batch_start(self, trainer: pl.Trainer, *rest: Any) -> None:
        self._at("step", trainer)

    def on_validation_start(self, trainer: pl.Trainer, *rest: Any) -> None:
        self._at("evaluation", trainer)


class Spoil(pl.Callback):
    """Lets the loss of the second rank be infinite at a step, where its gradient is finite still."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        terms = pl_module.terms

        def wrong(batch: Any) -> dict[str, Term]:
            found: dict[str, Term] = terms(batch)
            if ranks.rank() == 1 and trainer.global_step == self.step:
                found["mlm_loss"] = Term(found["mlm_loss"].value + math.inf)
            return found

        pl_module.terms = wrong


class Slow(pl.Callback):
    """Delays the second rank's clock against the first's."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if ranks.rank() == 1:
            pl_module.training_settings.clock._spent -= 0.7


def train(folder: Path, budget: BudgetSettings, *callbacks: pl.Callback) -> dict[str, Any]:
    """Pretrain in ``folder`` on this rank; return what it saw."""
    counting.SAMPLES = 1
    with ranks.first_alone():
        folder.mkdir(exist_ok=True)
        module, data = mortal.pretraining(folder, budget, ranks.rank(), ranks.world_size())
    cadence = TrainerSettings(accelerator="cpu", progress=False, log_every=4, checkpoint_every=3)
    seen: dict[str, Any] = {"stopped": None}
    try:
        report = fit(module, data, budget, FitPlace(folder, cadence, callbacks=callbacks))
        seen |= {"steps": report.steps, "tokens": report.tokens}
    except Stopped as stopped:
        seen["stopped"] = stopped.number
    return seen | {"weights": {name: value.clone() for name, value in module.state_dict().items()}}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("moment", "step", "saved", "number"),
    [("step", 5, 7, signal.SIGTERM), pytest.param("evaluation", 8, 8, signal.SIGUSR2, marks=pytest.mark.slow)],
)
def test_a_signal_to_one_rank_stops_both_at_the_same_step(
    tmp_path: Path, moment: str, step: int, saved: int, number: int
) -> None:
    whole, _ = together(2, train, tmp_path / "whole", STEPS)
    stopped = together(2, train, tmp_path / "broken", STEPS, Send(moment, step, number))
    assert [each["stopped"] for each in stopped] == [number, number]
    assert same(stopped[0]["weights"], stopped[1]["weights"])
    assert newest_intact(tmp_path / "broken" / "checkpoints") == tmp_path / "broken" / "checkpoints" / f"step-{saved:08d}"
    resumed, _ = together(2, train, tmp_path / "broken", STEPS)
    assert same(whole["weights"], resumed["weights"])
    assert rows_of(tmp_path / "whole") == rows_of(tmp_path / "broken")


def test_a_bad_number_on_one_rank_skips_the_step_on_both(tmp_path: Path) -> None:
    first, second = together(2, train, tmp_path / "spoilt", STEPS, Spoil(5))
    assert same(first["weights"], second["weights"])
    rows = [row for row in rows_of(tmp_path / "spoilt") if "train/loss" in row]
    assert [row["step"] for row in rows if row["train/skipped"]] == [6]
    assert rows[5]["train/loss"] is None
    assert all(torch.isfinite(value).all() for value in first["weights"].values() if value.is_floating_point())


def test_tokens_and_the_end_are_those_of_one_process(tmp_path: Path) -> None:
    budget = BudgetSettings(tokens=5000, batch=16)
    alone = train(tmp_path / "one", budget)
    for each in together(2, train, tmp_path / "two", budget):
        assert (each["steps"], each["tokens"]) == (alone["steps"], alone["tokens"])
    one, two = ([row for row in rows_of(tmp_path / name) if "train/loss" in row] for name in ("one", "two"))
    assert [row["train/learning_rate"] for row in one] == [row["train/learning_rate"] for row in two]


@pytest.mark.slow
def test_the_first_ranks_clock_ends_both(tmp_path: Path) -> None:
    started = time.monotonic()
    first, second = together(2, train, tmp_path / "timed", BudgetSettings(minutes=1.5 / 60, batch=16), Slow())
    assert first["steps"] == second["steps"] > 3
    assert same(first["weights"], second["weights"])
    assert time.monotonic() - started < 90
