"""What fine-tuning minimises: cross-entropy of classes or tags, squared error of scores.

In: the model's outputs for the local micro-batch and the number of samples, or tagged words, of the *global* batch. Out: scalars
whose sum over micro-batches and ranks is the global mean.
"""

from __future__ import annotations

from torch import Tensor

from tofro.objectives.language import summed_cross_entropy


def classification_loss(logits: Tensor, labels: Tensor, count: int | Tensor) -> Tensor:
    """Return the summed cross-entropy of ``logits`` (B, C) and class numbers ``labels`` (B,), divided by ``count``. In nats.

    For tags both are of words, (W, C) and (W,); a word without a token has the label -100 and adds nothing.
    """
    return summed_cross_entropy(logits, labels) / count


def regression_loss(scores: Tensor, labels: Tensor, count: int | Tensor) -> Tensor:
    """Return the summed squared error of ``scores`` (B,) and ``labels`` (B,), divided by ``count``."""
    assert scores.shape == labels.shape, f"scores {tuple(scores.shape)} against labels {tuple(labels.shape)}"
    wide = scores if scores.element_size() >= 4 else scores.float()
    return (wide - labels).square().sum() / count
