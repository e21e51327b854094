"""The leak classifier: how far pair labels can be told from lengths, punctuation and places, without reading a word.

In: token stores and the pair objective. Out: the accuracy of logistic regression on such features, for the pairs that training
draws and for untouched consecutive segments, which natural text itself gives away a little. A pair accuracy means something
only where it lies above the first number, and the pair builder is clean where the first is within a point of the second.
"""

from __future__ import annotations

from tofro.batches.leaks import drawn_pairs, leak_features, untouched_pairs
from tofro.batches.settings import ObjectiveSettings
from tofro.measures.probes import Rows, probe
from tofro.tokens.store import TokenStore
from tofro.tokens.tokenizer import Tokenizer

PAIRS = 10_000  # of each split; the 95% interval of an accuracy near one half is then one point to either side


def leak_accuracy(
    train: TokenStore, validation: TokenStore, tokenizer: Tokenizer, objective: ObjectiveSettings, pairs: int = PAIRS
) -> dict[str, float]:
    """Return ``leak_accuracy`` and ``leak_accuracy_natural``: fitted on pairs of ``train``, scored on pairs of ``validation``.

    A store with fewer pairs than asked for gives them over several epochs, each drawn anew. Empty where there is no pair
    objective.
    """
    if objective.pair == "none":
        return {}
    result = {}
    for name, draw in (("leak_accuracy", drawn_pairs), ("leak_accuracy_natural", untouched_pairs)):
        fitted, held_out = (
            Rows(*leak_features(store, tokenizer, draw(store, objective, pairs))) for store in (train, validation)
        )
        result[name] = probe(fitted, {"validation": held_out}, "accuracy")["validation"]
    return result
