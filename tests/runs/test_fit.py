"""A fit: frozen parts stay, the same seed gives the same bits, and a killed run resumes as if nothing had happened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from tests.modules.conftest import Bench, same_weights
from tests.modules.conftest import bench as bench
from tests.modules.conftest import start as start
from tests.modules.conftest import task as task
from tests.modules.conftest import tokenizer as tokenizer
from tofro.encoders.settings import TopKSettings, TuningSettings
from tofro.encoders.tuning import assert_frozen, train_head, train_top_k
from tofro.modules.settings import BudgetSettings
from tofro.runs.checkpoint_io import newest_intact

BUDGET = BudgetSettings(steps=12, batch=16, evaluate_every=4)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Return metrics.jsonl without its time column."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_the_same_seed_twice_gives_the_same_bits(bench: Bench) -> None:
    one, two = bench.two_way(BUDGET, weight=0.5), bench.two_way(BUDGET, weight=0.5)
    bench.fit(one, BUDGET, "one")
    bench.fit(two, BUDGET, "two")
    assert same_weights(one, two)
    assert rows_of(bench.folder / "one") == rows_of(bench.folder / "two")


def test_activation_checkpointing_changes_no_bit(bench: Bench) -> None:
    """Both encoders, dropout on, part of `ft` frozen: whatever is computed again comes out the same."""
    modules = []
    for checkpointing in (False, True):
        modules.append(bench.two_way(BUDGET, weight=0.5))
        train_top_k(TopKSettings(k=1), modules[-1].model("ft"), 0)
        bench.fit(modules[-1], BUDGET, str(checkpointing), activation_checkpointing=checkpointing)
        assert modules[-1].model("pre").encoder.checkpointing is checkpointing
    assert same_weights(*modules)
    assert rows_of(bench.folder / "False") == rows_of(bench.folder / "True")


HEAD, TOP = (train_head, TuningSettings()), (train_top_k, TopKSettings(k=1))


@pytest.mark.parametrize(("tune", "settings"), [HEAD, TOP])
def test_frozen_parameters_stay_bit_identical(bench: Bench, tune: Any, settings: Any) -> None:
    ft = bench.ft()
    tune(settings, ft, 0)
    before = {name: value.clone() for name, value in ft.state_dict().items()}
    bench.fit(bench.full(BUDGET, ft), BUDGET, "partial")
    assert_frozen(ft, before)
    moved = [name for name, value in ft.state_dict().items() if not (value == before[name]).all()]
    assert any(name.startswith("heads.task") for name in moved)
    assert not any(name.startswith("encoder.embeddings") for name in moved)


class Killed(Exception):
    """Stands for a SIGKILL: nothing of the process runs after it."""


class Kill(pl.Callback):
    """Raises at a chosen moment of a chosen step."""

    def __init__(self, moment: str, step: int) -> None:
        self.moment, self.step = moment, step

    def _at(self, moment: str, trainer: pl.Trainer) -> None:
        if moment == self.moment and trainer.global_step == self.step:
            raise Killed

    def on_train_batch_start(self, trainer: pl.Trainer, *rest: Any) -> None:
        self._at("step", trainer)

    def on_validation_start(self, trainer: pl.Trainer, *rest: Any) -> None:
        self._at("before evaluation", trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, *rest: Any) -> None:
        self._at("in evaluation", trainer)

    def on_validation_end(self, trainer: pl.Trainer, *rest: Any) -> None:
        self._at("after evaluation", trainer)


MOMENTS = [("step", 7), ("before evaluation", 8), ("in evaluation", 8), ("after evaluation", 8), ("in evaluation", 12)]
QUICK = {  # (moment, step, checkpoint_every, accumulate): every moment, every interval, and cut batches, each more than once
    ("step", 7, 3, 1),
    ("step", 7, 4, 2),
    ("before evaluation", 8, 4, 1),
    ("in evaluation", 8, 1, 2),
    ("in evaluation", 8, 4, 1),
    ("after evaluation", 8, 1, 1),
    ("after evaluation", 8, 3, 2),
    ("in evaluation", 12, 4, 1),
}
KILLS = [
    pytest.param(*each, marks=[] if each in QUICK else [pytest.mark.slow])
    for each in ((*moment, every, accumulate) for moment in MOMENTS for every in (1, 3, 4) for accumulate in (1, 2))
]
assert len([each for each in KILLS if not each.marks]) == len(QUICK)


@pytest.mark.parametrize(("moment", "step", "checkpoint_every", "accumulate"), KILLS)
def test_a_killed_run_resumes_bit_identically(
    bench: Bench, moment: str, step: int, checkpoint_every: int, accumulate: int
) -> None:
    budget = BudgetSettings(steps=12, batch=16, evaluate_every=4, accumulate=accumulate)
    whole, broken = bench.two_way(budget, weight=0.5), bench.two_way(budget, weight=0.5)
    expected = bench.fit(whole, budget, "whole", checkpoint_every)
    with pytest.raises(Killed):
        bench.fit(broken, budget, "broken", checkpoint_every, (Kill(moment, step),))
    resumed = bench.two_way(budget, weight=0.5)
    report = bench.fit(resumed, budget, "broken", checkpoint_every)
    assert same_weights(whole, resumed)
    assert rows_of(bench.folder / "broken") == rows_of(bench.folder / "whole")
    assert (report.steps, report.best_step, report.best_value) == (expected.steps, expected.best_step, expected.best_value)
    assert report.tokens == expected.tokens


def test_patience_stops_at_the_same_step_after_a_resume(bench: Bench) -> None:
    budget = BudgetSettings(steps=60, batch=16, evaluate_every=3, patience=2)
    whole = bench.full(budget)
    expected = bench.fit(whole, budget, "whole", 3)
    assert expected.steps < 60
    with pytest.raises(Killed):
        bench.fit(bench.full(budget), budget, "broken", 3, (Kill("in evaluation", expected.steps),))
    resumed = bench.full(budget)
    assert bench.fit(resumed, budget, "broken", 3).steps == expected.steps
    assert same_weights(whole, resumed)


def test_every_step_is_in_the_record_once(bench: Bench) -> None:
    bench.fit(bench.full(BUDGET), BUDGET, "full")
    rows = rows_of(bench.folder / "full")
    assert [row["step"] for row in rows if "train/loss" in row] == list(range(1, 13))
    assert [row["step"] for row in rows if "validation/accuracy_ft" in row] == [4, 8, 12]


def test_micro_batches_add_up_to_the_global_batch(bench: Bench) -> None:
    """Without dropout a global batch cut in four gives the gradient of the whole, so the losses agree to rounding."""
    losses = []
    for accumulate in (1, 4):
        budget = BudgetSettings(steps=4, batch=16, accumulate=accumulate, best=False)
        module = bench.full(budget)
        module.models["ft"].dropout = 0.0
        bench.fit(module, budget, f"accumulate{accumulate}")
        rows = rows_of(bench.folder / f"accumulate{accumulate}")
        losses.append([row["train/loss"] for row in rows if "train/loss" in row])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_a_damaged_checkpoint_is_set_aside_by_name(bench: Bench) -> None:
    whole = bench.full(BUDGET)
    bench.fit(whole, BUDGET, "whole", 4)
    folder = bench.folder / "whole" / "checkpoints"
    newest = sorted(folder.glob("step-*"))[-1] / "state.ckpt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    with pytest.warns(UserWarning, match="set aside"):
        found = newest_intact(folder)
    assert found is not None
    assert found.name == "step-00000008"
    (found / "state.ckpt").write_bytes(b"")
    with pytest.warns(UserWarning, match="set aside"), pytest.raises(ValueError, match="every checkpoint is damaged"):
        newest_intact(folder)
