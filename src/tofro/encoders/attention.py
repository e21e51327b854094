"""Self-attention over packed sequences: tokens see their own sequence and nothing else.

In: queries, keys and values of all tokens, ``(T, 3, H, d)``, and a :class:`Layout` that says where each sequence begins. Out:
``(T, H * d)``. Two backends give the same numbers: variable-length flash attention on CUDA in half precision, and padded
scaled-dot-product attention elsewhere, which pads inside this call only. Attention dropout is 0 on both.
Left out: projections (encoder.py), rotary positions and local windows.
"""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor


class Layout:
    """Where the sequences of a packed batch lie; made once per forward and shared by all layers.

    The index and the mask of the padded backend are computed when a layer first asks for them, so the flash backend never pays.
    """

    def __init__(self, cu_seqlens: Tensor, max_length: int, tokens: int) -> None:
        self.cu_seqlens = cu_seqlens  # (B+1,) int32
        self.max_length = max_length
        self.tokens = tokens
        self.size = cu_seqlens.numel() - 1

    @property
    def equal(self) -> bool:
        """Whether all sequences have the same length, known without looking at the device."""
        return self.size * self.max_length == self.tokens

    @cached_property
    def lengths(self) -> Tensor:
        """Tokens of each sequence, (B,)."""
        return self.cu_seqlens.diff()

    @cached_property
    def rows(self) -> Tensor:
        """The sequence each token belongs to, (T,) int64."""
        sequences = torch.arange(self.size, device=self.cu_seqlens.device)
        return torch.repeat_interleave(sequences, self.lengths, output_size=self.tokens)

    @cached_property
    def slots(self) -> Tensor:
        """The place of each token in a padded (B * max_length) grid, (T,) int64."""
        columns = torch.arange(self.tokens, device=self.cu_seqlens.device) - self.cu_seqlens[:-1].long()[self.rows]
        return self.rows * self.max_length + columns

    @cached_property
    def mask(self) -> Tensor:
        """True where the padded grid holds a token, (B, 1, 1, max_length), to be broadcast over heads and queries."""
        columns = torch.arange(self.max_length, device=self.cu_seqlens.device)
        return (columns < self.lengths[:, None])[:, None, None]


def attend(qkv: Tensor, layout: Layout) -> Tensor:
    """Return softmax(q kᵀ / √d) v within each sequence (Vaswani et al. 2017, equation 1).

    ``qkv`` is (T, 3, H, d); the result is (T, H * d) in the same precision.
    """
    if _flash_applies(qkv):
        return _flash(qkv, layout)
    return _padded(qkv, layout)


def _flash_applies(qkv: Tensor) -> bool:
    width = qkv.shape[-1]
    return qkv.is_cuda and qkv.dtype in (torch.float16, torch.bfloat16) and width % 8 == 0 and width <= 256


def _flash(qkv: Tensor, layout: Layout) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = qkv.unbind(1)  # (T, H, d) each
    offsets, longest = layout.cu_seqlens, layout.max_length
    states = varlen_attn(query, key, value, offsets, offsets, longest, longest)
    assert isinstance(states, Tensor)
    return states.flatten(1)


def _padded(qkv: Tensor, layout: Layout) -> Tensor:
    heads, width = qkv.shape[2:]
    if not layout.equal:
        grid = qkv.new_zeros(layout.size * layout.max_length, 3 * heads * width)
        qkv = grid.index_copy(0, layout.slots, qkv.flatten(1))
    roles = qkv.view(layout.size, layout.max_length, 3, heads, width).unbind(2)  # so cut, their gradients come back in one copy
    query, key, value = (role.transpose(1, 2) for role in roles)  # (B, H, L, d) each
    states = F.scaled_dot_product_attention(query, key, value, attn_mask=None if layout.equal else layout.mask)
    states = states.transpose(1, 2).reshape(layout.size * layout.max_length, heads * width)
    return states if layout.equal else states.index_select(0, layout.slots)
