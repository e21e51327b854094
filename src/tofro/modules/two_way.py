"""Two-way fine-tuning: L = L_task(M_ft) + λ · L_align(h_pre, h_ft), both encoders updated.

In: two models that started from the same weights, a labelled batch. Out: the task term and, where λ is above 0 at the step, the
alignment term. With λ = 0 a run is bit-identical to :class:`FineTuning` and ``pre`` keeps its weights: no term reaches it, so it
has no gradient and AdamW leaves it alone, decay included.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tofro.batches.types import Batch
from tofro.encoders.model import Model
from tofro.encoders.pooling import pool
from tofro.modules.base import Schedule, Term, Training
from tofro.modules.fine_tuning import FineTuning, freeze_heads
from tofro.objectives.settings import AlignmentSettings
from tofro.text.task import Task

Alignment = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class TwoWay(FineTuning):
    """Both ways: what the task teaches ``ft`` flows back into ``pre`` through an alignment of their representations.

    ``alignment(h_pre, h_ft, labels)`` takes (B, D) each. ``direction`` decides whom its gradient reaches: ``both``, ``to_pre``
    (h_ft is detached) or ``to_ft`` (h_pre is detached, so ``pre`` stays as it is, in evaluation mode).
    """

    def __init__(
        self,
        pre: Model,
        ft: Model,
        task: Task,
        alignment: Alignment,
        schedule: Schedule,
        settings: AlignmentSettings,
        training: Training,
    ) -> None:
        super().__init__(ft, task, training)
        self.models["pre"] = pre
        self.alignment = alignment
        self.alignment_schedule = schedule
        self.settings = settings
        width = ft.settings.width
        if pre.settings.width != width and settings.projector == "none":
            raise ValueError(
                f"alignment.projector: pre has width {pre.settings.width} and ft {width}; choose a projector, linear or mlp"
            )
        self.projectors = nn.ModuleDict(
            {
                name: projector(settings.projector, model.settings.width, width, training.seed)
                for name, model in {"ft": ft, "pre": pre}.items()
            }
        )
        freeze_heads(pre, keep=())
        if settings.direction == "to_ft" or settings.weight == 0:
            pre.requires_grad_(False)
            pre.eval()
        self.rests = settings.weight > 0  # λ may be 0 at a step

    @property
    def trained(self) -> dict[str, nn.Module]:
        """Both encoders and the projectors."""
        return {**super().trained, "projectors": self.projectors}

    def terms(self, batch: Batch) -> dict[str, Term]:
        """Return the task term and, where it counts at this step, the alignment term."""
        states = self.states("ft", batch)
        terms = {"task_loss": Term(self.task_term(states, batch))}
        weight = self.weight
        self.note_once("train/alignment_weight", weight)
        if weight > 0:
            # a mean over the micro-batch's rows, so that micro-batches add up to the mean over the global batch
            share = batch.size / self.global_count(batch, "samples")
            terms["alignment_loss"] = Term(self.alignment_term(states, batch) * share, weight)
        return terms

    @property
    def weight(self) -> float:
        """λ at this step: 0 between the steps of ``alignment.every``, else scheduled."""
        if self.settings.weight == 0 or self.global_step % self.settings.every:
            return 0.0
        return self.settings.weight * self.alignment_schedule(self.progress)

    def alignment_term(self, ft_states: Tensor, batch: Batch) -> Tensor:
        """Return L_align from the states (T, D) of ``ft`` and a pass of ``pre`` with dropout masks of its own."""
        keeps_pre = self.settings.direction == "to_ft"
        with torch.no_grad() if keeps_pre else contextlib.nullcontext():
            pre_states = self.states("pre", batch)
        h_pre = self._vectors("pre", pre_states, batch)
        h_ft = self._vectors("ft", ft_states, batch)
        if self.settings.direction == "to_pre":
            h_ft = h_ft.detach()
        return self.alignment(h_pre, h_ft, batch.labels)

    def _vectors(self, name: str, states: Tensor, batch: Batch) -> Tensor:
        vectors: Tensor = self.projectors[name](pool(states, batch, self.settings.pooling))  # (B, D)
        return vectors


def projector(kind: str, width_in: int, width_out: int, seed: int) -> nn.Module:
    """Return the map before the alignment: identity, one linear layer, or two with a ReLU (Chen et al. 2020)."""
    if kind == "none":
        return nn.Identity()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "linear":
            return nn.Linear(width_in, width_out, bias=False)
        return nn.Sequential(nn.Linear(width_in, width_in), nn.ReLU(), nn.Linear(width_in, width_out))
