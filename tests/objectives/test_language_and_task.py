"""Losses are sums over a global count, in fp32, whatever way a batch is cut."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from tofro.objectives.language import mlm_loss, pair_loss
from tofro.objectives.task import classification_loss, regression_loss


def slow_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> float:
    rows = logits.double().tolist()
    return sum(math.log(sum(map(math.exp, row))) - row[target] for row, target in zip(rows, targets.tolist(), strict=True))


@pytest.mark.parametrize("loss", [mlm_loss, pair_loss, classification_loss])
def test_cross_entropy_is_a_sum_over_the_global_count(loss: Callable[..., torch.Tensor]) -> None:
    logits, targets = torch.randn(7, 2), torch.randint(0, 2, (7,))
    assert float(loss(logits, targets, 20)) == pytest.approx(slow_cross_entropy(logits, targets) / 20, rel=1e-5)
    parts = loss(logits[:2], targets[:2], 7) + loss(logits[2:], targets[2:], 7)
    torch.testing.assert_close(parts, loss(logits, targets, 7))


@pytest.mark.parametrize("vocabulary", [2, 512])
def test_equal_logits_cost_the_log_of_the_vocabulary(vocabulary: int) -> None:
    targets = torch.zeros(5, dtype=torch.int64)
    assert float(mlm_loss(torch.zeros(5, vocabulary), targets, 5)) == pytest.approx(math.log(vocabulary))


def test_a_micro_batch_without_masks_costs_nothing_and_keeps_the_graph() -> None:
    logits = torch.zeros(0, 8, requires_grad=True)
    loss = mlm_loss(logits, torch.zeros(0, dtype=torch.int64), 12)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None


def test_squared_errors_are_summed_over_the_global_count() -> None:
    scores, labels = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 0.0, 1.0])
    assert float(regression_loss(scores, labels, 10)) == pytest.approx((0 + 4 + 9) / 10)
    with pytest.raises(AssertionError):
        regression_loss(scores[:, None], labels, 3)  # would broadcast to (3, 3) in silence


def test_half_precision_is_taken_to_fp32() -> None:
    logits, targets = torch.randn(64, 512).bfloat16(), torch.randint(0, 512, (64,))
    for loss in (mlm_loss(logits, targets, 64), regression_loss(logits[:, 0], logits[:, 1].float(), 64)):
        assert loss.dtype == torch.float32
    assert float(mlm_loss(logits, targets, 64)) == pytest.approx(slow_cross_entropy(logits, targets) / 64, rel=1e-5)
