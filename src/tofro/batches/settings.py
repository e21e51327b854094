"""Settings of the pretraining batches: masks, pairs and lengths."""

from __future__ import annotations

from dataclasses import dataclass

from tofro.declare import setting


@dataclass
class ObjectiveSettings:
    """What pretraining predicts: masked words, the relation of two segments, or both."""

    mlm_weight: float = setting(1.0, "weight of the masked language modelling loss; 0 leaves it out", low=0)
    mask_rate: float = setting(0.15, "share of word positions chosen for prediction", above=0, below=1)
    mask_unit: str = setting(
        "word", "mask whole words, spans of neighbouring whole words, or single tokens", choices=("word", "span", "token")
    )
    span_p: float = setting(0.2, "mask_unit span: chance that a span ends after each of its words", above=0, below=1)
    span_limit: int = setting(10, "mask_unit span: the most words of a span", low=1)
    corruption: str = setting(
        "bert", "bert: 80% [MASK], 10% random, 10% kept; mask_only: all [MASK]", choices=("bert", "mask_only")
    )
    pair: str = setting(
        "swap", "swap: were two consecutive segments swapped; random: does B follow A; none", choices=("swap", "random", "none")
    )
    pair_weight: float = setting(1.0, "weight of the pair loss; 0 leaves it out", low=0)
    unit: str = setting(
        "segment", "segments of whole sentences that fill the length, or single sentences", choices=("segment", "sentence")
    )
    length: int = setting(128, "tokens of a training sequence, special ones included", low=16, high=8192)
