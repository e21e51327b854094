"""What pretraining minimises: masked language modelling and the relation of two segments.

In: logits of the local micro-batch, and how many terms the *global* batch holds. Out: scalars whose sum over micro-batches and
ranks is the global mean, never a mean of means. Logits are taken to fp32. Left out: which tokens are masked (batches/masking.py).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def mlm_loss(logits: Tensor, targets: Tensor, count: int | Tensor) -> Tensor:
    """Return Σ −log p(x_i | x_\\i) over this micro-batch's masked tokens, divided by ``count`` (Devlin et al. 2019, section 3.1).

    ``logits`` (M, V), ``targets`` (M,) the original ids, ``count`` the number of masked tokens of the global batch. In nats.
    """
    return summed_cross_entropy(logits, targets) / count


def pair_loss(logits: Tensor, labels: Tensor, count: int | Tensor) -> Tensor:
    """Return the summed cross-entropy of the pair labels, divided by ``count``, the number of pairs of the global batch.

    ``logits`` (B, 2), ``labels`` (B,) of 0 and 1.
    """
    return summed_cross_entropy(logits, labels) / count


def divergences(logits: Tensor, targets: Tensor) -> Tensor:
    """Return KL(softmax(targets) ‖ softmax(logits)) of each row in fp32 and nats, (N,), for logits (N, C) of both.

    0, and without a gradient, where both say the same (Hinton et al. 2015, their soft targets at a temperature of 1).
    """
    said, taught = (_wide(each).log_softmax(-1) for each in (logits, targets))
    return F.kl_div(said, taught, reduction="none", log_target=True).sum(-1)


def summed_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return Σ −log softmax(logits)[target] in fp32, for logits (N, C) and targets (N,)."""
    return F.cross_entropy(_wide(logits), targets, reduction="sum")


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.element_size() >= 4 else logits.float()
