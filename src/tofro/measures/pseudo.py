"""Pseudo-log-likelihood: how likely a model finds whole texts when every token is hidden in turn.

In: a model with its language head, and where texts lie in an array of ids. Out: Σ_i log P(x_i | x without i) of each text, and
the means over all texts per token and per character (Salazar et al. 2020, "Masked language model scoring", equation 1). This is
the objective of masked language modelling in its exact form, one position at a time, where the fixed-mask loss is a sample of
it. A text of n tokens costs n forward passes. Left out: which texts (batches/pretraining.py: evaluation_sentences).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from tofro.batches.packing import pack, ragged, to_batch
from tofro.batches.types import Batch
from tofro.encoders.inference import device_of, inference
from tofro.encoders.model import Model
from tofro.tokens.tokenizer import Tokenizer

BATCH_TOKENS = 16_384  # of one forward pass; bounds memory and has no bearing on the result beyond rounding


def pseudo_log_likelihood(
    model: Model, tokenizer: Tokenizer, ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray
) -> dict[str, float]:
    """Return means over all scored tokens of the texts, in nats, at most 0; nearer to 0 is better:

    - ``pll_per_token``: Σ log P over the number of scored tokens;
    - ``pll_per_character``: the same sum over the characters of these tokens, which are those of the normalised text without
      white space ("##" is no part of a token), so that models with different vocabularies compare;
    - ``pll_count``: scored tokens. Unknown tokens are context but are not scored, since no model learns to predict them.

    ``ids`` (N,) holds the texts without special tokens, ``starts`` and ``lengths`` (S,) where they lie. Empty without tokens.
    """
    scores = log_likelihoods(model, tokenizer, ids, starts, lengths)
    tokens = ids[ragged(starts, lengths)]
    tokens = tokens[~tokenizer.special[tokens]]
    if not len(tokens):
        return {}
    total = float(scores.sum())
    characters = int(tokenizer.characters[tokens].sum())
    return {"pll_per_token": total / len(tokens), "pll_per_character": total / characters, "pll_count": float(len(tokens))}


def log_likelihoods(
    model: Model,
    tokenizer: Tokenizer,
    ids: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    batch_tokens: int = BATCH_TOKENS,
) -> np.ndarray:
    """Return the pseudo-log-likelihood of each text, (S,) float64; shapes as in :func:`pseudo_log_likelihood`.

    Positions of texts of like length share a batch of at most ``batch_tokens`` tokens; a longer text has batches of one sequence.
    """
    scores = np.zeros(len(starts))
    device = device_of(model)
    with inference(model):
        for text, batch in _batches(tokenizer, ids, starts, lengths, batch_tokens):
            batch = batch.to(device)
            assert batch.masked is not None
            assert batch.mask_targets is not None
            logits = model.mlm_logits(model.encoder(batch), batch.masked)
            found = logits.float().log_softmax(-1).gather(1, batch.mask_targets[:, None])[:, 0].to(torch.float64)
            scores += np.bincount(text, weights=found.cpu().numpy(), minlength=len(scores))
    return scores


def _batches(
    tokenizer: Tokenizer, ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray, batch_tokens: int
) -> Iterator[tuple[np.ndarray, Batch]]:
    """Yield batches of [CLS] text [SEP] with one token masked each, and the text of each sequence (B,)."""
    order = np.argsort(lengths, kind="stable")
    text = np.repeat(order, lengths[order])  # one entry for every token of every text, the shortest texts first
    place = ragged(np.zeros_like(order), lengths[order])  # the token to hide, counted in its text
    scored = ~tokenizer.special[ids[starts[text] + place]]
    text, place = text[scored], place[scored]
    begins = np.broadcast_to(np.True_, ids.shape)  # words have no bearing here
    ends = np.cumsum(lengths[text] + 2)
    first = 0
    while first < len(text):
        last = max(int(np.searchsorted(ends, ends[first] - lengths[text[first]] - 2 + batch_tokens, side="right")), first + 1)
        rows = text[first:last]
        packed = pack(ids, begins, starts[rows][:, None], lengths[rows][:, None], tokenizer)
        hidden = packed.offsets[:-1] + 1 + place[first:last]
        targets = packed.tokens[hidden]
        packed.tokens[hidden] = tokenizer.mask_id
        yield rows, to_batch(packed, rows, hidden, targets)
        first = last
