"""A fit under each kind of budget: where it ends, what its learning rate does, and that a resume changes neither."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from tests.modules.conftest import Bench, same_weights
from tests.modules.conftest import bench as bench
from tests.modules.conftest import start as start
from tests.modules.conftest import task as task
from tests.modules.conftest import tokenizer as tokenizer
from tests.runs.conftest import rows_of
from tests.runs.test_fit import Kill, Killed
from tofro.modules.settings import BudgetSettings
from tofro.objectives.schedules import linear
from tofro.runs.checkpoint_io import VerifiedIO
from tofro.runs.fit import FitPlace, fit
from tofro.runs.settings import TrainerSettings

PEAK, WARMUP = 1e-3, 0.1  # of the bench


def steps_of(folder: Path) -> list[dict[str, Any]]:
    return [row for row in rows_of(folder) if "train/loss" in row]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_budget_of_tokens_ends_and_anneals_by_the_tokens_of_global_batches(bench: Bench, accumulate: int) -> None:
    budget = BudgetSettings(tokens=3000, batch=16, evaluate_every=5, accumulate=accumulate)
    report = bench.fit(bench.full(budget), budget, "whole")
    batches = itertools.islice(bench.data(budget).train_dataloader(), report.steps * accumulate)
    micro = [batch.tokens.numel() for batch in batches]
    tokens = [sum(micro[first : first + accumulate]) for first in range(0, len(micro), accumulate)]
    before = [0, *itertools.accumulate(tokens)]
    assert before[-2] < 3000 <= before[-1] == report.tokens
    rates = [row["train/learning_rate"] for row in steps_of(bench.folder / "whole")]
    assert rates == pytest.approx([PEAK * linear(spent / 3000, WARMUP) for spent in before[:-1]], rel=1e-5)
    assert "validation/accuracy_ft" in rows_of(bench.folder / "whole")[-1]


def test_a_run_under_tokens_resumes_bit_identically(bench: Bench) -> None:
    budget = BudgetSettings(tokens=3000, batch=16, evaluate_every=4)
    whole, broken, resumed = (bench.two_way(budget, weight=0.5) for _ in range(3))
    expected = bench.fit(whole, budget, "whole")
    with pytest.raises(Killed):
        bench.fit(broken, budget, "broken", 3, (Kill("step", 7),))
    report = bench.fit(resumed, budget, "broken", 3)
    assert (report.steps, report.tokens) == (expected.steps, expected.tokens)
    assert same_weights(whole, resumed)
    assert rows_of(bench.folder / "broken") == rows_of(bench.folder / "whole")


def test_the_rate_recorded_is_the_rate_of_the_step(bench: Bench) -> None:
    budget = BudgetSettings(steps=10, batch=16)
    bench.fit(bench.full(budget), budget, "steps")
    rates = [row["train/learning_rate"] for row in steps_of(bench.folder / "steps")]
    assert rates == pytest.approx([PEAK * linear(step / 10, WARMUP) for step in range(10)], rel=1e-5)


def test_a_budget_of_minutes_ends_with_its_schedule(bench: Bench) -> None:
    budget = BudgetSettings(minutes=1.5 / 60, batch=16)
    report = bench.fit(bench.full(budget), budget, "timed")
    assert report.seconds >= 1.5
    rates = [row["train/learning_rate"] for row in steps_of(bench.folder / "timed")]
    assert len(rates) == report.steps > 5
    assert max(rates) > 0.7 * PEAK
    assert rates[-1] < 0.3 * PEAK
    assert "validation/accuracy_ft" in rows_of(bench.folder / "timed")[-1]


def test_checkpoints_by_minutes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[str] = []
    monkeypatch.setattr(VerifiedIO, "save_checkpoint", lambda self, state, path, storage_options=None: saved.append(path.name))
    budget = BudgetSettings(steps=6, batch=16)
    for minutes, expected in ((None, ["step-00000004", "step-00000006"]), (1e-9, [f"step-{step:08d}" for step in range(1, 7)])):
        folder = bench.folder / str(minutes)
        folder.mkdir()
        cadence = TrainerSettings(accelerator="cpu", progress=False, checkpoint_every=4, checkpoint_minutes=minutes)
        saved.clear()
        report = fit(bench.full(budget), bench.data(budget), budget, FitPlace(folder, cadence))
        assert saved == expected
        assert 0 < report.checkpoint_seconds + report.waiting_seconds < report.seconds
