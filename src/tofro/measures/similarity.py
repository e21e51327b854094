"""How two encoders, or one before and after training, represent the same texts: what moved, how far, and what shape is left.

In: features (N, D) of the same N texts, or two models of the same shape. Out: plain numbers, computed in fp64. Leaves out which
texts (runs/comparing.py) and what a task needs of a representation (probes.py, neighbours.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from scipy.special import xlogy
from torch import Tensor

from tofro.batches.types import Batch
from tofro.encoders.encoder import Encoder
from tofro.encoders.inference import device_of, inference
from tofro.encoders.model import Model
from tofro.encoders.pooling import pool

_NOTHING = 1e-12  # share of the features' size below which what is left after centring is rounding


def pooled_layers(model: Model, batches: Iterable[Batch], pooling: str = "mean") -> np.ndarray:
    """Return the pooled states of the embeddings and of every layer, (L + 1, N, D) fp32, in the order of the samples' index."""
    parts, samples = [], []
    device = device_of(model)
    with inference(model):
        for batch in batches:
            assert batch.samples is not None, "texts must be told apart"
            moved = batch.to(device)
            states = model.encoder(moved, layers="all")
            parts.append(torch.stack([pool(layer, moved, pooling).float() for layer in states]).cpu())  # (L + 1, B, D)
            samples.append(batch.samples.cpu())
    features: np.ndarray = torch.cat(parts, dim=1)[:, torch.cat(samples).argsort(stable=True)].numpy()
    return features


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Return the linear centred kernel alignment of features (N, D) and (N, E), in [0, 1] (Kornblith et al. 2019, their eq. 4).

    With centred columns, CKA = ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖), Frobenius norms. It does not change when either side is turned, shifted or
    scaled as a whole. Features that are all alike resemble nothing: 0.
    """
    x, y = _centred(x), _centred(y)
    between, own_x, own_y = (float(np.square(a.T @ b).sum()) for a, b in ((y, x), (x, x), (y, y)))
    scale = np.sqrt(own_x) * np.sqrt(own_y)
    return 0.0 if scale == 0 else between / float(scale)


def effective_rank(features: np.ndarray) -> float:
    """Return how many directions the centred features (N, D) fill (Roy and Vetterli 2007).

    With their singular values σ and p_k = σ_k / Σσ it is exp(-Σ p_k ln p_k): 1 for a line, min(N - 1, D) where all directions
    count alike, 0 for one point.
    """
    spectrum = np.linalg.svd(_centred(features), compute_uv=False)
    total = spectrum.sum()
    if total == 0:
        return 0.0
    share = spectrum / total
    return float(np.exp(-xlogy(share, share).sum()))


def alignment(x: np.ndarray, y: np.ndarray) -> float:
    """Return the mean squared distance of rows (N, D) of one text, scaled to length 1, in [0, 4] (Wang and Isola 2020)."""
    return float(np.square(unit_rows(x) - unit_rows(y)).sum(1).mean())


def uniformity(features: np.ndarray) -> float:
    """Return ln of the mean of exp(-2‖a - b‖²) over all pairs of different rows (N, D), scaled to length 1 (Wang and Isola 2020).

    At most 0, where all rows are one; the lower, the more evenly they fill the sphere. 0 for fewer than two rows.
    """
    unit = unit_rows(features)
    upper = np.triu_indices(len(unit), 1)
    if not upper[0].size:
        return 0.0
    squared = np.maximum(2.0 - 2.0 * (unit @ unit.T)[upper], 0.0)
    return float(np.log(np.exp(-2.0 * squared).mean()))


def displacement(encoder: Encoder, start: Encoder) -> float:
    """Return ‖θ - θ₀‖ / ‖θ₀‖ over all parameters of an encoder; heads are no part of it."""
    moved, own = 0.0, 0.0
    for now, then in _parameters(encoder, start):
        moved += (now - then).square().sum().item()
        own += then.square().sum().item()
    return float(np.sqrt(moved / own))


def displacement_cosine(pre: Encoder, pre_start: Encoder, ft: Encoder, ft_start: Encoder) -> float | None:
    """Return the cosine of the ways that two encoders of one shape have gone from their starts.

    None where one has not moved, or where the shapes differ.
    """
    if [value.shape for value in pre.parameters()] != [value.shape for value in ft.parameters()]:
        return None
    product, pre_length, ft_length = 0.0, 0.0, 0.0
    for (a, b), (c, d) in zip(_parameters(pre, pre_start), _parameters(ft, ft_start), strict=True):
        product += ((a - b) * (c - d)).sum().item()
        pre_length += (a - b).square().sum().item()
        ft_length += (c - d).square().sum().item()
    return product / float(np.sqrt(pre_length) * np.sqrt(ft_length)) if pre_length and ft_length else None


def _parameters(encoder: Encoder, start: Encoder) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the parameters of two encoders of one shape in fp64, one by one, on the CPU."""
    for now, then in zip(encoder.parameters(), start.parameters(), strict=True):
        yield now.detach().cpu().double(), then.detach().cpu().double()


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Return rows (N, D) scaled to length 1, fp64; a row of zeros stays one."""
    wide = features.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    result: np.ndarray = wide / np.where(length == 0, 1.0, length)
    return result


def _centred(features: np.ndarray) -> np.ndarray:
    """Return features (N, D) less their mean, fp64; where nothing but rounding is left of them, zeros."""
    wide = features.astype(np.float64)
    result: np.ndarray = wide - wide.mean(0)
    return result if np.abs(result).max(initial=0.0) > _NOTHING * np.abs(wide).max(initial=0.0) else np.zeros_like(result)
