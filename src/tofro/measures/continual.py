"""What a stream of tasks did to an encoder: one matrix of scores, a handful of numbers.

In: A (T + 1, T), A[i, j] the score on task j after stage i; row 0 is the pretrained encoder before the stream, row i ≥ 1 what
stage i left, which trained on task i. Out: plain numbers, higher is better but for forgetting. NaN is what was not measured;
what needs it is NaN too. Leaves out where the scores come from. Torch-free, since reports compute these.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def average_score(matrix: ArrayLike) -> float:
    """Mean over the tasks at the end of the stream, (1/T) Σ_j A[T, j] (Lopez-Paz and Ranzato 2017, equation 2)."""
    return float(_checked(matrix)[-1].mean())


def backward_transfer(matrix: ArrayLike) -> float:
    """What later stages did to earlier tasks: (1/(T-1)) Σ_{j<T} (A[T, j] − A[j, j]) (Lopez-Paz and Ranzato 2017, equation 3).

    Row j is the stage that trained on task j, so A[j, j] is the score right after it. NaN for a single task.
    """
    scores = _checked(matrix)
    return _mean(scores[-1, :-1] - np.diagonal(scores[1:])[:-1])


def forward_transfer(matrix: ArrayLike, baseline: ArrayLike | None = None) -> float:
    """What earlier stages did for later tasks: (1/(T-1)) Σ_{j>1} (A[j-1, j] − b_j) (Lopez-Paz and Ranzato 2017, equation 4).

    ``baseline`` b is the score (T,) of a random encoder, as in the paper; without one it is stage 0, A[0, j], and pretraining's
    own share is left out. NaN for a single task.
    """
    scores = _checked(matrix)
    floor = scores[0] if baseline is None else np.asarray(baseline, dtype=float)
    assert floor.shape == (scores.shape[1],), "a baseline has one score per task"
    return _mean(np.diagonal(scores)[1:] - floor[1:])


def forgetting(matrix: ArrayLike) -> float:
    """What was known at best and is gone: (1/(T-1)) Σ_{j<T} (max_{0≤i<T} A[i, j] − A[T, j]) (Chaudhry et al. 2018).

    Stage 0 counts among the stages, for a probe has a score before its task was trained. Negative where a task ends at its
    best. NaN for a single task.
    """
    scores = _checked(matrix)
    return _mean(scores[:-1, :-1].max(axis=0) - scores[-1, :-1])


def gain(matrix: ArrayLike) -> float:
    """What the whole stream added to the pretrained encoder: (1/T) Σ_j (A[T, j] − A[0, j])."""
    scores = _checked(matrix)
    return _mean(scores[-1] - scores[0])


def _checked(matrix: ArrayLike) -> np.ndarray:
    scores = np.asarray(matrix, dtype=float)
    assert scores.ndim == 2, "a matrix of stages and tasks"
    assert scores.shape[0] == scores.shape[1] + 1, f"T tasks make T + 1 stages, stage 0 among them; got {scores.shape}"
    return scores


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
