"""Two-way fine-tuning: L = L_task(M_ft) + λ · L_align(h_pre, h_ft), both encoders updated.

In: two models that started from the same weights, a labelled batch. Out: the task term, where λ is above 0 at the step the
alignment term, and what regularises. With λ = 0 and nothing else for ``pre`` a run is bit-identical to :class:`FineTuning` and
``pre`` keeps its weights: no term reaches it, so it has no gradient and AdamW leaves it alone, decay included.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tofro.batches.types import Batch
from tofro.encoders.encoder import Encoder, Trunk
from tofro.encoders.model import Model
from tofro.encoders.pooling import pool
from tofro.modules.base import Schedule, Training
from tofro.modules.fine_tuning import FineTuning, freeze_heads
from tofro.modules.outputs import Output
from tofro.modules.projection import Projection
from tofro.modules.regularizers import Regularizers
from tofro.modules.start import Start
from tofro.modules.terms import Term
from tofro.objectives.gather import Ranks
from tofro.objectives.geometry import alignment_distance, uniformity
from tofro.objectives.settings import AlignmentSettings, ControlSettings
from tofro.text.task import Task

Alignment = Callable[..., Tensor]  # (h_pre, h_ft, labels), and temperature where it is learnt


class TwoWay(FineTuning):
    """Both ways: what the task teaches ``ft`` flows back into ``pre`` through an alignment of their representations.

    ``alignment(h_pre, h_ft, labels)`` takes (B, D) each. ``settings.direction`` decides whom its gradient reaches: ``both``,
    ``to_pre`` (h_ft is detached), ``to_ft`` (h_pre is detached, so ``pre`` stays as it is, in evaluation mode) or ``alternate``
    between these two. With ``settings.ema`` the encoder of ``pre`` follows that of ``ft`` after each step. ``control`` takes a
    part out.
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
        regularizers: Regularizers | None = None,
        control: ControlSettings | None = None,
        output: Output | None = None,
    ) -> None:
        super().__init__(ft, task, training, regularizers, output)
        self.models["pre"] = pre
        self.starts["pre"] = Start(pre.encoder)
        self.regularizers.remember("pre", pre)
        self.alignment, self.alignment_schedule = alignment, schedule
        self.settings, self.control = settings, control or ControlSettings()
        if settings.compares == "logits" and task.kind == "tags":
            raise ValueError(
                "alignment.compares=logits: the logits of tagged words make no row of a text; use alignment=cosine, say"
            )
        check_layers(settings, min(pre.settings.layers, ft.settings.layers))
        self.projection = Projection(settings, {"pre": pre.settings.width, "ft": ft.settings.width}, training.seed)
        own_head = self.output.heads(pre) if settings.compares == "logits" or settings.pre_task else ()
        freeze_heads(pre, keep=(*own_head, *self.regularizers.heads("pre")))
        if settings.shared_trunk:
            freeze_trunk(pre.encoder, ft.encoder, settings.shared_trunk)
        aligned = settings.weight > 0 and settings.direction != "to_ft"
        learns = bool(aligned or settings.pre_task or self.regularizers.replays("pre"))
        if not learns:
            freeze(pre)
        self.pre_moves = learns or settings.ema is not None
        if self.control.random_ft:
            freeze(ft)
        if settings.weight == 0:
            self.projection.requires_grad_(False)
        always = settings.direction == "both" and settings.every == 1 and schedule(0.0) > 0 and schedule(1.0) > 0
        self.rests = not (always or settings.weight == 0) or not self.control.task_loss or self.regularizers.rests

    @property
    def trained(self) -> dict[str, nn.Module]:
        """Both encoders and what the alignment learns."""
        return {**super().trained, "projectors": self.projection}

    @property
    def moving(self) -> dict[str, nn.Parameter]:
        """What trains, and ``pre`` where it follows ``ft``."""
        follower = self.model("pre").encoder if self.settings.ema is not None else nn.Identity()
        return super().moving | dict(follower.named_parameters(prefix="models.pre.encoder"))

    # -- the step --------------------------------------------------------------------------------------------------------------

    def terms(self, batch: Batch) -> dict[str, Term]:
        """Return the task term, the alignment term where it counts at this step, and what regularises."""
        trunk = self.model("ft").encoder.lowest(batch, self.settings.shared_trunk) if self.settings.shared_trunk else None
        ft_states = self._layers("ft", batch, trunk)
        terms = {}
        if self.control.task_loss:
            terms["task_loss"] = Term(self.task_term("ft", ft_states[-1], batch))
        weight = self.weight
        self.note_once("train/alignment_weight", weight)
        if weight > 0 or self.settings.pre_task:
            reached = self._direction != "to_ft" or self.settings.pre_task
            with contextlib.nullcontext() if reached else torch.no_grad():
                pre_states = self._layers("pre", batch, trunk)
            if weight > 0:
                # a mean over the micro-batch's rows, so that micro-batches add up to the mean over the global batch
                share = batch.size / self.global_count(batch, "samples")
                terms["alignment_loss"] = Term(self.alignment_term(pre_states, ft_states, batch, share) * share, weight)
            if self.settings.pre_task:
                terms["pre_task_loss"] = Term(self.task_term("pre", pre_states[-1], batch), self.settings.pre_task)
        return terms | self.regularizers.terms(self, batch, self.starts["ft"])

    @property
    def weight(self) -> float:
        """λ at this step: 0 between the steps of ``alignment.every``, else scheduled."""
        if self.settings.weight == 0 or self.global_step % self.settings.every:
            return 0.0
        return self.settings.weight * self.alignment_schedule(self.progress)

    @property
    def _direction(self) -> str:
        """Whom the alignment reaches at this step."""
        if self.settings.direction != "alternate":
            return self.settings.direction
        return "to_ft" if self.global_step // self.settings.every % 2 else "to_pre"

    def alignment_term(self, pre_states: list[Tensor], ft_states: list[Tensor], batch: Batch, share: Tensor | float) -> Tensor:
        """Return L_align from the states (T, D) of the compared layers of both, the mean over layers.

        ``share`` is the micro-batch's part of the global batch.
        """
        seen = {
            name: [self.seen_by("alignment_loss", name, states) for states in layers]
            for name, layers in {"pre": pre_states, "ft": ft_states}.items()
        }
        direction, learnt = self._direction, self.projection.temperature
        further = {} if learnt is None else {"temperature": learnt}
        losses = []
        for layer in range(len(self.settings.layers)):
            h_pre, h_ft = (self._vectors(name, seen[name][layer], batch) for name in ("pre", "ft"))
            self._watch(h_pre, h_ft, "", share)
            h_pre, h_ft = self.projection("pre", h_pre), self.projection("ft", h_ft)
            if self.projection.changes:
                self._watch(h_pre, h_ft, "_projected", share)
            if direction == "to_pre":
                h_ft = h_ft.detach()
            elif direction == "to_ft":
                h_pre = h_pre.detach()
            losses.append(self.alignment(h_pre, self._paired(h_ft), batch.labels, **further))
        if learnt is not None:
            self.note_once("train/temperature", learnt)
        return torch.stack(losses).mean()

    def _layers(self, name: str, batch: Batch, trunk: Trunk | None) -> list[Tensor]:
        """Return the states (T, D) of the compared layers; the last layer's are the last."""
        self.seed_dropout(name)
        encoder = self.model(name).encoder
        if self.settings.layers == [-1]:
            return [encoder(batch, "last", trunk)]
        every = encoder(batch, "all", trunk)
        return [*(every[layer] for layer in self.settings.layers), every[-1]]

    def _vectors(self, name: str, states: Tensor, batch: Batch) -> Tensor:
        if self.settings.compares == "logits":
            return self.output.logits(self.model(name), states, batch)
        return pool(states, batch, self.settings.pooling)  # (B, D)

    def _paired(self, h_ft: Tensor) -> Tensor:
        """Return each row's partner: the row itself, or under a control another row of the global batch."""
        if not self.control.shuffle_pairing:
            return h_ft
        ranks = Ranks(len(h_ft))
        return ranks.gather(h_ft).roll(1, 0)[ranks.own.start : ranks.own.stop]

    @torch.no_grad()
    def _watch(self, h_pre: Tensor, h_ft: Tensor, suffix: str, share: Tensor | float) -> None:
        """Note how near and how evenly spread the vectors of all ranks are, averaged over micro-batches and layers."""
        if self.settings.compares == "logits":
            return
        share, ranks = share / len(self.settings.layers), Ranks(len(h_pre))
        values = {"alignment_distance": alignment_distance(h_pre, h_ft)} if h_pre.shape == h_ft.shape else {}
        values |= {f"uniformity_{name}": uniformity(ranks.gather(h)) for name, h in {"pre": h_pre, "ft": h_ft}.items()}
        self.note_parts({f"train/{name}{suffix}": value * share for name, value in values.items()})

    # -- feedback without a gradient -------------------------------------------------------------------------------------------

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Step, then let ``pre`` follow ``ft``; not after a step that was skipped."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if self.settings.ema is not None:
            follow(self.model("pre").encoder, self.model("ft").encoder, (1 - self.settings.ema) * (1 - self.skipped))


@torch.no_grad()
def follow(pre: Encoder, ft: Encoder, share: Tensor) -> None:
    """Move every weight of ``pre`` by ``share`` () of its way to that of ``ft`` (Tarvainen and Valpola 2017, equation 3)."""
    followers: list[Tensor] = list(pre.parameters())
    leaders: list[Tensor] = list(ft.parameters())
    if [each.shape for each in followers] != [each.shape for each in leaders]:
        raise ValueError("alignment.ema: the encoders differ in their parameters; leave out tuning=lora, or start both alike")
    ways = torch._foreach_sub(leaders, followers)
    torch._foreach_mul_(ways, share)
    torch._foreach_add_(followers, ways)


def freeze(model: Model) -> None:
    """Take a model out of training: no gradient, no dropout."""
    model.requires_grad_(False)
    model.eval()


def freeze_trunk(pre: Encoder, ft: Encoder, count: int) -> None:
    """Freeze the embeddings and the lowest ``count`` layers of both. ValueError where they are not the same."""
    for one, other in zip([pre.embeddings, *pre.layers[:count]], [ft.embeddings, *ft.layers[:count]], strict=True):
        for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
            if mine.shape != theirs.shape or not torch.equal(mine, theirs):
                raise ValueError("alignment.shared_trunk: the lowest layers of pre and ft differ; start both alike, or use 0")
        one.requires_grad_(False)
        other.requires_grad_(False)


def check_layers(settings: AlignmentSettings, depth: int) -> None:
    """Raise ValueError for layers that encoders of ``depth`` layers do not have, or have in a shared trunk."""
    if settings.shared_trunk >= depth:
        raise ValueError(
            f"alignment.shared_trunk={settings.shared_trunk}: of the encoder's {depth} layers one must be left above"
        )
    lowest = settings.shared_trunk - depth
    if not settings.layers or not all(lowest <= layer <= -1 for layer in settings.layers):
        raise ValueError(f"alignment.layers={list(settings.layers)}: layers go from -1, the last, down to {lowest}")
    if settings.compares == "logits" and (settings.layers != [-1] or settings.projector != "none"):
        raise ValueError("alignment.compares=logits: logits have no layers and no projector; leave both keys as they are")
