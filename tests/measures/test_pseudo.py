"""Pseudo-log-likelihood: batches against one masked position at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tofro.batches.types import Batch
from tofro.encoders.model import Model, build_model
from tofro.encoders.settings import EncoderSettings
from tofro.measures import pseudo
from tofro.measures.pseudo import log_likelihoods, pseudo_log_likelihood
from tofro.tokens.settings import TokenizerSettings
from tofro.tokens.tokenizer import Tokenizer
from tofro.tokens.training import train_tokenizer

TEXTS = ["The river runs.", "A", "Some stones, unbelievably old; unbelievable!", "x ☃ river", "Runs the river?", "中国 old"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TokenizerSettings(vocabulary=64, min_frequency=1), [text.replace("☃", "") for text in TEXTS])


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Model:
    settings = EncoderSettings(layers=2, width=16, heads=2, intermediate=32, max_positions=64, init_std=0.4)
    return build_model(settings, tokenizer.vocabulary, heads=("mlm", "pair"), dropout=0.3, seed=1)


def flat(tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    encoded = tokenizer.encode_flat(TEXTS)
    return encoded.ids, encoded.offsets[:-1], np.diff(encoded.offsets)


@torch.no_grad()
def slow(model: Model, tokenizer: Tokenizer, ids: list[int]) -> float:
    """Mask one position of one text at a time."""
    model.eval()
    total = 0.0
    for place, target in enumerate(ids):
        if target == tokenizer.unk_id:
            continue
        row = [tokenizer.cls_id, *ids, tokenizer.sep_id]
        row[place + 1] = tokenizer.mask_id
        size = len(row)
        batch = Batch(
            torch.tensor(row), torch.arange(size), torch.zeros(size, dtype=torch.int64), torch.tensor([0, size]).int(), size
        )
        logits = model.mlm_logits(model.encoder(batch), torch.tensor([place + 1]))
        total += logits[0].double().log_softmax(-1)[target].item()
    return total


@pytest.mark.parametrize("batch_tokens", [1, 40, 100_000])
def test_batches_equal_one_position_at_a_time(model: Model, tokenizer: Tokenizer, batch_tokens: int) -> None:
    ids, starts, lengths = flat(tokenizer)
    expected = [slow(model, tokenizer, part.ids.tolist()) for part in tokenizer.encode(TEXTS)]
    model.train()
    found = log_likelihoods(model, tokenizer, ids, starts, lengths, batch_tokens)
    assert model.training
    assert np.abs(found - expected).max() < 1e-5 * lengths.max()
    assert len(np.unique(np.round(expected, 3))) == len(TEXTS)


def test_means_count_known_tokens_and_their_characters(model: Model, tokenizer: Tokenizer) -> None:
    ids, starts, lengths = flat(tokenizer)
    values = pseudo_log_likelihood(model, tokenizer, ids, starts, lengths)
    total = log_likelihoods(model, tokenizer, ids, starts, lengths).sum()
    known = "".join("".join(TEXTS).split()).replace("☃", "")
    assert tokenizer.unk_id in ids
    assert values["pll_count"] == len(ids) - 1
    assert values["pll_per_token"] == pytest.approx(total / (len(ids) - 1))
    assert values["pll_per_character"] == pytest.approx(total / len(known))


def test_batches_hold_no_more_tokens_than_they_may(model: Model, tokenizer: Tokenizer) -> None:
    ids, starts, lengths = flat(tokenizer)
    batches = [batch for _, batch in pseudo._batches(tokenizer, ids, starts, lengths, 60)]
    sizes = [len(batch.tokens) for batch in batches]
    assert max(sizes) <= 60
    assert len(batches) < (ids != tokenizer.unk_id).sum()
    lengths_of = np.concatenate([np.diff(batch.cu_seqlens.numpy()) for batch in batches])
    assert (np.diff(lengths_of) >= 0).all()
    assert len(list(pseudo._batches(tokenizer, ids, starts, lengths, 1))) == (ids != tokenizer.unk_id).sum()


def test_nothing_to_score_is_left_out(model: Model, tokenizer: Tokenizer) -> None:
    unknown = np.array([tokenizer.unk_id, tokenizer.unk_id])
    assert pseudo_log_likelihood(model, tokenizer, unknown, np.array([0]), np.array([2])) == {}
    nothing = np.zeros(0, dtype=np.int64)
    assert pseudo_log_likelihood(model, tokenizer, nothing, nothing, nothing) == {}
