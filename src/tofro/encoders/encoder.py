"""The encoder: a packed batch becomes one state per token.

In: :class:`~tofro.batches.types.Batch`. Out: states ``(T, D)``, of the last layer or of all. Plain modules, pure PyTorch, exact
to BERT (Devlin et al. 2019): post-norm, learned positions, segment embeddings, exact GELU. Left out: heads (heads.py),
weights (model.py draws them, folder.py reads them).
"""

from __future__ import annotations

from typing import Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tofro.batches.types import Batch
from tofro.encoders.attention import attend
from tofro.encoders.layout import Layout
from tofro.encoders.settings import EncoderSettings


class Embeddings(nn.Module):
    """Sum of token, segment and position embeddings, normalised."""

    def __init__(self, settings: EncoderSettings, vocabulary: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, settings.width)
        self.positions = nn.Embedding(settings.max_positions, settings.width)
        self.segments = nn.Embedding(settings.segments, settings.width)
        self.norm = nn.LayerNorm(settings.width, eps=settings.norm_eps)

    def forward(self, batch: Batch) -> Tensor:
        """Return the embeddings of the batch's tokens, (T, D)."""
        return self.norm(self.tokens(batch.tokens) + self.segments(batch.segments) + self.positions(batch.positions))


class Attention(nn.Module):
    """Multi-head self-attention with its residual and norm; one product makes queries, keys and values."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.heads = settings.heads
        self.qkv = nn.Linear(settings.width, 3 * settings.width)
        self.output = nn.Linear(settings.width, settings.width)
        self.norm = nn.LayerNorm(settings.width, eps=settings.norm_eps)

    def forward(self, states: Tensor, layout: Layout, dropout: float) -> Tensor:
        """Return (T, D) for states (T, D)."""
        qkv = self.qkv(states).view(states.shape[0], 3, self.heads, -1)  # (T, 3, H, D/H)
        mixed = self.output(attend(qkv, layout))
        return self.norm(F.dropout(mixed, dropout, dropout > 0) + states)


class FeedForward(nn.Module):
    """Two linear maps with a GELU between, residual and norm."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.up = nn.Linear(settings.width, settings.intermediate)
        self.down = nn.Linear(settings.intermediate, settings.width)
        self.norm = nn.LayerNorm(settings.width, eps=settings.norm_eps)

    def forward(self, states: Tensor, dropout: float) -> Tensor:
        """Return (T, D) for states (T, D)."""
        mapped = self.down(F.gelu(self.up(states)))
        return self.norm(F.dropout(mapped, dropout, dropout > 0) + states)


class Layer(nn.Module):
    """One transformer layer."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.attention = Attention(settings)
        self.feed_forward = FeedForward(settings)

    def forward(self, states: Tensor, layout: Layout, dropout: float) -> Tensor:
        """Return (T, D) for states (T, D)."""
        return self.feed_forward(self.attention(states, layout, dropout), dropout)


class Encoder(nn.Module):
    """(Batch) -> states.

    ``dropout`` may be set at any time. It acts in training mode only, on the embeddings and on the outputs of attention and
    feed-forward; attention weights are never dropped.
    """

    def __init__(self, settings: EncoderSettings, vocabulary: int, dropout: float = 0.0) -> None:
        super().__init__()
        if settings.width % settings.heads:
            raise ValueError(f"encoder.heads: {settings.heads} does not divide encoder.width = {settings.width}.")
        self.dropout = dropout
        self.embeddings = Embeddings(settings, vocabulary)
        self.layers = nn.ModuleList(Layer(settings) for _ in range(settings.layers))

    @property
    def frozen_depth(self) -> int:
        """How much lies below the lowest trainable parameter: 0 nothing, 1 the embeddings, 1 + i the embeddings and i layers."""
        for depth, stage in enumerate([self.embeddings, *self.layers]):
            if any(parameter.requires_grad for parameter in stage.parameters()):
                return depth
        return 1 + len(self.layers)

    @overload
    def forward(self, batch: Batch, layers: Literal["last"] = "last") -> Tensor: ...

    @overload
    def forward(self, batch: Batch, layers: Literal["all"]) -> tuple[Tensor, ...]: ...

    def forward(self, batch: Batch, layers: str = "last") -> Tensor | tuple[Tensor, ...]:
        """Return the last layer's states (T, D), or with ``layers="all"`` the embeddings' and every layer's, L + 1 tensors.

        What lies below the lowest trainable parameter runs without a graph.
        """
        layout = Layout(batch.cu_seqlens, batch.max_length, batch.tokens.numel())
        dropout = self.dropout if self.training else 0.0
        learning, frozen = torch.is_grad_enabled(), self.frozen_depth
        with torch.set_grad_enabled(learning and frozen < 1):
            states = F.dropout(self.embeddings(batch), dropout, dropout > 0)
        every = [states]
        for depth, layer in enumerate(self.layers, start=1):
            with torch.set_grad_enabled(learning and frozen <= depth):
                states = layer(states, layout, dropout)
            every.append(states)
        return tuple(every) if layers == "all" else states
