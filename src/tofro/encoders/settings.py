"""Settings of the encoder's architecture, and of what trains in it."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING

from tofro.declare import setting


@dataclass
class EncoderSettings:
    """A BERT encoder (Devlin et al. 2019): post-norm, learned positions, GELU, segment embeddings.

    The vocabulary comes from the tokenizer and dropout from the method, so neither stands here.
    """

    layers: int = setting(4, "transformer layers", low=1)
    width: int = setting(256, "width D of the states", low=8)
    heads: int = setting(4, "attention heads; divides width", low=1)
    intermediate: int = setting(1024, "width of the feed-forward layer", low=8)
    max_positions: int = setting(512, "longest sequence", low=16)
    segments: int = setting(2, "segment embeddings", low=1)
    norm_eps: float = setting(1e-12, "epsilon of the layer norms", above=0)
    init_std: float = setting(0.02, "standard deviation of the initial weights", above=0)


@dataclass
class TuningSettings:
    """Which parameters of a model train."""

    _target_: str = setting(MISSING, "function (model) -> None that sets requires_grad")


@dataclass
class TopKSettings(TuningSettings):
    """The task head and the k highest layers train."""

    k: int = setting(1, "layers that train, counted from the top", low=1)
