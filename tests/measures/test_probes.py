from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tofro.batches.types import Batch
from tofro.encoders.model import Model, build_model
from tofro.encoders.settings import EncoderSettings
from tofro.measures.probes import Rows, Standardiser, extract, probe

VOCABULARY = 64


def make_model() -> Model:
    settings = EncoderSettings(layers=1, width=8, heads=2, intermediate=16, max_positions=32)
    return build_model(settings, VOCABULARY, heads=("mlm", "pair"), dropout=0.3, seed=1)


def make_batch(lengths: list[int], samples: list[int], labels: list[int], seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    total = sum(lengths)
    return Batch(
        tokens=torch.randint(5, VOCABULARY, (total,), generator=generator),
        positions=torch.cat([torch.arange(length) for length in lengths]),
        segments=torch.zeros(total, dtype=torch.int64),
        cu_seqlens=torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32),
        max_length=max(lengths),
        labels=torch.tensor(labels),
        samples=torch.tensor(samples),
    )


def make_rows(rows: int, seed: int, classes: int = 3, width: int = 16) -> Rows:
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(0).normal(size=(width, classes))
    features = rng.normal(size=(rows, width)).astype(np.float32) @ np.random.default_rng(1).normal(size=(width, width))
    features = features.astype(np.float32) + 3
    return Rows(features, (features @ truth + 4 * rng.gumbel(size=(rows, classes))).argmax(1))


def test_features_are_the_mean_of_each_sequences_states_in_sample_order():
    model, batch = make_model(), make_batch([3, 5, 4], [2, 0, 1], [1, 0, 1])
    rows = extract(model, [batch])
    with torch.no_grad():
        states = model.eval().encoder(batch)
    means = [part.mean(0).numpy() for part in states.split([3, 5, 4])]
    assert np.allclose(rows.features, [means[1], means[2], means[0]], atol=1e-6)
    assert rows.labels.tolist() == [0, 1, 1]


def test_extraction_leaves_the_model_as_it_was():
    model = make_model()
    model.train()
    model.encoder.embeddings.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    extract(model, [make_batch([3, 4], [0, 1], [0, 1])], pooling="cls")
    assert [part.training for part in model.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_inference_gives_modes_back_after_an_error():
    from tofro.encoders.inference import inference

    module = nn.Sequential(nn.Dropout(), nn.Linear(2, 2)).train()
    with inference(module):
        assert not module[0].training
        assert not torch.is_grad_enabled()
    with pytest.raises(RuntimeError), inference(module):
        raise RuntimeError
    assert module.training
    assert module[0].training
    assert torch.is_grad_enabled()


def test_a_probe_reads_what_is_there_and_nothing_from_noise():
    train, test = make_rows(400, 1), make_rows(400, 2)
    found = probe(train, {"test": test}, "accuracy")["test"]
    noise = Rows(np.random.default_rng(3).normal(size=(400, 16)), train.labels)
    chance = np.bincount(test.labels).max() / 400
    assert found > chance + 0.1
    assert probe(noise, {"test": Rows(noise.features[::-1], test.labels)}, "accuracy")["test"] < chance + 0.05


def predictions_of(train: Rows, test: Rows) -> np.ndarray:
    from tofro.measures.linear import fit_logistic

    standardise = Standardiser(train.features)
    return fit_logistic(standardise(train.features), train.labels).decision_function(standardise(test.features))


def test_scaling_by_eight_is_bit_identical_and_by_ten_predicts_the_same():
    train, test = make_rows(300, 1), make_rows(200, 2)
    plain = predictions_of(train, test)
    assert np.array_equal(plain, predictions_of(train, test))
    eight = [Rows(rows.features * np.float32(8), rows.labels) for rows in (train, test)]
    assert np.array_equal(
        plain, predictions_of(*(Rows(rows.features * np.float32(2**-20), rows.labels) for rows in (train, test)))
    )
    ten = [Rows(rows.features * np.float32(10), rows.labels) for rows in (train, test)]
    assert np.array_equal(plain, predictions_of(*eight))
    assert np.array_equal(plain.argmax(1), predictions_of(*ten).argmax(1))
    scores = [probe(first, {"test": second}, "accuracy") for first, second in ((train, test), eight, ten)]
    assert scores[0] == scores[1] == scores[2]


def test_constant_features_become_zero_whatever_their_value():
    features = np.array([[1e6, 1.0, 0.0], [1e6, 2.0, 0.0], [1e6, 4.0, 0.0]], np.float32)
    scaled = Standardiser(features)(features)
    assert (scaled[:, [0, 2]] == 0).all()
    assert scaled[:, 1].mean() == pytest.approx(0, abs=1e-12)
    assert scaled[:, 1].std() == pytest.approx(1)


def test_a_regression_probe_orders_scores():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 8))
    scores = features[:, 0] * 2 + 0.1 * rng.normal(size=300)
    train, test = Rows(features[:200], scores[:200]), Rows(features[200:], scores[200:])
    assert probe(train, {"test": test}, "spearman", regression=True)["test"] > 0.95
    eight = Rows(train.features * 8, train.labels), Rows(test.features * 8, test.labels)
    assert probe(eight[0], {"test": eight[1]}, "pearson", True) == probe(train, {"test": test}, "pearson", True)


def test_a_single_class_is_refused():
    rows = Rows(np.random.default_rng(0).normal(size=(9, 4)), np.zeros(9, int))
    with pytest.raises(ValueError, match="single class"):
        probe(rows, {"test": rows}, "accuracy")
