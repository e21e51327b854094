"""How a rate or a weight moves through a run, as a factor of its peak.

In: ``progress``, the share of the budget that is spent, in [0, 1] (steps, epochs, tokens or minutes, the caller knows which), and
the keys of the schedule. Out: a factor in [0, 1]. Progress outside [0, 1] counts as its nearer end. Pure functions of numbers.
"""

from __future__ import annotations

import math


def constant(progress: float, warmup: float = 0.0, decay: float = 0.0) -> float:
    """Rise over the share ``warmup``, then stay at 1. ``decay`` is ignored."""
    return _rise(progress, warmup)


def linear(progress: float, warmup: float = 0.0, decay: float = 0.0) -> float:
    """Rise over the share ``warmup``, then fall in a straight line to 0 (Devlin et al. 2019, A.2). ``decay`` is ignored."""
    return min(_rise(progress, warmup), _left(progress, 1 - warmup))


def cosine(progress: float, warmup: float = 0.0, decay: float = 0.0) -> float:
    """Rise over the share ``warmup``, then fall to 0 along half a cosine (Loshchilov and Hutter 2017). ``decay`` is ignored."""
    return min(_rise(progress, warmup), (1 - math.cos(math.pi * _left(progress, 1 - warmup))) / 2)


def warmup_stable_decay(progress: float, warmup: float = 0.0, decay: float = 0.2) -> float:
    """Rise over the share ``warmup``, stay at 1, fall in a straight line to 0 over the last share ``decay`` (Hu et al. 2024)."""
    return min(_rise(progress, warmup), _left(progress, decay))


def ramp(progress: float, share: float = 0.1) -> float:
    """Rise in a straight line over the first ``share`` of the run, then stay at 1."""
    return _rise(progress, share)


def _rise(progress: float, share: float) -> float:
    """Return how much of the first ``share`` is done, in [0, 1]."""
    return min(max(progress, 0.0) / share, 1.0) if share > 0 else 1.0


def _left(progress: float, share: float) -> float:
    """Return how much of the last ``share`` is still to come, in [0, 1]."""
    rest = max(1.0 - progress, 0.0)
    return min(rest / share, 1.0) if share > 0 else float(rest > 0)
