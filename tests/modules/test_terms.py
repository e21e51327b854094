"""Gradients of single terms at the parameters: equal to a backward pass of the term alone, and seen by nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.modules.conftest import Bench, same_weights
from tests.runs.test_fit import rows_of
from tofro.modules.fine_tuning import FineTuning
from tofro.modules.settings import BudgetSettings

BUDGET = BudgetSettings(steps=6, batch=16, best=False)
CUT = BudgetSettings(steps=6, batch=16, best=False, accumulate=2)
NOTE = "train/parameter_gradient_"


def noting(module: FineTuning, every: int = 1) -> FineTuning:
    module.training_settings = replace(module.training_settings, gradients_every=every)
    return module


@pytest.mark.parametrize("budget", [BUDGET, CUT])
def test_of_a_single_term_it_is_the_gradient_that_is_clipped(bench: Bench, budget: BudgetSettings) -> None:
    bench.fit(noting(bench.full(budget)), budget, "full")
    rows = [row for row in rows_of(bench.folder / "full") if "train/loss" in row]
    assert len(rows) == 6
    for row in rows:
        assert row[f"{NOTE}task_loss_ft"] == pytest.approx(row["train/gradient_norm_ft"], rel=1e-5)


def test_each_term_has_the_norm_of_a_backward_pass_of_its_own(bench: Bench) -> None:
    module = bench.two_way(BUDGET, weight=0.5)
    module.train()
    module._micro_batch = 0
    batch = next(iter(bench.data(BUDGET).train_dataloader()))
    expected = {}
    for name, term in module.terms(batch).items():
        module.zero_grad()
        (term.weight * term.value).backward(retain_graph=True)
        for encoder, model in module.models.items():
            found = [each.grad.flatten() for each in model.parameters() if each.grad is not None]
            if found:
                expected[f"{NOTE}{name}_{encoder}"] = float(torch.cat(found).norm())
    assert sorted(expected) == [f"{NOTE}alignment_loss_{name}" for name in ("ft", "pre")] + [f"{NOTE}task_loss_ft"]
    bench.fit(noting(bench.two_way(BUDGET, weight=0.5)), BUDGET, "two_way")
    first = rows_of(bench.folder / "two_way")[0]
    assert {name: value for name, value in first.items() if name.startswith(NOTE)} == pytest.approx(expected, rel=1e-5)


def test_measuring_gradients_changes_nothing_else(bench: Bench) -> None:
    plain, noted = bench.two_way(CUT, weight=0.5), noting(bench.two_way(CUT, weight=0.5), every=2)
    report, other = bench.fit(plain, CUT, "plain"), bench.fit(noted, CUT, "noted")
    assert same_weights(plain, noted)
    assert report.flops == other.flops
    rows, more = rows_of(bench.folder / "plain"), rows_of(bench.folder / "noted")
    assert [{name: value for name, value in row.items() if not name.startswith(NOTE)} for row in more] == rows
    asked = [row["step"] for row in more if any(name.startswith(NOTE) for name in row)]
    assert asked == [1, 3, 5]  # the steps that began at 0, 2 and 4
