from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.measures.test_probes import make_batch, make_model
from tofro.measures.probes import extract
from tofro.measures.similarity import (
    alignment,
    displacement,
    displacement_cosine,
    effective_rank,
    linear_cka,
    pooled_layers,
    uniformity,
)

RNG = np.random.default_rng(0)


def features(rows: int = 60, width: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, width)) + 3


def turn(width: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(5).normal(size=(width, width)))[0]


def cka_by_gram_matrices(x: np.ndarray, y: np.ndarray) -> float:
    """CKA as HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with HSIC(K, L) = tr(K H L H) (Kornblith et al. 2019, eq. 2 and 3)."""
    n = len(x)
    centre = np.eye(n) - np.ones((n, n)) / n

    def hsic(k: np.ndarray, other: np.ndarray) -> float:
        return float(np.trace(k @ centre @ other @ centre))

    k, gram = x @ x.T, y @ y.T
    return hsic(k, gram) / math.sqrt(hsic(k, k) * hsic(gram, gram))


@pytest.mark.parametrize(("rows", "width", "other"), [(60, 12, 12), (60, 12, 5), (8, 20, 30)])
def test_cka_is_that_of_gram_matrices(rows: int, width: int, other: int) -> None:
    x, y = features(rows, width), features(rows, other, seed=1)
    y[:, :3] += x[:, :3]
    assert linear_cka(x, y) == pytest.approx(cka_by_gram_matrices(x, y), rel=1e-12)
    assert linear_cka(x, y) == pytest.approx(linear_cka(y, x), rel=1e-12)


def test_cka_sees_neither_turns_nor_shifts_nor_scale_but_sees_stretching() -> None:
    x, y = features(), features(seed=1)
    plain = linear_cka(x, y)
    for changed in (x @ turn(12), 1e3 * x, 1e-3 * x, x + RNG.normal(size=12), -x, x[:, ::-1]):
        assert linear_cka(changed, y) == pytest.approx(plain, rel=1e-9)
        assert linear_cka(changed, x) == pytest.approx(1, abs=1e-9)
    assert linear_cka(x * np.arange(1, 13), y) != pytest.approx(plain, rel=1e-3)
    assert linear_cka(8 * x, y) == plain  # to the last bit


def test_cka_of_known_features() -> None:
    x, y = np.array([[1.0], [-1.0], [1.0], [-1.0]]), np.array([[1.0], [1.0], [-1.0], [-1.0]])
    assert linear_cka(x, y) == 0
    assert linear_cka(x, np.hstack([x, y])) == pytest.approx(1 / math.sqrt(2), rel=1e-14)
    assert linear_cka(np.full((4, 2), 0.1), y) == 0  # no texts are told apart


def test_effective_rank_of_known_spectra() -> None:
    line = np.outer(np.arange(9.0), [1, 2, -1])
    assert effective_rank(line) == pytest.approx(1)
    assert effective_rank(np.full((9, 4), 0.1)) == 0
    square = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    assert effective_rank(square) == pytest.approx(2)
    stretched = square * [3, 1]  # shares 3/4 and 1/4
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(stretched) == pytest.approx(math.exp(entropy))
    x = features()
    values = torch.linalg.svdvals(torch.from_numpy(x - x.mean(0)))
    assert effective_rank(x) == pytest.approx(torch.distributions.Categorical(values / values.sum()).entropy().exp().item())
    assert effective_rank(7 * (x @ turn(12)) + 5) == pytest.approx(effective_rank(x))


def test_alignment_and_uniformity_are_those_of_plain_loops() -> None:
    x, y = features(15), features(15, seed=1)
    unit_x, unit_y = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (x, y))
    assert alignment(x, y) == pytest.approx(np.mean([np.sum((a - b) ** 2) for a, b in zip(unit_x, unit_y, strict=True)]))
    pairs = [math.exp(-2 * np.sum((unit_x[i] - unit_x[j]) ** 2)) for i in range(15) for j in range(i)]
    assert uniformity(x) == pytest.approx(math.log(np.mean(pairs)))


def test_alignment_and_uniformity_at_their_ends() -> None:
    x = features()
    assert alignment(x, 5 * x) == pytest.approx(0, abs=1e-15)
    assert alignment(x, -x) == pytest.approx(4)
    assert uniformity(np.ones((5, 3))) == pytest.approx(0, abs=1e-12)
    assert uniformity(np.array([[1.0, 0], [-2, 0]])) == pytest.approx(-8)  # opposite: ‖a - b‖² = 4
    assert uniformity(x[:1]) == 0


def test_displacement_is_relative_and_its_cosine_tells_the_way() -> None:
    start, near, far = make_model(), make_model(), make_model()
    back = make_model()
    with torch.no_grad():
        for model, share in ((near, 0.1), (far, 0.3), (back, -0.2)):
            for parameter in model.encoder.parameters():
                parameter.mul_(1 + share)
            next(iter(model.heads.parameters())).add_(1.0)  # heads do not count
    encoders = [model.encoder for model in (start, near, far, back)]
    assert displacement(encoders[0], encoders[0]) == 0
    assert [displacement(each, encoders[0]) for each in encoders[1:]] == pytest.approx([0.1, 0.3, 0.2], rel=1e-5)
    assert displacement_cosine(encoders[1], encoders[0], encoders[2], encoders[0]) == pytest.approx(1, abs=1e-6)
    assert displacement_cosine(encoders[1], encoders[0], encoders[3], encoders[0]) == pytest.approx(-1, abs=1e-6)
    assert displacement_cosine(encoders[1], encoders[0], encoders[0], encoders[0]) is None


def test_displacement_against_one_long_vector() -> None:
    start, one, other = make_model().encoder, make_model().encoder, make_model().encoder
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for encoder in (one, other):
            for parameter in encoder.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))
    a, b, origin = (torch.nn.utils.parameters_to_vector(each.parameters()).double() for each in (one, other, start))
    assert displacement(one, start) == pytest.approx(((a - origin).norm() / origin.norm()).item())
    cosine = torch.cosine_similarity(a - origin, b - origin, dim=0).item()
    assert displacement_cosine(one, start, other, start) == pytest.approx(cosine)


def test_all_layers_are_pooled_in_the_order_of_the_samples() -> None:
    model = make_model()
    first, second = make_batch([3, 5], [3, 0], [0, 1]), make_batch([4, 2], [1, 2], [0, 1], seed=1)
    layers = pooled_layers(model, [first, second])
    assert layers.shape == (2, 4, 8)
    assert np.array_equal(layers[-1], extract(model, [first, second]).features)
    with torch.no_grad():
        embedded = model.eval().encoder.embeddings(first)
    assert np.allclose(layers[0, 3], embedded[:3].mean(0), atol=1e-6)
    assert not np.allclose(layers[0], layers[1])
