"""L_align: how far two encoders are from saying the same about the same texts.

In: pooled states ``h_pre`` and ``h_ft``, (B, D) each, row i of both from the same text, and where the loss needs them labels
``(B,)``. Out: a scalar in fp32, also under autocast, with gradient to both sides. Left out: its weight and schedule, projectors,
detaching one side (modules), gathering across ranks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def infonce(h_pre: Tensor, h_ft: Tensor, labels: Tensor | None = None, temperature: float = 0.07) -> Tensor:
    """Return the symmetric InfoNCE loss (van den Oord et al. 2018; two-sided as in Radford et al. 2021).

    With s_ij = cos(h_pre_i, h_ft_j) / τ: the mean over i of −log softmax_j(s_ij)[i], averaged with the same for s transposed.
    Every other text of the batch is a negative; ``labels`` are ignored. log B where all similarities are equal. A batch of one
    has no negatives: ValueError.
    """
    own = torch.eye(h_pre.shape[0], dtype=torch.bool, device=h_pre.device)
    return _contrast(h_pre, h_ft, own, temperature, "infonce")


def supcon(h_pre: Tensor, h_ft: Tensor, labels: Tensor | None = None, temperature: float = 0.07) -> Tensor:
    """Return the supervised contrastive loss across the two models (Khosla et al. 2020, equation 2, L_out).

    The anchors are one model's rows, the keys all rows of the other; P(i) are the keys with i's label, its own among them:
    the mean over i of −1/|P(i)| Σ_{p∈P(i)} log softmax_j(s_ij)[p], averaged over both directions. ``labels`` (B,) are class
    numbers; without them, or with scores, there is no P(i): ValueError, as for a batch of one.
    """
    if labels is None or labels.is_floating_point():
        kind = "no labels" if labels is None else "scores"
        raise ValueError(f"alignment=supcon needs class labels and was given {kind}; use alignment=infonce, cosine or mse.")
    return _contrast(h_pre, h_ft, labels[:, None] == labels[None, :], temperature, "supcon")


def cosine(h_pre: Tensor, h_ft: Tensor, labels: Tensor | None = None) -> Tensor:
    """Return the mean over rows of 1 − cos(h_pre_i, h_ft_i), in [0, 2]. ``labels`` are ignored."""
    return 1 - F.cosine_similarity(_wide(h_pre), _wide(h_ft), dim=-1).mean()


def mse(h_pre: Tensor, h_ft: Tensor, labels: Tensor | None = None) -> Tensor:
    """Return the mean over rows and dimensions of (h_pre − h_ft)². ``labels`` are ignored."""
    return F.mse_loss(_wide(h_pre), _wide(h_ft))


def _contrast(h_pre: Tensor, h_ft: Tensor, positives: Tensor, temperature: float, name: str) -> Tensor:
    if h_pre.shape[0] < 2:
        raise ValueError(f"alignment={name} compares the samples of a batch, and this batch holds one; raise budget.batch.")
    with torch.autocast(h_pre.device.type, enabled=False):
        to_ft = _row_losses(h_pre, h_ft, positives, temperature)
        to_pre = _row_losses(h_ft, h_pre, positives.T, temperature)
    return (to_ft.mean() + to_pre.mean()) / 2


def _row_losses(anchors: Tensor, keys: Tensor, positives: Tensor, temperature: float) -> Tensor:
    """Return (A,): minus the mean log-probability of each anchor's positives (A, K) among all keys, for (A, D) and (K, D)."""
    similarities = F.normalize(_wide(anchors), dim=-1) @ F.normalize(_wide(keys), dim=-1).T / temperature  # (A, K)
    log_probabilities = similarities.log_softmax(-1)
    return -(log_probabilities * positives).sum(-1) / positives.sum(-1)


def _wide(states: Tensor) -> Tensor:
    return states if states.element_size() >= 4 else states.float()
