"""What a model still knows about language: held-out masked tokens and sentence pairs, beside what chance and counting give.

In: a model and the fixed batches of ``batches.datamodules.evaluation_batches``, whose masks depend on no run's seed; so numbers
before and after training differ by what the model learnt and by nothing else. Out: ``{what: number}``; the caller adds the
split and the encoder. Leaves out intervals (reports) and pseudo-log-likelihood.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tofro.batches.types import Batch
from tofro.encoders.inference import device_of, inference
from tofro.encoders.model import Model

CHUNK = 1 << 22  # tokens counted at once; keeps a memory-mapped corpus out of memory


def retention(model: Model, batches: Iterable[Batch]) -> dict[str, float]:
    """Return what the model's language heads make of ``batches``, each as sum over count of all of them:

    - ``mlm_loss``: mean of -log P(x_i | context) over masked positions i, in nats per masked token (unit of position: a token);
    - ``mlm_accuracy``: share of masked tokens whose most likely entry is the right one; ``mlm_count``: masked tokens;
    - ``pair_loss``, ``pair_accuracy``, ``pair_count``: the same for the sentence-pair labels.

    What a batch or the model lacks is left out. Logits are computed at masked positions only and the loss in fp32, summed in
    fp64.
    """
    totals: dict[str, list[float]] = {"mlm": [0.0, 0.0, 0.0], "pair": [0.0, 0.0, 0.0]}  # loss, hits, count
    device = device_of(model)
    with inference(model):
        for batch in batches:
            batch = batch.to(device)
            states = model.encoder(batch)
            if "mlm" in model.heads and batch.masked is not None and batch.mask_targets is not None:
                _add(totals["mlm"], model.mlm_logits(states, batch.masked), batch.mask_targets)
            if "pair" in model.heads and batch.pair_labels is not None:
                _add(totals["pair"], model.pair_logits(states, batch), batch.pair_labels)
    result: dict[str, float] = {}
    for name, (loss, hits, count) in totals.items():
        if count:
            result |= {f"{name}_loss": loss / count, f"{name}_accuracy": hits / count, f"{name}_count": count}
    return result


def _add(totals: list[float], logits: Tensor, targets: Tensor) -> None:
    losses = F.cross_entropy(logits.float(), targets, reduction="none")
    totals[0] += losses.double().sum().item()
    totals[1] += (logits.argmax(-1) == targets).sum().item()
    totals[2] += targets.numel()


def unigram_log_probabilities(tokens: np.ndarray, vocabulary: int) -> np.ndarray:
    """Return log P (V,) of each vocabulary entry: its count in ``tokens`` (N,), the training split's ids, plus one (Laplace)."""
    counts = np.ones(vocabulary)
    for start in range(0, len(tokens), CHUNK):
        counts += np.bincount(np.asarray(tokens[start : start + CHUNK]), minlength=vocabulary)
    result: np.ndarray = np.log(counts / counts.sum())
    return result


def unigram(batches: Iterable[Batch], log_probabilities: np.ndarray) -> dict[str, float]:
    """Return ``unigram_nats``: the mean of -log P(x_i) over the masked positions of ``batches``, in nats per masked token.

    This is the cross-entropy of the very tokens that :func:`retention` predicts under the training split's unigram distribution
    (:func:`unigram_log_probabilities`): the loss of a model that knows frequencies and ignores context. Empty without masks.
    """
    table = torch.from_numpy(log_probabilities)
    loss, count = 0.0, 0
    for batch in batches:
        if batch.mask_targets is not None:
            loss -= table[batch.mask_targets.cpu()].sum().item()
            count += batch.mask_targets.numel()
    return {"unigram_nats": loss / count} if count else {}
