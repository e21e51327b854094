"""The alignment losses: known values, symmetry, gradients to both sides, and slow references in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from tofro.objectives.alignment import cosine, infonce, mse, supcon

TEMPERATURE = 0.1
LABELS = torch.tensor([0, 1, 0, 2, 1, 0])
LOSSES = [
    pytest.param(lambda pre, ft: infonce(pre, ft, temperature=TEMPERATURE), id="infonce"),
    pytest.param(lambda pre, ft: supcon(pre, ft, LABELS, TEMPERATURE), id="supcon"),
    pytest.param(cosine, id="cosine"),
    pytest.param(mse, id="mse"),
]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def pair(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(6, 8, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for _ in range(2))  # type: ignore


def slow_supcon(pre: torch.Tensor, ft: torch.Tensor, labels: list[int], temperature: float) -> float:
    """Khosla et al. 2020, equation 2, across the two models, with loops and Python numbers."""

    def similarity(one: list[float], two: list[float]) -> float:
        norm = math.sqrt(sum(x * x for x in one)) * math.sqrt(sum(x * x for x in two))
        return sum(x * y for x, y in zip(one, two, strict=True)) / norm / temperature

    total, size = 0.0, len(labels)
    for anchors, keys in ((pre.tolist(), ft.tolist()), (ft.tolist(), pre.tolist())):
        for i in range(size):
            scores = [similarity(anchors[i], keys[j]) for j in range(size)]
            normaliser = math.log(sum(math.exp(score) for score in scores))
            positives = [p for p in range(size) if labels[p] == labels[i]]
            total -= sum(scores[p] - normaliser for p in positives) / len(positives) / size
    return total / 2


def test_supcon_equals_the_slow_reference() -> None:
    pre, ft = (side.detach() for side in pair())
    expected = slow_supcon(pre, ft, LABELS.tolist(), TEMPERATURE)
    assert float(supcon(pre, ft, LABELS, TEMPERATURE)) == pytest.approx(expected, abs=1e-12)


def test_infonce_equals_the_slow_reference_where_every_label_is_its_own() -> None:
    pre, ft = (side.detach() for side in pair())
    expected = slow_supcon(pre, ft, list(range(6)), TEMPERATURE)
    assert float(infonce(pre, ft, LABELS, TEMPERATURE)) == pytest.approx(expected, abs=1e-12)
    assert torch.equal(infonce(pre, ft, temperature=TEMPERATURE), supcon(pre, ft, torch.arange(6), TEMPERATURE))


@pytest.mark.parametrize("loss", LOSSES)
def test_both_sides_are_treated_alike_and_both_get_gradient(loss: Loss) -> None:
    pre, ft = pair()
    torch.testing.assert_close(loss(pre, ft), loss(ft, pre), atol=1e-12, rtol=0)
    loss(pre, ft).backward()
    assert (pre.grad.abs().sum(-1) > 0).all()
    assert (ft.grad.abs().sum(-1) > 0).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_finite_differences(loss: Loss) -> None:
    assert torch.autograd.gradcheck(loss, pair(), fast_mode=True)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_order_of_the_batch_does_not_matter(loss: Loss) -> None:
    pre, ft = pair()
    swapped = torch.tensor([2, 4, 5, 3, 1, 0])  # keeps LABELS as they are
    assert torch.equal(LABELS[swapped], LABELS)
    torch.testing.assert_close(loss(pre[swapped], ft[swapped]), loss(pre, ft), atol=1e-12, rtol=0)


@pytest.mark.parametrize("loss", [infonce, lambda pre, ft: supcon(pre, ft, LABELS)])
def test_equal_similarities_cost_log_of_the_batch(loss: Loss) -> None:
    same = torch.ones(6, 8)
    assert float(loss(same, same)) == pytest.approx(math.log(6), abs=1e-6)


def test_the_minimum_of_infonce() -> None:
    alike = torch.eye(6, dtype=torch.float64)
    expected = math.log(1 + 5 * math.exp(-1 / TEMPERATURE))  # each own pair at cosine 1, all others at 0
    assert float(infonce(alike, alike, temperature=TEMPERATURE)) == pytest.approx(expected, abs=1e-12)
    assert float(infonce(alike, 7 * alike, temperature=TEMPERATURE)) == pytest.approx(expected, abs=1e-12)  # lengths do not count
    assert float(infonce(alike, alike.roll(1, 0), temperature=TEMPERATURE)) > 9


def test_the_minimum_of_supcon_is_the_entropy_of_its_positives() -> None:
    classes = F.one_hot(LABELS).double()
    sizes = [3, 2, 3, 1, 2, 3]
    expected = sum(math.log(size + (6 - size) * math.exp(-1 / TEMPERATURE)) for size in sizes) / 6
    assert float(supcon(classes, classes, LABELS, TEMPERATURE)) == pytest.approx(expected, abs=1e-12)


def test_cosine_and_mse_have_their_known_values() -> None:
    one = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    two = torch.tensor([[5.0, 0.0], [1.0, 0.0]])
    assert float(cosine(one, two)) == pytest.approx(0.5)  # 0 and 1
    assert float(cosine(one, -one)) == pytest.approx(2.0)
    assert float(mse(one, two)) == pytest.approx((4 + 0 + 1 + 4) / 4)
    assert float(mse(one, one)) == 0


@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_is_taken_to_fp32_under_autocast_too(loss: Loss) -> None:
    pre, ft = (side.detach() for side in pair(torch.bfloat16))
    expected = loss(pre.double(), ft.double())
    plain = loss(pre, ft)
    with torch.autocast("cpu", torch.bfloat16):
        cast = loss(pre, ft)
    assert plain.dtype == cast.dtype == torch.float32
    torch.testing.assert_close(plain.double(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(cast.double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("loss", [infonce, lambda pre, ft: supcon(pre, ft, torch.tensor([0]))])
def test_a_batch_of_one_has_no_contrast(loss: Loss) -> None:
    with pytest.raises(ValueError, match=r"alignment=.*budget\.batch"):
        loss(torch.ones(1, 4), torch.ones(1, 4))


@pytest.mark.parametrize("labels", [None, torch.rand(6)])
def test_supcon_needs_classes(labels: torch.Tensor | None) -> None:
    with pytest.raises(ValueError, match="alignment=supcon"):
        supcon(*pair(), labels)
