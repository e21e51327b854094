"""Calibration of prompts, and what several templates say together: functions of scores, without a model.

In: scores of label words (K, N, W) under K templates. Out: :class:`Answers`. Every calibration takes something away from the
scores: what the model would say whatever the text. Leaves out how words are scored (prompting.py).

K templates, N examples, W label words, C labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

CONTENT_FREE = {"contextual": "N/A", "pmi": ""}  # what a calibration puts in the place of the example's texts


@dataclass(frozen=True)
class Answers:
    """log P(label | text), normalised over labels, under each template (K, N, C): calibrated, and as the model gave them."""

    calibrated: Tensor
    uncalibrated: Tensor


def answers(how: str, words: Tensor, free: Tensor | None, owner: Tensor) -> Answers:
    """Return the answers of word scores (K, N, W); ``free`` (K, 1, W) are those of the text without content.

    ``owner`` (W,) is the label of each word. A label's score is s(y | x) = log of the mean of exp s(w | x) over its words.

    - ``contextual`` (Zhao et al. 2021, their diagonal W): s(y | x) - s(y | N/A).
    - ``pmi`` (Holtzman et al. 2021, domain-conditional PMI): s(w | x) - s(w | no text), then the mean over a label's words, so
      that a rare word of a label has as much say as a frequent one.
    - ``batch`` (Zhou et al. 2023): s(y | x) - the mean of s(y | x') over the N texts scored together. It knows no label, but an
      answer depends on the company: one text alone is undecided.
    - ``none``: s(y | x).
    """
    plain = label_scores(words, owner)
    if how == "contextual":
        assert free is not None
        scores = plain - label_scores(free, owner)
    elif how == "pmi":
        assert free is not None
        scores = label_scores(words - free, owner)
    elif how == "batch":
        scores = plain - plain.mean(1, keepdim=True)
    else:
        scores = plain
    return Answers(scores.log_softmax(-1), plain.log_softmax(-1))


def label_scores(words: Tensor, owner: Tensor) -> Tensor:
    """Return the log of the mean of exp(score) over each label's words, (..., W) -> (..., C)."""
    columns = [words[..., owner == label] for label in range(int(owner.max()) + 1)]
    return torch.stack([column.logsumexp(-1) - math.log(column.shape[-1]) for column in columns], dim=-1)


def together(by_template: Tensor) -> Tensor:
    """Return what K templates (K, N, C) say together (N, C): the mean of their log-probabilities, normalised again.

    This is the ensemble of Schick and Schütze (2021) with equal weights, and of Jiang et al. (2020). It multiplies probabilities,
    as independent evidence does: a template that hardly tells the labels apart hardly counts. Since a softmax follows, it is the
    same on scores before and after they are normalised.
    """
    return by_template.mean(0).log_softmax(-1)
