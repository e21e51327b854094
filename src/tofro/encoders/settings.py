"""Settings of the encoder's architecture, and of what trains in it."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING

from tofro.declare import setting

BERT, MODERNBERT = "bert", "modernbert"


@dataclass
class EncoderSettings:
    """The encoder's architecture: a family, which fixes the kind of each part, and its sizes.

    ``bert`` (Devlin et al. 2019): norms after each block, learned positions, segment embeddings, GELU, biases. ``modernbert``
    (Warner et al. 2024): norms before each block and one at the end, rotary positions, GeGLU, no biases, and attention that in
    most layers reaches a window only. The vocabulary comes from the tokenizer and dropout from the method, so neither stands
    here.
    """

    family: str = setting(BERT, "bert or modernbert: the kind of each part", choices=(BERT, MODERNBERT))
    layers: int = setting(4, "transformer layers", low=1)
    width: int = setting(256, "width D of the states", low=8)
    heads: int = setting(4, "attention heads; divides width", low=1)
    intermediate: int = setting(1024, "width of the feed-forward layer", low=8)
    max_positions: int = setting(512, "longest sequence", low=16)
    segments: int = setting(2, "segment embeddings; bert only", low=1)
    norm_eps: float = setting(1e-12, "epsilon of the layer norms", above=0)
    init_std: float = setting(0.02, "standard deviation of the initial weights", above=0)
    global_every: int = setting(3, "modernbert: every n-th layer attends to the whole sequence, the first among them", low=1)
    local_window: int = setting(128, "modernbert: tokens that the other layers reach, half on each side", low=2, multiple_of=2)
    rotary_base_global: float = setting(160_000.0, "modernbert: base of the rotary positions in global layers", above=0)
    rotary_base_local: float = setting(10_000.0, "modernbert: base of the rotary positions in local layers", above=0)
    head_pooling: str = setting("cls", "modernbert: what task and pair heads see of a text", choices=("cls", "mean"))

    @property
    def modern(self) -> bool:
        """Whether this is a ModernBERT."""
        return self.family == MODERNBERT

    def window(self, layer: int) -> int | None:
        """Return how far to each side a token of ``layer`` sees; None means to both ends."""
        return self.local_window // 2 if self.modern and layer % self.global_every else None


# Keys that mean something in one family only.
ONLY_IN = {
    BERT: ("segments",),
    MODERNBERT: ("global_every", "local_window", "rotary_base_global", "rotary_base_local", "head_pooling"),
}


@dataclass
class TuningSettings:
    """Which parameters of a model train."""

    _target_: str = setting(MISSING, "function (settings, model, seed) -> None that sets requires_grad")
    reinitialise: int = setting(
        0,
        "highest layers whose weights, with the pooler's, are drawn anew before training; 0 draws none, not the pooler's",
        low=0,
    )


@dataclass
class TopKSettings(TuningSettings):
    """The task head and the k highest layers train."""

    k: int = setting(1, "layers that train, counted from the top", low=1)


@dataclass
class LoraSettings(TuningSettings):
    """The task head trains, and beside linear maps of the encoder differences of low rank."""

    rank: int = setting(8, "rank r of the difference that each adapted map learns", low=1)
    alpha: float = setting(16.0, "the difference is scaled by alpha / rank", above=0)
    dropout: float = setting(0.0, "dropout of what goes into the difference", low=0, below=1)
    targets: list[str] = setting(
        ["attention.qkv"],
        "linear maps of every layer to adapt: attention.qkv, attention.output, feed_forward.up, feed_forward.down",
    )
