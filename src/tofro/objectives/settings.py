"""Settings of the alignment loss between the two encoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING

from tofro.declare import setting


@dataclass
class AlignmentSettings:
    """L_align: (h_pre, h_ft) -> scalar, its weight λ and what it compares."""

    weight: float = setting(0.1, "λ, the weight of the alignment loss; 0 is plain fine-tuning", low=0)
    loss: Any = setting(MISSING, "function of (h_pre, h_ft, labels) and its own keys")
    schedule: Any = setting(MISSING, "function of progress in [0, 1] that multiplies λ")
    direction: str = setting("both", "which encoder the alignment's gradient reaches", choices=("both", "to_pre", "to_ft"))
    every: int = setting(1, "compute the alignment on every n-th step", low=1)
    pooling: str = setting("mean", "how a sequence becomes one vector", choices=("mean", "cls"))
    projector: str = setting("none", "what maps the vectors before the loss, one per encoder", choices=("none", "linear", "mlp"))


@dataclass
class ContrastiveSettings(AlignmentSettings):
    """A contrastive alignment: similarities divided by a temperature."""

    temperature: float = setting(0.07, "τ of the softmax over similarities", above=0, high=10)
