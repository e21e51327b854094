from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tofro.batches.types import Batch
from tofro.encoders.model import Model, build_model
from tofro.encoders.settings import EncoderSettings
from tofro.measures.mlm import retention, unigram, unigram_log_probabilities

VOCABULARY = 64


def make_model() -> Model:
    settings = EncoderSettings(layers=1, width=8, heads=2, intermediate=16, max_positions=32, init_std=0.5)
    return build_model(settings, VOCABULARY, heads=("mlm", "pair"), dropout=0.3, seed=1)


def make_batch(lengths: list[int], masked: list[int], pairs: list[int], seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    total = sum(lengths)
    return Batch(
        tokens=torch.randint(5, VOCABULARY, (total,), generator=generator),
        positions=torch.cat([torch.arange(length) for length in lengths]),
        segments=torch.zeros(total, dtype=torch.int64),
        cu_seqlens=torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32),
        max_length=max(lengths),
        masked=torch.tensor(masked),
        mask_targets=torch.randint(5, VOCABULARY, (len(masked),), generator=generator),
        pair_labels=torch.tensor(pairs),
    )


BATCHES = [make_batch([6, 4], [1, 3, 8], [0, 1], 0), make_batch([5, 7, 3], [2], [1, 1, 0], 1)]


def test_loss_is_a_sum_over_all_masked_tokens_divided_by_their_number():
    model = make_model().train()
    found = retention(model, BATCHES)
    losses, hits, pair_hits = [], [], []
    with torch.no_grad():
        model.eval()
        for batch in BATCHES:
            states = model.encoder(batch)
            everything = model.mlm_logits(states, torch.arange(len(states))).double().log_softmax(-1)
            for place, target in zip(batch.masked.tolist(), batch.mask_targets.tolist(), strict=True):
                losses.append(-everything[place, target].item())
                hits.append(everything[place].argmax().item() == target)
            pair_hits += (model.pair_logits(states, batch).argmax(-1) == batch.pair_labels).tolist()
    assert found["mlm_loss"] == pytest.approx(np.mean(losses), abs=1e-5)
    assert found["mlm_accuracy"] == np.mean(hits)
    assert found["mlm_count"] == 4
    assert found["pair_accuracy"] == np.mean(pair_hits)
    assert found["pair_count"] == 5


def test_batching_does_not_matter_and_twice_is_identical():
    model = make_model()
    parts = [retention(model, [batch]) for batch in BATCHES]
    whole = retention(model, BATCHES)
    merged = sum(part["mlm_loss"] * part["mlm_count"] for part in parts) / whole["mlm_count"]
    assert whole["mlm_loss"] == pytest.approx(merged, abs=1e-9)
    assert retention(model, BATCHES) == whole


def test_what_batches_lack_is_left_out():
    bare = [replace(batch, pair_labels=None) for batch in BATCHES]
    assert set(retention(make_model(), bare)) == {"mlm_loss", "mlm_accuracy", "mlm_count"}
    assert unigram([replace(BATCHES[0], mask_targets=None)], np.zeros(VOCABULARY)) == {}


def test_unigram_distribution_counts_with_one_added():
    log_probabilities = unigram_log_probabilities(np.array([3, 3, 3, 5], np.int32), 8)
    assert np.exp(log_probabilities).sum() == pytest.approx(1)
    assert np.exp(log_probabilities[[3, 5, 0]]).tolist() == pytest.approx([4 / 12, 2 / 12, 1 / 12])


def test_unigram_nats_is_the_loss_of_a_model_whose_logits_are_the_counts():
    table = unigram_log_probabilities(np.random.default_rng(0).integers(5, VOCABULARY, 500), VOCABULARY)
    model = make_model()
    head = model.heads["mlm"]
    with torch.no_grad():
        head.norm.weight.zero_()
        head.norm.bias.zero_()
        head.bias.copy_(torch.from_numpy(table) + 3.0)
    assert unigram(BATCHES, table)["unigram_nats"] == pytest.approx(retention(model, BATCHES)["mlm_loss"], abs=1e-5)
