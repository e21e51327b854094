"""Self-attention over packed sequences: tokens see their own sequence and nothing else.

In: queries, keys and values of all tokens, ``(T, 3, H, d)``, and a :class:`Layout` that says where each sequence begins. Out:
``(T, H * d)``. Backends give the same numbers: variable-length flash attention on CUDA in half precision, and padded attention
elsewhere, which pads inside this call only, on the CPU in groups of like length. Attention dropout is 0 on all of them. A window
limits how far a token sees to each side (Beltagy et al. 2020, section 3.1). Left out: projections (encoder.py) and rotary
positions (rotary.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tofro.encoders.layout import Layout

PLAIN_LENGTH = 512  # longest sequences of which the CPU keeps all (length, length) scores; in half precision this is the fastest


def attend(qkv: Tensor, layout: Layout, window: int | None = None) -> Tensor:
    """Return softmax(q kᵀ / √d) v within each sequence (Vaswani et al. 2017, equation 1).

    ``qkv`` is (T, 3, H, d); the result is (T, H * d) in the same precision. With ``window`` w a token sees those at most w
    places away.
    """
    if _flash_applies(qkv):
        return _flash(qkv, layout, window)
    return _padded(qkv, layout, window)


def _flash_applies(qkv: Tensor) -> bool:
    width = qkv.shape[-1]
    fits = qkv.is_cuda and qkv.dtype in (torch.float16, torch.bfloat16) and width % 8 == 0 and width <= 256
    return fits and torch.cuda.get_device_capability(qkv.device) >= (8, 0)  # the kernel needs an Ampere or later


def _flash(qkv: Tensor, layout: Layout, window: int | None) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = qkv.unbind(1)  # (T, H, d) each
    offsets, longest = layout.cu_seqlens, layout.max_length
    reach = -1 if window is None else window
    states = varlen_attn(query, key, value, offsets, offsets, longest, longest, window_size=(reach, reach))
    assert isinstance(states, Tensor)
    return states.flatten(1)


@torch.compiler.disable  # its groups change with the lengths
def _padded(qkv: Tensor, layout: Layout, window: int | None) -> Tensor:
    if layout.equal:
        return _product(qkv.unflatten(0, (layout.size, layout.max_length)), layout.whole.mask(window))
    grid = layout.grid
    parts = qkv.flatten(1).index_select(0, grid.source).split([group.rows * group.length for group in grid.groups])
    states = [
        _product(part.view(group.rows, group.length, *qkv.shape[1:]), group.mask(window))
        for group, part in zip(grid.groups, parts, strict=True)
    ]
    return (states[0] if len(states) == 1 else torch.cat(states)).index_select(0, grid.places)


def _product(qkv: Tensor, mask: Tensor | None) -> Tensor:
    """Return attention of sequences of one length: (rows, length, 3, H, d) -> (rows * length, H * d)."""
    # (rows, H, length, d) each; cut by unbind, their gradients come back in one copy
    query, key, value = (role.transpose(1, 2) for role in qkv.unbind(2))
    plain = not qkv.is_cuda and qkv.dtype == torch.bfloat16 and query.shape[2] <= PLAIN_LENGTH
    product = _plain if plain else F.scaled_dot_product_attention
    return product(query, key, value, mask).transpose(1, 2).flatten(2).flatten(0, 1)


def _plain(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Return attention as two products and a softmax; torch's fused kernel for the CPU is slower in bf16."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)  # (rows, H, length, length)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1) @ value
