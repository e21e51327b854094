"""Where the sequences of a packed batch lie, and how attention lays them out where it can't read them packed.

In: ``cu_seqlens`` of a batch. Out: :class:`Layout`, made once per forward and shared by all layers. Its parts are computed when
a layer first asks for them, so the flash backend never pays. Left out: attention itself (attention.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """Sequences that attention pads to one length."""

    rows: int
    length: int
    device: torch.device
    valid: Tensor | None  # (rows, 1, 1, length), True where there is a token; None where all are full
    near: dict[int, Tensor] = field(default_factory=dict)  # masks by window

    def mask(self, window: int | None) -> Tensor | None:
        """True where a query may look, for attention to broadcast to (rows, H, length, length); None where everywhere.

        With ``window`` w that is at most w places away. Made once for all layers.
        """
        if window is None or window >= self.length - 1:
            return self.valid
        if window not in self.near:
            columns = torch.arange(self.length, device=self.device)
            distance = (columns[:, None] - columns).abs()
            # A place far beyond a short sequence's end would see no token, and not every kernel takes that: it sees itself.
            near = distance <= window
            self.near[window] = near if self.valid is None else near & self.valid | (distance == 0)
        return self.near[window]


@dataclass(frozen=True)
class Grid:
    """The groups of a batch one after the other, P = Σ rows · length places."""

    groups: list[Group]
    source: Tensor  # (P,) int64, the token in each place; a place beyond a sequence's end repeats its last token
    places: Tensor  # (T,) int64, the place of each token


class Layout:
    """Where each sequence of T packed tokens begins; B sequences."""

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
    def whole(self) -> Group:
        """All sequences as one group, where they are equal."""
        return Group(self.size, self.max_length, self.cu_seqlens.device, None)

    @cached_property
    def grid(self) -> Grid:
        """The padded layout: groups of like length on the CPU, else one group, which asks nothing of the device."""
        return self._grouped() if self.cu_seqlens.device.type == "cpu" else self._whole()

    def _whole(self) -> Grid:
        source, valid = self._places(self.cu_seqlens[:-1].long(), self.lengths, self.max_length)
        starts = torch.arange(self.size, device=source.device) * self.max_length
        places = torch.arange(self.tokens, device=source.device) + (starts - self.cu_seqlens[:-1])[self.rows]
        return Grid([Group(self.size, self.max_length, source.device, valid[:, None, None])], source.flatten(), places)

    def _grouped(self) -> Grid:
        lengths, order = self.lengths.sort(descending=True, stable=True)
        starts = self.cu_seqlens[:-1].long()[order]
        groups: list[Group] = []
        sources: list[Tensor] = []
        places = torch.empty(self.tokens, dtype=torch.int64)
        for first, last in pairwise(_bounds(lengths.tolist())):
            longest = int(lengths[first])
            source, valid = self._places(starts[first:last], lengths[first:last], longest)
            offset = sum(group.rows * group.length for group in groups)
            places[source[valid]] = offset + torch.arange(valid.numel()).view_as(valid)[valid]
            full = int(lengths[last - 1]) == longest
            groups.append(Group(last - first, longest, source.device, None if full else valid[:, None, None]))
            sources.append(source.flatten())
        return Grid(groups, torch.cat(sources), places)

    @staticmethod
    def _places(starts: Tensor, lengths: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        """Return the token (rows, longest) of each place, and whether it is one of the sequence's own."""
        columns = torch.arange(longest, device=starts.device)
        return starts[:, None] + torch.minimum(columns, lengths[:, None].long() - 1), columns < lengths[:, None]


def _bounds(lengths: list[int]) -> list[int]:
    """Cut falling ``lengths`` into groups; return where each begins, and the end.

    A sequence joins the group above it unless it is a quarter shorter than the group's first: measured on a CPU for lengths from
    4 to 512, a finer cut costs more calls than it spares padding. The few tokens beside the quarter keep short ones together.
    """
    bounds, longest = [0], lengths[0]
    for place, length in enumerate(lengths):
        if length < 0.75 * longest - 4:
            bounds.append(place)
            longest = length
    return [*bounds, len(lengths)]
