"""L_align: how far two encoders are from saying the same about the same texts.

In: ``h_pre`` and ``h_ft``, (B, D) each, row i of both from the same text (pooled states, or logits of D classes for ``kl``), and
where the loss needs them labels ``(B,)``. Out: the mean over these rows, a scalar in fp32, also under autocast, with gradient to
both sides. Under data parallelism B are a rank's own rows. A loss of each row with itself needs no more; one that compares rows
takes its keys from all ranks (gather.py), and the module weighs the ranks' means by their rows, so that they add up to the mean
over the global batch. Left out: weight and schedule, projectors, detaching one side (modules).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tofro.objectives.gather import Ranks


def infonce(
    h_pre: Tensor,
    h_ft: Tensor,
    labels: Tensor | None = None,
    temperature: float | Tensor = 0.07,
    same_label: str = "repel",
) -> Tensor:
    """Return the symmetric InfoNCE loss (van den Oord et al. 2018; two-sided as in Radford et al. 2021).

    With s_ij = cos(h_pre_i, h_ft_j) / τ: the mean over i of −log softmax_j(s_ij)[i], averaged with the same for s transposed.
    Every other text of the batch is a negative; with ``same_label="leave_out"`` only texts of other ``labels`` (B,) are. log B
    where all similarities are equal. ValueError for a batch of one, which has no negatives, and for labels to be left out that
    are no classes.
    """
    ranks = Ranks(len(h_pre))
    own = torch.tensor(ranks.own, device=h_pre.device)[:, None] == torch.arange(ranks.rows, device=h_pre.device)  # (B, K)
    left_out = None if same_label == "repel" else _same_label(labels, ranks, "infonce alignment.same_label=leave_out") & ~own
    return _contrast(h_pre, h_ft, own, temperature, ranks, "infonce", left_out)


def supcon(h_pre: Tensor, h_ft: Tensor, labels: Tensor | None = None, temperature: float | Tensor = 0.07) -> Tensor:
    """Return the supervised contrastive loss across the two models (Khosla et al. 2020, equation 2, L_out).

    The anchors are one model's rows, the keys all rows of the other; P(i) are the keys with i's label, its own among them:
    the mean over i of −1/|P(i)| Σ_{p∈P(i)} log softmax_j(s_ij)[p], averaged over both directions. ``labels`` (B,) are class
    numbers; without them, or with scores, there is no P(i): ValueError, as for a batch of one.
    """
    ranks = Ranks(len(h_pre))
    return _contrast(h_pre, h_ft, _same_label(labels, ranks, "supcon"), temperature, ranks, "supcon")


def cosine(h_pre: Tensor, h_ft: Tensor, labels: Tensor | None = None) -> Tensor:
    """Return the mean over rows of 1 − cos(h_pre_i, h_ft_i), in [0, 2]. ``labels`` are ignored."""
    return 1 - F.cosine_similarity(_wide(h_pre), _wide(h_ft), dim=-1).mean()


def mse(h_pre: Tensor, h_ft: Tensor, labels: Tensor | None = None) -> Tensor:
    """Return the mean over rows and dimensions of (h_pre − h_ft)². ``labels`` are ignored."""
    return F.mse_loss(_wide(h_pre), _wide(h_ft))


def kl(h_pre: Tensor, h_ft: Tensor, labels: Tensor | None = None, temperature: float | Tensor = 1.0) -> Tensor:
    """Return τ² times the mean over rows of KL(p_ft ‖ p_pre) + KL(p_pre ‖ p_ft), in nats (Zhang et al. 2018, equations 3 and 4).

    ``h_pre`` and ``h_ft`` are logits (B, C) and p = softmax(h / τ). Each model learns from the other's predictions as they are:
    the first distribution of a divergence has no gradient. ``labels`` are ignored. ValueError for scores (B,), which are no
    logits.
    """
    if h_pre.ndim != 2:
        raise ValueError("alignment=kl compares the two models' classes, and this task has scores; use alignment=mse.")
    log_pre, log_ft = ((_wide(logits) / temperature).log_softmax(-1) for logits in (h_pre, h_ft))
    to_pre = F.kl_div(log_pre, log_ft.detach(), reduction="batchmean", log_target=True)
    to_ft = F.kl_div(log_ft, log_pre.detach(), reduction="batchmean", log_target=True)
    return (to_pre + to_ft) * temperature**2


def _same_label(labels: Tensor | None, ranks: Ranks, name: str) -> Tensor:
    """Return which keys have a row's label, (B, K)."""
    if labels is None or labels.ndim != 1 or labels.is_floating_point():
        kind = "no labels" if labels is None or labels.ndim != 1 else "scores"
        raise ValueError(f"alignment={name} needs class labels and was given {kind}; use alignment=infonce, cosine or mse.")
    return labels[:, None] == ranks.gather(labels)[None, :]


def _contrast(
    h_pre: Tensor,
    h_ft: Tensor,
    positives: Tensor,
    temperature: float | Tensor,
    ranks: Ranks,
    name: str,
    left_out: Tensor | None = None,
) -> Tensor:
    if ranks.rows < 2:
        raise ValueError(f"alignment={name} compares the samples of a batch, and this batch holds one; raise budget.batch.")
    with torch.autocast(h_pre.device.type, enabled=False):
        sides = [F.normalize(_wide(rows), dim=-1) for rows in (h_pre, h_ft)]
        keys_pre, keys_ft = (ranks.gather(rows) for rows in sides)
        to_ft = _row_losses(sides[0] @ keys_ft.T / temperature, positives, left_out)
        to_pre = _row_losses(sides[1] @ keys_pre.T / temperature, positives, left_out)
    return (to_ft.mean() + to_pre.mean()) / 2


def _row_losses(similarities: Tensor, positives: Tensor, left_out: Tensor | None) -> Tensor:
    """Return (B,): minus the mean log-probability of each row's positives (B, K) among all keys but those left out."""
    if left_out is not None:
        similarities = similarities.masked_fill(left_out, -torch.inf)
    log_probabilities = similarities.log_softmax(-1)
    return -log_probabilities.masked_fill(~positives, 0.0).sum(-1) / positives.sum(-1)


def _wide(states: Tensor) -> Tensor:
    return states if states.element_size() >= 4 else states.float()
