"""The encoder: a packed batch becomes one state per token.

In: :class:`~tofro.batches.types.Batch`. Out: states ``(T, D)``, of the last layer or of all. Plain modules, pure PyTorch, exact
to BERT (Devlin et al. 2019): post-norm, learned positions, segment embeddings, exact GELU, to its kin RoBERTa, XLM-R and
DistilBERT, which differ in their embeddings, and to ModernBERT (Warner et al. 2024): pre-norm, rotary positions, GeGLU, no
biases, local attention. Left out: heads (heads.py), weights (model.py draws them, folder.py reads them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tofro.batches.types import Batch
from tofro.encoders.attention import attend
from tofro.encoders.layout import Layout
from tofro.encoders.rotary import Turn, turn, turns
from tofro.encoders.settings import EncoderSettings


def make_norm(settings: EncoderSettings) -> nn.LayerNorm:
    """Return a layer norm over the width, without a bias in ModernBERT."""
    return nn.LayerNorm(settings.width, eps=settings.norm_eps, bias=not settings.modern)


class Embeddings(nn.Module):
    """Token embeddings, with those of segments and positions added where the family has them, normalised.

    Where there is one segment embedding, it is everyone's, whatever the batch says.
    """

    def __init__(self, settings: EncoderSettings, vocabulary: int) -> None:
        super().__init__()
        rows = settings.max_positions + settings.unused_positions
        self.first = settings.unused_positions
        self.tokens = nn.Embedding(vocabulary, settings.width)
        self.positions = None if settings.modern else nn.Embedding(rows, settings.width)
        self.segments = nn.Embedding(settings.segments, settings.width) if settings.segmented else None
        self.norm = make_norm(settings)

    def forward(self, batch: Batch) -> Tensor:
        """Return the embeddings of the batch's tokens, (T, D)."""
        states = self.tokens(batch.tokens)
        if self.segments is not None:
            states = states + self._segments(self.segments, batch)
        if self.positions is not None:
            states = states + self.positions(batch.positions + self.first if self.first else batch.positions)
        return self.norm(states)

    @staticmethod
    def _segments(table: nn.Embedding, batch: Batch) -> Tensor:
        """Return what is added for the segments, (T, D), or (D,) where all have the same."""
        return table.weight[0] if table.num_embeddings == 1 else table(batch.segments)


class Attention(nn.Module):
    """Multi-head self-attention with its residual and norm; one product makes queries, keys and values.

    BERT normalises the sum with the residual, ModernBERT what goes in, except in its first layer, which follows a norm.
    """

    def __init__(self, settings: EncoderSettings, layer: int) -> None:
        super().__init__()
        self.heads, self.modern = settings.heads, settings.modern
        self.window = settings.window(layer)
        self.qkv = nn.Linear(settings.width, 3 * settings.width, bias=not settings.modern)
        self.output = nn.Linear(settings.width, settings.width, bias=not settings.modern)
        self.norm = nn.Identity() if settings.modern and layer == 0 else make_norm(settings)

    def forward(self, states: Tensor, layout: Layout, by: Turn | None, dropout: float) -> Tensor:
        """Return (T, D) for states (T, D)."""
        source = self.norm(states) if self.modern else states
        qkv = self.qkv(source).view(states.shape[0], 3, self.heads, -1)  # (T, 3, H, D/H)
        mixed = self.output(attend(qkv if by is None else turn(qkv, by), layout, self.window))
        if self.modern:
            return states + mixed
        return self.norm(F.dropout(mixed, dropout, dropout > 0) + states)


class FeedForward(nn.Module):
    """Two linear maps with a GELU between, residual and norm. ModernBERT's is gated: GELU(a) · b (Shazeer 2020, GeGLU)."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.modern = settings.modern
        inner = 2 * settings.intermediate if settings.modern else settings.intermediate
        self.up = nn.Linear(settings.width, inner, bias=not settings.modern)
        self.down = nn.Linear(settings.intermediate, settings.width, bias=not settings.modern)
        self.norm = make_norm(settings)

    def forward(self, states: Tensor, dropout: float) -> Tensor:
        """Return (T, D) for states (T, D)."""
        if self.modern:
            passed, gate = self.up(self.norm(states)).chunk(2, dim=-1)
            return states + self.down(F.dropout(F.gelu(passed) * gate, dropout, dropout > 0))
        mapped = self.down(F.gelu(self.up(states)))
        return self.norm(F.dropout(mapped, dropout, dropout > 0) + states)


class Layer(nn.Module):
    """One transformer layer."""

    def __init__(self, settings: EncoderSettings, layer: int) -> None:
        super().__init__()
        self.attention = Attention(settings, layer)
        self.feed_forward = FeedForward(settings)

    def forward(self, states: Tensor, layout: Layout, by: Turn | None, dropout: float) -> Tensor:
        """Return (T, D) for states (T, D); ``by`` turns queries and keys, None where positions are embedded."""
        return self.feed_forward(self.attention(states, layout, by, dropout), dropout)


@dataclass(frozen=True)
class Trunk:
    """What the lowest layers make of a batch, for encoders that share them."""

    layers: int  # how many
    states: Tensor  # (T, D)


class Encoder(nn.Module):
    """(Batch) -> states.

    ``dropout`` may be set at any time. It acts in training mode only: on the embeddings and on the outputs of attention and
    feed-forward, in ModernBERT on the embeddings and inside the feed-forward. Attention weights are never dropped.
    ``checkpointing``, too, may be set: then a layer keeps its input alone for the backward pass, which computes the rest again
    with the same dropout, so that gradients are the same bit for bit (Chen et al. 2016). :meth:`compile_layers` serves filled
    batches (batches/packing.py: fill), which have few shapes; all others run uncompiled.
    """

    def __init__(self, settings: EncoderSettings, vocabulary: int, dropout: float = 0.0) -> None:
        super().__init__()
        if settings.width % settings.heads:
            raise ValueError(f"encoder.heads: {settings.heads} does not divide encoder.width = {settings.width}.")
        if settings.modern and settings.width // settings.heads % 2:
            raise ValueError(f"encoder.heads: rotary positions need heads of even width, not {settings.width // settings.heads}.")
        self.settings = settings
        self.dropout = dropout
        self.checkpointing, self.compiled = False, False
        self.embeddings = Embeddings(settings, vocabulary)
        self.layers = nn.ModuleList(Layer(settings, index) for index in range(settings.layers))
        self.norm = make_norm(settings) if settings.modern else nn.Identity()  # BERT's layers end with one

    @property
    def frozen_depth(self) -> int:
        """How much lies below the lowest trainable parameter: 0 nothing, 1 the embeddings, 1 + i the embeddings and i layers."""
        for depth, stage in enumerate([self.embeddings, *self.layers]):
            if any(parameter.requires_grad for parameter in stage.parameters()):
                return depth
        return 1 + len(self.layers)

    @overload
    def forward(self, batch: Batch, layers: Literal["last"] = "last", trunk: Trunk | None = None) -> Tensor: ...

    @overload
    def forward(self, batch: Batch, layers: Literal["all"], trunk: Trunk | None = None) -> tuple[Tensor, ...]: ...

    def forward(self, batch: Batch, layers: str = "last", trunk: Trunk | None = None) -> Tensor | tuple[Tensor, ...]:
        """Return the last layer's states (T, D), or with ``layers="all"`` the embeddings' and every layer's, L + 1 tensors.

        The last are normalised, in both families. What lies below the lowest trainable parameter runs without a graph. With a
        ``trunk``, what :meth:`lowest` returned, the layers above it run alone, and "all" begins with its states.
        """
        dropout = self.dropout if self.training else 0.0
        every = list(self._stages(batch, dropout, trunk, self.settings.layers))
        every[-1] = self.norm(every[-1])
        return tuple(every) if layers == "all" else every[-1]

    def lowest(self, batch: Batch, count: int) -> Trunk:
        """Return the states (T, D) after the embeddings and the lowest ``count`` layers, without dropout and without a graph."""
        with torch.no_grad():
            *_, states = self._stages(batch, 0.0, None, count)
        return Trunk(count, states)

    def _stages(self, batch: Batch, dropout: float, trunk: Trunk | None, last: int) -> Iterator[Tensor]:
        """Yield the states of the embeddings, or of ``trunk``, and of every layer above up to the ``last``."""
        layout = Layout(batch.cu_seqlens, batch.max_length, batch.tokens.numel())
        by = self._turns(batch.positions)
        learning, frozen = torch.is_grad_enabled(), self.frozen_depth
        if trunk is None:
            with torch.set_grad_enabled(learning and frozen < 1):
                trunk = Trunk(0, F.dropout(self.embeddings(batch), dropout, dropout > 0))
        states = trunk.states
        yield states
        for depth in range(trunk.layers + 1, last + 1):
            layer = self.layers[depth - 1]
            with torch.set_grad_enabled(learning and frozen <= depth):
                run = layer.forward if self.compiled and not batch.fillers else layer  # `forward` itself is never compiled
                states = self._run(run, states, layout, by[depth - 1], dropout)
            yield states

    def compile_layers(self) -> None:
        """Compile the layers in place, one graph for all that are alike; names of parameters stay."""
        self.compiled = True
        for layer in self.layers:
            layer.compile(dynamic=False)

    def _run(self, layer: Callable[..., Any], states: Tensor, *context: Any) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return cast(Tensor, checkpoint(layer, states, *context, use_reentrant=False))
        return cast(Tensor, layer(states, *context))

    def _turns(self, positions: Tensor) -> list[Turn | None]:
        """Return what turns queries and keys in each layer, made once for each of the two bases."""
        settings = self.settings
        if not settings.modern:
            return [None] * settings.layers
        width = settings.width // settings.heads
        whole = turns(positions, width, settings.rotary_base_global)
        near = turns(positions, width, settings.rotary_base_local)
        return [whole if settings.window(layer) is None else near for layer in range(settings.layers)]
