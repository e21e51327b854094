"""An encoder with its heads: the thing that is pretrained, fine-tuned, saved and loaded.

In: :class:`EncoderSettings` and a vocabulary size. Out: :class:`Model`, whose weights are a function of the seed alone, not of
any global random state. Left out: reading and writing (folder.py), losses (objectives), what trains (tuning.py).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tofro.batches.types import Batch
from tofro.encoders.encoder import Encoder
from tofro.encoders.heads import MLMHead, PairHead, Pooler, TaskHead
from tofro.encoders.pooling import pool
from tofro.encoders.settings import EncoderSettings

HEADS = ("mlm", "pooler", "pair", "task")


class Model(nn.Module):
    """``encoder`` and ``heads`` (some of ``mlm``, ``pooler``, ``pair``, ``task``). ``copy.deepcopy`` gives an independent twin.

    Construct it through :func:`build_model` or ``load_model``: the constructor leaves PyTorch's own initial weights.
    """

    def __init__(
        self,
        settings: EncoderSettings,
        vocabulary: int,
        heads: Iterable[str],
        dropout: float = 0.0,
        classes: int | None = None,
        regression: bool = False,
        words: bool = False,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.vocabulary = vocabulary
        self.encoder = Encoder(settings, vocabulary, dropout)
        self.heads = nn.ModuleDict()
        wanted = set(heads)
        assert wanted <= set(HEADS), f"unknown heads {wanted - set(HEADS)}"
        if "pair" in wanted or ("task" in wanted and _pools(settings, words)):
            wanted.add("pooler")
        for name in HEADS:  # a fixed order, so that parameters are listed alike whatever the order asked for
            if name in wanted:
                self.heads[name] = _make_head(name, settings, vocabulary, classes, regression, words)

    @property
    def dropout(self) -> float:
        """Dropout of encoder and task head in training mode."""
        return self.encoder.dropout

    @dropout.setter
    def dropout(self, value: float) -> None:
        self.encoder.dropout = value

    def forward(self, batch: Batch) -> Tensor:
        """Return the last layer's states (T, D)."""
        return self.encoder(batch)

    def mlm_logits(self, states: Tensor, masked: Tensor) -> Tensor:
        """Return logits (M, V) for the tokens at ``masked`` (M,), indices into the states (T, D)."""
        return self.heads["mlm"](states.index_select(0, masked), self.encoder.embeddings.tokens.weight)

    def pair_logits(self, states: Tensor, batch: Batch) -> Tensor:
        """Return logits (B, 2) of how the two segments of each sequence relate."""
        return self.heads["pair"](self._pooled(states, batch))

    def task_logits(self, states: Tensor, batch: Batch) -> Tensor:
        """Return logits (B, C) of the classes, or scores (B,) for a regression; (W, C) for the tagged words of a batch."""
        if self.tags_words:
            assert batch.tagged is not None, "a head that tags words needs a batch that says where they are"
            answered = states.index_select(0, batch.tagged)
            if _pools(self.settings, words=True):
                answered = self.heads["pooler"](answered)
        else:
            answered = self._pooled(states, batch)
        return self.heads["task"](F.dropout(answered, self.dropout, self.training))

    @property
    def tags_words(self) -> bool:
        """Whether the task head answers for words, not for texts."""
        return "task" in self.heads and bool(self.heads["task"].words)

    @property
    def task_heads(self) -> tuple[str, ...]:
        """The heads that the answer to the task goes through."""
        return ("pooler", "task") if _pools(self.settings, self.tags_words) else ("task",)

    def add_task_head(self, classes: int, regression: bool = False, seed: int = 0, words: bool = False) -> None:
        """Put a fresh task head in place of the one that is there, and a fresh pooler where it needs one that is not there."""
        device, made = self.encoder.embeddings.tokens.weight.device, ["task"]
        if "pooler" not in self.heads and _pools(self.settings, words):
            made.append("pooler")
        for name in made:
            head = _make_head(name, self.settings, self.vocabulary, classes, regression, words)
            initialise(head, self.settings, seed, f"heads.{name}")
            self.heads[name] = head.to(device)

    def _pooled(self, states: Tensor, batch: Batch) -> Tensor:
        how = self.settings.head_pooling if self.settings.modern else "cls"
        return self.heads["pooler"](pool(states, batch, how))


def build_model(
    settings: EncoderSettings,
    vocabulary: int,
    heads: Iterable[str] = ("mlm", "pair"),
    dropout: float = 0.0,
    seed: int = 0,
    classes: int | None = None,
    regression: bool = False,
    words: bool = False,
) -> Model:
    """Return a model with fresh weights, the same for the same arguments on every call.

    ``vocabulary`` counts the rows of the token embedding (``Tokenizer.vocabulary``). ``classes`` adds a task head with that
    many outputs, ``regression`` one with a single output; with ``words`` it tags words. A pooler comes with a pair or task head,
    though not with BERT's for words. Encoder weights do not depend on which heads there are.
    """
    wanted = set(heads)
    if classes is not None or regression:
        wanted.add("task")
    with torch.device("meta"):  # no memory, no draw from the global random state
        model = Model(settings, vocabulary, wanted, dropout, classes, regression, words)
    model.to_empty(device="cpu")
    initialise(model, settings, seed)
    return model


@torch.no_grad()
def initialise(module: nn.Module, settings: EncoderSettings, seed: int, name: str = "") -> None:
    """Draw the weights of ``module``: biases 0, norms 1, the embedding of [PAD] zero, all else at random.

    BERT draws from N(0, init_std²). ModernBERT cuts that off at two standard deviations and scales it where a block adds to the
    residual (:func:`_deviation`). Each weight has its own generator, seeded by (seed, its name in the model), so adding a head
    changes no other weight. ``name`` is the module's own name in the model.
    """
    for path, part in module.named_modules(prefix=name):
        for key, parameter in part.named_parameters(recurse=False):
            if key == "bias":
                parameter.zero_()
            elif isinstance(part, nn.LayerNorm):
                parameter.fill_(1.0)
            else:
                digest = hashlib.sha256(f"{seed}:{path}.{key}".encode()).digest()
                generator = torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))
                std = _deviation(path, settings)
                if settings.modern:
                    nn.init.trunc_normal_(parameter, 0.0, std, -2 * std, 2 * std, generator=generator)
                else:
                    parameter.normal_(0.0, std, generator=generator)
        if path == "encoder.embeddings.tokens":
            part.weight[settings.padding] = 0.0


def _deviation(path: str, settings: EncoderSettings) -> float:
    """Return the standard deviation of a module's initial weights; ModernBERT's as transformers' ``_init_weights`` has them."""
    if settings.modern and path.startswith(("heads.task", "heads.pair")):
        return settings.width**-0.5
    if settings.modern and path.endswith((".output", ".down", ".dense")):
        return settings.init_std / math.sqrt(2 * settings.layers)
    return settings.init_std


def _pools(settings: EncoderSettings, words: bool) -> bool:
    """Say whether the pooler stands before the task head: BERT's tags words without one, ModernBERT's dense map is in both."""
    return settings.modern or not words


def _make_head(
    name: str, settings: EncoderSettings, vocabulary: int, classes: int | None, regression: bool, words: bool
) -> nn.Module:
    if name == "mlm":
        return MLMHead(settings, vocabulary)
    if name == "pooler":
        return Pooler(settings)
    if name == "pair":
        return PairHead(settings)
    assert regression or classes, "a task head needs its number of classes"
    return TaskHead(settings, 1 if regression else int(classes or 0), regression, words)
