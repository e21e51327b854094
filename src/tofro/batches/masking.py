"""Masked language modelling: which tokens a model must predict, and what it sees in their place.

In: packed sequences with their samples. Out: the corrupted tokens, the masked indices and the original ids (Devlin et al.
2019, section 3.1; whole words as in their later release; spans of words as in Joshi et al. 2020). A mask depends on the
sample, the epoch and the place in the sequence, never on the batch: the same sample gets the same mask wherever it turns up.
Special and unknown tokens are never chosen; a span that meets one goes on beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tofro.batches.order import below, key, uniform
from tofro.batches.spans import draw_spans
from tofro.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class MaskRule:
    """Share of words, what is chosen together (word, span, token), what replaces it, and how long spans are."""

    rate: float = 0.15
    unit: str = "word"
    corruption: str = "bert"
    span_p: float = 0.2
    span_limit: int = 10


EVALUATION = MaskRule()  # whatever the training rule, so that losses before and after compare


class Masker:
    """Masks packed sequences with the special tokens and the vocabulary of one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, rule: MaskRule) -> None:
        """Prepare the table of ids that are never chosen, and the list of those that replace."""
        self.rule = rule
        self.special = tokenizer.special  # (V,) bool
        self.ordinary = np.flatnonzero(~tokenizer.special)  # (R,) ids a random token is drawn from
        self.mask_id = tokenizer.mask_id

    def mask(
        self,
        stream: int,
        epoch: int,
        tokens: np.ndarray,
        starts: np.ndarray,
        positions: np.ndarray,
        sequence: np.ndarray,
        samples: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Choose and replace tokens.

        ``tokens``, ``starts`` (first token of a word), ``positions`` and ``sequence`` (row of each token) are (T,),
        ``samples`` (B,). Returns the corrupted tokens (T,), the masked indices (M,), rising, and the original ids (M,).
        """
        masked, leaders = self._choose(key(stream, "words", epoch), tokens, starts, positions, sequence, samples)
        targets = tokens[masked]
        rows = samples[sequence[masked]]
        corrupted = self._replace(key(stream, "replace", epoch), tokens, masked, rows, positions[masked], positions[leaders])
        return corrupted, masked, targets

    def _choose(
        self,
        stream: int,
        tokens: np.ndarray,
        starts: np.ndarray,
        positions: np.ndarray,
        sequence: np.ndarray,
        samples: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Choose a share of each sequence's words; at least one where there is one.

        Returns the indices of their tokens (M,), and for each the token that draws its replacement's kind: a span's first, else
        itself.
        """
        allowed = ~self.special[tokens]
        begins = np.ones_like(starts) if self.rule.unit == "token" else starts
        number = np.cumsum(begins) - 1  # (T,) the word of each token
        known = np.zeros(number[-1] + 1, dtype=bool)  # words with a token that can be predicted
        known[number[allowed]] = True
        words = np.flatnonzero(begins)[known]  # (W,) first tokens of the words to choose from
        row = sequence[words]
        counts = np.bincount(row, minlength=len(samples))  # (B,) words a sequence has
        # A share that is no whole number is rounded up or down by chance, so that short sequences keep the rate on average.
        wanted = (self.rule.rate * counts + uniform(stream, samples, 0)).astype(np.int64)
        wanted = np.minimum(np.maximum(wanted, 1), counts)
        leader = np.full(len(known), -1)  # by word: the first token of its span, or its own; -1 where it is not chosen
        if self.rule.unit == "span":
            chosen, first = draw_spans(stream, samples, counts, wanted, self.rule.span_p, self.rule.span_limit)
        else:
            order = np.argsort(row + uniform(stream, samples[row], positions[words] + 1))
            rank = np.arange(len(words)) - np.repeat(np.cumsum(counts) - counts, counts)
            chosen = first = order[rank < np.repeat(wanted, counts)]
        leader[np.flatnonzero(known)[chosen]] = words[first]
        leaders = leader[number]  # (T,)
        masked = np.flatnonzero((leaders >= 0) & allowed)
        return masked, leaders[masked] if self.rule.unit == "span" else masked

    def _replace(
        self,
        stream: int,
        tokens: np.ndarray,
        masked: np.ndarray,
        samples: np.ndarray,
        positions: np.ndarray,
        leaders: np.ndarray,
    ) -> np.ndarray:
        """Put [MASK] for all, or for 80% with 10% random tokens and 10% left as they are; ``leaders`` draw which."""
        corrupted = tokens.copy()
        if self.rule.corruption == "mask_only":
            corrupted[masked] = self.mask_id
            return corrupted
        lot = uniform(stream, samples, leaders, 0)
        drawn = self.ordinary[below(len(self.ordinary), stream, samples, positions, 1)]
        corrupted[masked] = np.where(lot < 0.8, self.mask_id, np.where(lot < 0.9, drawn, tokens[masked]))
        return corrupted
