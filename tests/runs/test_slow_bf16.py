"""A CPU that multiplies in bf16 more slowly than in fp32 is told of before hours are lost; others hear nothing."""

from __future__ import annotations

import warnings

import pytest
import torch

from tofro.modules.settings import BudgetSettings
from tofro.runs import precision


def heard(monkeypatch: pytest.MonkeyPatch, slower: float, budget: BudgetSettings, accelerator: str = "cpu") -> list[str]:
    """Return what is warned of on a CPU whose bf16 takes ``slower`` times as long."""
    monkeypatch.setattr(precision, "matrix_speed", lambda device, kind: {"32": 80.0, "bf16": 80.0 / slower}[kind])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        precision.warn_of_precision(budget, accelerator)
    return [str(each.message) for each in caught]


def test_a_slow_bf16_is_told_of_by_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    told = heard(monkeypatch, 20, BudgetSettings(precision="bf16"))
    assert len(told) == 1
    assert told[0].startswith("budget.precision=bf16: this CPU multiplies 20 times as slowly")


def test_a_fast_bf16_fp32_and_a_gpu_are_left_in_peace(monkeypatch: pytest.MonkeyPatch) -> None:
    assert heard(monkeypatch, 0.5, BudgetSettings(precision="bf16")) == []
    assert heard(monkeypatch, 20, BudgetSettings(precision="32")) == []
    assert heard(monkeypatch, 20, BudgetSettings(precision="bf16"), "gpu") == []


def test_measuring_draws_nothing_from_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "SECONDS", 0.0)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        precision.warn_of_precision(BudgetSettings(precision="bf16"), "cpu")
    assert torch.equal(torch.rand(3), expected)
