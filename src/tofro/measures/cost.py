"""What a piece of work cost: FLOPs, tokens, seconds, peak memory.

In: a callable step, a device. Out: numbers. FLOPs are those of matrix products and attention, as torch's flop counter sees
them: a multiply-add counts as two; element-wise work and the optimizer count as none. Leaves out ratios between runs (reports).
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from tofro.encoders.encoder import Encoder

Shape = tuple[int, ...]


@dataclass
class Cost:
    """What a run spent, over all ranks for ``tokens`` and ``flops``; ``peak_memory_mb`` is that of one process."""

    seconds: float = 0.0  # all of it: reading, training, measuring
    train_seconds: float = 0.0
    steps: int = 0
    tokens: int = 0  # real tokens, special ones included
    flops: float = 0.0  # of training
    peak_memory_mb: float = 0.0

    def as_dict(self) -> dict[str, float]:
        """Return the fields by name, for ``result.json``."""
        return asdict(self)


def _attention(query: Shape, key: Shape, value: Shape, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(
    grad: Shape, query: Shape, key: Shape, value: Shape, *args: Any, out_shape: Any = None, **kwargs: Any
) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


# The attention kernels that torch's counter does not know by itself. On the CPU sequences are padded inside attention, and the
# padding counts, for it is computed.
ATTENTION_FORMULAS: dict[Any, Any] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


class _Everything:
    """Stands where torch's counter follows which module is running: all that is asked here is the whole."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None:
        """Follow nothing."""

    def __exit__(self, *exception: object) -> None:
        """Leave nothing behind."""


class FlopCounter(FlopCounterMode):
    """Torch's counter of FLOPs, attention on the CPU included, without its count for each module.

    That one puts hooks on every module's tensors: slow, and with them no gradient can be taken of a single term
    (modules/terms.py).
    """

    def __init__(self) -> None:
        super().__init__(display=False, custom_mapping=ATTENTION_FORMULAS)
        self.mod_tracker = _Everything()  # type: ignore[assignment]


def count_flops(step: Callable[[], Any]) -> int:
    """Return the FLOPs of one call of ``step``, forward and, where it calls ``backward``, backward."""
    with FlopCounter() as counter:
        step()
    return int(counter.get_total_flops())


class Meter:
    """Counts what passes through encoders while it is entered: real ``tokens``, and ``flops``, estimated from every 16th pass.

    A pass in training counts three times, for the backward pass costs twice what the forward one does. Heads are left out.
    """

    EVERY = 16

    def __init__(self) -> None:
        self.tokens = 0
        self._weighted = 0  # tokens, those of training three times
        self._passes, self._sampled_flops, self._sampled_tokens = 0, 0, 0
        self._mode: FlopCounter | None = None

    def __enter__(self) -> Meter:
        """Start counting."""
        self._handles = [register_module_forward_pre_hook(self._begin), register_module_forward_hook(self._end)]
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop counting, also where an encoder has failed in the midst of it."""
        for handle in self._handles:
            handle.remove()
        if self._mode is not None:
            self._mode.__exit__(None, None, None)

    @property
    def flops(self) -> float:
        """FLOPs of all passes, at the rate per token of those that were counted."""
        return self._sampled_flops / max(1, self._sampled_tokens) * self._weighted

    def _begin(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if not isinstance(module, Encoder):
            return
        length, learning = inputs[0].length, torch.is_grad_enabled()
        self.tokens += length
        self._weighted += 3 * length if learning else length
        if not learning:
            if self._passes % self.EVERY == 0:
                self._sampled_tokens += length
                self._mode = FlopCounter()
                self._mode.__enter__()
            self._passes += 1

    def _end(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, Encoder) and self._mode is not None:
            self._mode.__exit__(None, None, None)
            self._sampled_flops += self._mode.get_total_flops()
            self._mode = None


def reset_peak_memory(device: torch.device | str = "cpu") -> None:
    """Forget the peak so far, so that a run's peak is its own in a process that carries out many.

    On the CPU this works on Linux where the kernel allows it; elsewhere :func:`peak_memory_mb` stays the peak of the whole
    process.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory_mb(device: torch.device | str = "cpu") -> float:
    """Return the most memory held at once, in MB (10⁶ bytes): allocated on a GPU, resident in the process on the CPU."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
