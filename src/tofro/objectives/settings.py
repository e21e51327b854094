"""Settings of what a two-way step adds to the task loss: the alignment, what regularises, and what a control leaves out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from omegaconf import MISSING

from tofro.declare import setting


@dataclass
class AlignmentSettings:
    """L_align: (h_pre, h_ft) -> scalar, its weight λ, what it compares and whom it reaches."""

    weight: float = setting(0.1, "λ, the weight of the alignment loss; 0 is plain fine-tuning", low=0)
    loss: Any = setting(MISSING, "function of (h_pre, h_ft, labels) and its own keys")
    schedule: Any = setting(MISSING, "function of progress in [0, 1] that multiplies λ")
    direction: str = setting(
        "both",
        "which encoder the alignment's gradient reaches; alternate: `pre` and `ft` by turns",
        choices=("both", "to_pre", "to_ft", "alternate"),
    )
    every: int = setting(1, "compute the alignment on every n-th step", low=1)
    compares: str = setting(
        "states",
        "states: pooled states; logits: what two task heads say, `pre` has one of its own then",
        choices=("states", "logits"),
    )
    pooling: str = setting("mean", "how a sequence becomes one vector", choices=("mean", "cls"))
    layers: list[int] = setting(
        [-1], "layers whose states are compared, -1 the last, -2 the one below it; the mean of their alignments is taken"
    )
    projector: str = setting("none", "what maps the vectors before the loss, one per encoder", choices=("none", "linear", "mlp"))
    projector_shared: bool = setting(False, "one projector for both encoders")
    shared_trunk: int = setting(
        0, "so many lowest layers, and the embeddings, are frozen, the same in both encoders and computed once", low=0
    )
    least_per_class: int = setting(1, "training examples that every class must have; a run is refused where one has fewer", low=1)
    pre_task: float = setting(
        0.0, "weight of the task loss of a task head that `pre` has of its own, as in mutual learning", low=0
    )
    ema: Optional[float] = setting(
        None, "`pre` follows `ft` after every step: pre = ema * pre + (1 - ema) * ft; null leaves it out", low=0, high=1
    )


@dataclass
class ContrastiveSettings(AlignmentSettings):
    """A contrastive alignment: similarities divided by a temperature."""

    temperature: float = setting(0.07, "τ of the softmax over similarities", above=0, high=10)
    learn_temperature: bool = setting(False, "τ is learnt, from `temperature` on, and kept from 0.01 to 1")


@dataclass
class InfoNCESettings(ContrastiveSettings):
    """InfoNCE."""

    same_label: str = setting(
        "repel", "other texts with a text's label: negatives like all others, or left out", choices=("repel", "leave_out")
    )


@dataclass
class DivergenceSettings(AlignmentSettings):
    """A divergence of predictions."""

    temperature: float = setting(1.0, "τ by which logits are divided", above=0, high=100)


@dataclass
class RegularizerSettings:
    """What keeps encoders from forgetting, beside the task and the alignment."""

    l2_sp: float = setting(0.0, "weight of half the squared distance of `ft` from its start (L2-SP)", low=0)
    replay: float = setting(0.0, "μ, the weight of masked words and pairs of the corpus, as `objective` says", low=0)
    replay_targets: str = setting(
        "corpus",
        "what replay teaches: the words and pairs of the corpus, or what the encoder said of them before training",
        choices=("corpus", "start"),
    )
    replay_states: float = setting(
        0.0,
        "weight within μ of the distance of a replayed text's mean state from what it was before training; with "
        "replay_targets=start",
        low=0,
    )
    replay_encoder: str = setting("pre", "which encoder replays; one-way methods have `ft` alone", choices=("pre", "ft"))
    replay_batch: int = setting(16, "samples of the corpus in a global batch", low=1)
    replay_every: int = setting(1, "replay on every n-th step", low=1)


@dataclass
class ControlSettings:
    """A null control: what is taken out of a method, so that its effect can be told from the rest's."""

    name: Optional[str] = setting(None, "name in reports; null is no control")
    task_loss: bool = setting(True, "false: the alignment alone trains")
    shuffle_labels: bool = setting(False, "training labels change places, by the run's seed")
    shuffle_pairing: bool = setting(False, "the alignment compares each text with another text of its batch")
    random_ft: bool = setting(False, "`ft` has random weights and stays as it is")
