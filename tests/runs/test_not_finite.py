"""A step that is not finite leaves no trace in weights or optimizer and is recorded; too many in a row stop the run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from tests.modules.conftest import Bench
from tests.modules.conftest import bench as bench
from tests.modules.conftest import start as start
from tests.modules.conftest import task as task
from tests.modules.conftest import tokenizer as tokenizer
from tofro.modules.base import TransferModule
from tofro.modules.optimizers import not_finite, poison
from tofro.modules.settings import BudgetSettings
from tofro.modules.terms import Term
from tofro.runs.checkpoint_io import snapshot, write
from tofro.runs.record import as_json

BAD = 4  # the optimizer step that goes wrong, counted from 0


class Watch(pl.Callback):
    """Keeps weights and optimizer state before and after every step."""

    def __init__(self) -> None:
        self.before: dict[int, Any] = {}
        self.after: dict[int, Any] = {}

    @staticmethod
    def _state(trainer: pl.Trainer, module: pl.LightningModule) -> Any:
        state = trainer.optimizers[0].state_dict()["state"]
        return snapshot({"weights": dict(module.state_dict()), "optimizer": state}, {})

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:
        self.before.setdefault(trainer.global_step, self._state(trainer, pl_module))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:
        self.after[trainer.global_step - 1] = self._state(trainer, pl_module)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return torch.equal(one, other)


def infinite_loss(module: TransferModule, steps: set[int], micro_batch: int = 0) -> None:
    """Let the loss be infinite at ``steps`` while its own gradient stays finite."""
    terms = module.terms

    def wrong(batch: Any) -> dict[str, Term]:
        found = terms(batch)
        if module.global_step in steps and module._micro_batch == micro_batch:
            name = next(iter(found))
            found[name] = Term(found[name].value + math.inf, found[name].weight)
        return found

    module.terms = wrong  # type: ignore[method-assign]


def nan_gradient(module: TransferModule, steps: set[int], encoder: str) -> None:
    """Let one number of one gradient of ``encoder`` be NaN."""
    parameter = module.model(encoder).encoder.embeddings.tokens.weight

    def wrong(gradient: Tensor) -> Tensor:
        if module.global_step not in steps:
            return gradient
        gradient = gradient.clone()
        gradient.view(-1)[3] = math.nan
        return gradient

    parameter.register_hook(wrong)


CASES: dict[str, tuple[int, Callable[[Bench, BudgetSettings], TransferModule], Callable[[Any], None]]] = {
    "loss": (1, lambda bench, budget: bench.full(budget), lambda module: infinite_loss(module, {BAD})),
    "gradient": (1, lambda bench, budget: bench.full(budget), lambda module: nan_gradient(module, {BAD}, "ft")),
    "one of two micro-batches": (2, lambda bench, budget: bench.full(budget), lambda module: infinite_loss(module, {BAD}, 0)),
    "loss of two encoders": (
        1,
        lambda bench, budget: bench.two_way(budget, weight=0.5),
        lambda module: infinite_loss(module, {BAD}),
    ),
    "one of two encoders": (
        1,
        lambda bench, budget: bench.two_way(budget, weight=0.5),
        lambda module: nan_gradient(module, {BAD}, "pre"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_step_that_is_not_finite_leaves_no_trace(bench: Bench, case: str) -> None:
    accumulate, make, spoil = CASES[case]
    budget = BudgetSettings(steps=8, batch=16, evaluate_every=4, accumulate=accumulate)
    module, watch = make(bench, budget), Watch()
    spoil(module)
    bench.fit(module, budget, "spoilt", checkpoint_every=1, callbacks=(watch,))
    assert same(watch.before[BAD], watch.after[BAD])
    for step in set(range(1, 8)) - {BAD}:  # warm-up begins at a rate of 0
        assert not same(watch.before[step]["weights"], watch.after[step]["weights"])
    rows = [json.loads(line) for line in (bench.folder / "spoilt" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row.get("train/skipped")] == [BAD + 1]
    wrong = [name for row in rows for name, value in row.items() if value is None]
    assert wrong  # the row says what was not finite
    assert all(name.startswith(("train/", "validation/")) for name in wrong)


def test_the_first_step_may_be_skipped(bench: Bench) -> None:
    budget = BudgetSettings(steps=2, batch=16, best=False)
    module, watch = bench.full(budget), Watch()
    infinite_loss(module, {0})
    bench.fit(module, budget, "spoilt", callbacks=(watch,))
    assert same(watch.before[0]["weights"], watch.after[0]["weights"])
    assert all(not moment.any() for state in watch.after[0]["optimizer"].values() for moment in state.values())
    assert {float(state["step"]) for state in watch.after[1]["optimizer"].values()} == {1.0}


def test_too_many_in_a_row_stop_the_run(bench: Bench) -> None:
    budget = BudgetSettings(steps=40, batch=16, max_skipped=5)
    module = bench.full(budget)
    infinite_loss(module, {2, 3, 4, 5, 7, *range(9, 40)})  # four in a row, then one: not enough
    before_the_last_rows = 4  # the record is written every fourth step
    with pytest.raises(
        ValueError, match=r"metrics\.jsonl: the loss or gradient of 5 steps in a row, up to step 14, was not finite"
    ):
        bench.fit(module, budget, "spoilt", checkpoint_every=3)
    rows = [json.loads(line) for line in (bench.folder / "spoilt" / "metrics.jsonl").read_text().splitlines()]
    assert 14 <= rows[-1]["step"] < 14 + before_the_last_rows
    for state in (bench.folder / "spoilt" / "checkpoints").glob("step-*/state.ckpt"):
        assert finite(torch.load(state, weights_only=True))
    again = bench.full(budget)
    infinite_loss(again, set(range(9, 40)))
    with pytest.raises(ValueError, match="5 steps in a row, up to step 14"):  # counts on from its checkpoint
        bench.fit(again, budget, "spoilt", checkpoint_every=3)


def finite(state: Any) -> bool:
    if isinstance(state, Tensor):
        return bool(state.isfinite().all())
    if isinstance(state, dict | list):
        return all(finite(each) for each in (state.values() if isinstance(state, dict) else state))
    return not isinstance(state, float) or math.isfinite(state)


def test_a_checkpoint_with_a_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="not finite"):
        write({"state_dict": {"weight": torch.tensor([0.0, math.nan])}}, tmp_path / "checkpoints" / "step-00000001")
    assert not list(tmp_path.rglob("step-*"))


def test_a_finite_step_keeps_every_bit() -> None:
    """The mechanism costs no bit: neither the poison's factor of one nor the optimizer's flag at zero."""
    torch.manual_seed(0)
    inputs = torch.randn(64, 16)
    states = []
    for mechanism in (False, True):
        torch.manual_seed(1)
        layer = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.GELU(), torch.nn.Linear(16, 1))
        optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-2, fused=True)
        for _ in range(20):
            loss = layer(inputs).square().sum()
            optimizer.zero_grad()
            (poison(loss) if mechanism else loss).backward()
            if mechanism:
                optimizer.found_inf = not_finite([torch.nn.utils.get_total_norm([loss.detach()])])  # type: ignore[attr-defined]
            optimizer.step()
        states.append(snapshot({"weights": dict(layer.state_dict()), "optimizer": optimizer.state_dict()["state"]}, {}))
    assert same(states[0], states[1])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_poison_reaches_a_gradient_that_would_have_been_finite(value: float) -> None:
    weight = torch.ones(3, requires_grad=True)
    loss = weight.sum() + value
    loss.backward(retain_graph=True)
    assert weight.grad is not None
    assert weight.grad.isfinite().all()
    weight.grad = None
    poison(loss).backward()
    assert weight.grad is not None
    assert weight.grad.isnan().all()  # type: ignore[unreachable]
    assert not_finite([torch.tensor(1.0), torch.tensor(value)]) == 1
    assert not_finite([torch.tensor(1.0), torch.tensor(1e30)]) == 0


def test_json_holds_null_where_a_number_is_not_finite() -> None:
    text = as_json({"step": 3, "train/loss": math.nan, "train/x": -math.inf, "train/y": 0.5})
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == {
        "step": 3,
        "train/loss": None,
        "train/x": None,
        "train/y": 0.5,
    }
