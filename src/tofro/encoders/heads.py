"""What turns states into predictions: heads that match those of Hugging Face's classes weight for weight, in every family.

In: states ``(T, D)`` of an encoder, or pooled states ``(B, D)``, or those of words ``(W, D)``. Out: fp32-ready logits. Left out:
the token embedding, which the MLM head borrows from the encoder at call time, and dropout, which the model applies.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tofro.encoders.encoder import make_norm
from tofro.encoders.settings import DISTILBERT, EncoderSettings


class MLMHead(nn.Module):
    """Dense, GELU, norm, then the product with the token embedding, plus a bias per vocabulary entry."""

    def __init__(self, settings: EncoderSettings, vocabulary: int) -> None:
        super().__init__()
        self.dense = nn.Linear(settings.width, settings.width, bias=not settings.modern)
        self.norm = make_norm(settings)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, states: Tensor, embedding: Tensor) -> Tensor:
        """Return logits (M, V) for the states (M, D) of masked tokens; ``embedding`` is the encoder's (V, D)."""
        return F.linear(self.norm(F.gelu(self.dense(states))), embedding, self.bias)


class Pooler(nn.Module):
    """What task and pair heads see of a text: a dense map of one state, and then tanh.

    In DistilBERT a ReLU, in ModernBERT a GELU and a norm. RoBERTa keeps these weights in the classifier's ``dense``, DistilBERT
    in ``pre_classifier``.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.dense = nn.Linear(settings.width, settings.width, bias=not settings.modern)
        self.norm = make_norm(settings) if settings.modern else None
        self.rectified = settings.family == DISTILBERT

    def forward(self, states: Tensor) -> Tensor:
        """Return (B, D) for one state (B, D) a sequence: that of its first token, [CLS], or their mean."""
        mapped = self.dense(states)
        if self.norm is not None:
            return self.norm(F.gelu(mapped))
        return F.relu(mapped) if self.rectified else torch.tanh(mapped)


class PairHead(nn.Module):
    """How two segments relate: logits of (in order, swapped) or of (B follows A, B is random)."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.linear = nn.Linear(settings.width, 2)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return logits (B, 2) for pooled states (B, D)."""
        return self.linear(pooled)


class TaskHead(nn.Module):
    """Logits of C classes, or one score where the task is a regression; of each text, or with ``words`` of each word."""

    def __init__(self, settings: EncoderSettings, classes: int, regression: bool = False, words: bool = False) -> None:
        super().__init__()
        assert classes == 1 or not regression
        self.regression = regression
        self.words = words
        self.linear = nn.Linear(settings.width, classes)

    @property
    def classes(self) -> int:
        """Number of outputs C; 1 for a regression."""
        return self.linear.out_features

    def forward(self, pooled: Tensor) -> Tensor:
        """Return logits (B, C) or (W, C), or scores (B,) for a regression."""
        logits = self.linear(pooled)
        return logits.squeeze(-1) if self.regression else logits
