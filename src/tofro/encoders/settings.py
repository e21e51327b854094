"""Settings of the encoder's architecture, and of what trains in it."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING

from tofro.declare import setting

# By the names that Hugging Face has for them (model_type).
BERT, ROBERTA, XLM_ROBERTA, DISTILBERT, MODERNBERT = "bert", "roberta", "xlm-roberta", "distilbert", "modernbert"
FAMILIES = (BERT, ROBERTA, XLM_ROBERTA, DISTILBERT, MODERNBERT)

# Keys that mean something in some families only. DistilBERT's epsilon is 1e-12, and its config.json has no key for another.
ONLY_IN = {
    "segments": (BERT, ROBERTA, XLM_ROBERTA),
    "first_position": (ROBERTA, XLM_ROBERTA),
    "norm_eps": (BERT, ROBERTA, XLM_ROBERTA, MODERNBERT),
    **dict.fromkeys(("global_every", "local_window", "rotary_base_global", "rotary_base_local", "head_pooling"), (MODERNBERT,)),
}


@dataclass
class EncoderSettings:
    """The encoder's architecture: a family, which fixes the kind of each part, and its sizes.

    ``bert`` (Devlin et al. 2019): norms after each block, learned positions, segment embeddings, GELU, biases. ``roberta`` (Liu
    et al. 2019) and ``xlm-roberta`` (Conneau et al. 2020): the same, with positions counted from the row after that of padding.
    ``distilbert`` (Sanh et al. 2019): the same without segments, and with a ReLU before the classifier. ``modernbert`` (Warner et
    al. 2024): norms before each block and one at the end, rotary positions, GeGLU, no biases, and attention that in most layers
    reaches a window only. The vocabulary comes from the tokenizer and dropout from the method, so neither stands here.
    """

    family: str = setting(BERT, "the kind of each part", choices=FAMILIES)
    layers: int = setting(4, "transformer layers", low=1)
    width: int = setting(256, "width D of the states", low=8)
    heads: int = setting(4, "attention heads; divides width", low=1)
    intermediate: int = setting(1024, "width of the feed-forward layer", low=8)
    max_positions: int = setting(512, "longest sequence", low=16)
    segments: int = setting(2, "segment embeddings; bert and roberta only", low=1)
    norm_eps: float = setting(1e-12, "epsilon of the layer norms", above=0)
    init_std: float = setting(0.02, "standard deviation of the initial weights", above=0)
    global_every: int = setting(3, "modernbert: every n-th layer attends to the whole sequence, the first among them", low=1)
    local_window: int = setting(128, "modernbert: tokens that the other layers reach, half on each side", low=2, multiple_of=2)
    rotary_base_global: float = setting(160_000.0, "modernbert: base of the rotary positions in global layers", above=0)
    rotary_base_local: float = setting(10_000.0, "modernbert: base of the rotary positions in local layers", above=0)
    head_pooling: str = setting("cls", "modernbert: what task and pair heads see of a text", choices=("cls", "mean"))
    first_position: int = setting(1, "roberta: row of the first token's position, one more than the id of padding", low=1)

    @property
    def modern(self) -> bool:
        """Whether this is a ModernBERT."""
        return self.family == MODERNBERT

    @property
    def segmented(self) -> bool:
        """Whether there are segment embeddings."""
        return self.family in ONLY_IN["segments"]

    @property
    def tells_segments(self) -> bool:
        """Whether the two texts of a pair may have different segment embeddings."""
        return self.segmented and self.segments > 1

    @property
    def unused_positions(self) -> int:
        """Rows of the position table before that of the first token."""
        return self.first_position if self.family in ONLY_IN["first_position"] else 0

    @property
    def padding(self) -> int:
        """Row of the token embedding that stands for padding."""
        return max(self.unused_positions - 1, 0)

    def window(self, layer: int) -> int | None:
        """Return how far to each side a token of ``layer`` sees; None means to both ends."""
        return self.local_window // 2 if self.modern and layer % self.global_every else None


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
