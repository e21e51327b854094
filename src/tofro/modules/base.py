"""The one base of every trained method: step, dropout, optimizer, clipping, metrics and what is logged.

In: models keyed ``pre`` and ``ft``, packed batches. Out: a scalar loss per step, named terms, validation metrics. A method is a
subclass that says which terms a batch has. Leaves out where things are written (runs/record.py) and when a run stops.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from tofro.batches.order import key
from tofro.batches.types import Batch
from tofro.encoders.model import Model
from tofro.modules.clock import Clock
from tofro.modules.optimizers import adamw, clip_per_encoder, not_finite, poison
from tofro.modules.settings import OptimizerSettings
from tofro.modules.terms import Term, TermGradients

Schedule = Callable[[float], float]


@dataclass
class Row:
    """What is noted of a step: scalars by name, on the device, and how those of several ranks make one."""

    values: dict[str, Tensor] = field(default_factory=dict)
    summed: set[str] = field(default_factory=set)  # parts of a sum over micro-batches and ranks
    rooted: set[str] = field(default_factory=set)  # of these, sums of squares whose root is meant


@dataclass(frozen=True)
class Training:
    """What every trained method needs beside its models."""

    optimizer: OptimizerSettings
    schedule: Schedule
    clock: Clock
    seed: int
    clip: float = 1.0
    accumulate: int = 1
    clip_pre: float | None = None  # of `pre`, where it is not `clip`
    gradients_every: int | None = None  # steps between norms of the terms' gradients at the parameters


class TransferModule(pl.LightningModule):
    """Base of :class:`Pretraining`, :class:`FineTuning` and :class:`TwoWay`.

    ``models`` is a ``ModuleDict`` keyed ``pre`` / ``ft``. ``monitor`` names the validation metric that chooses the best weights
    and ``mode`` says whether it should rise (``max``) or fall (``min``). Nothing calls ``save_hyperparameters``: the run
    folder's config.yaml is the record.
    """

    monitor: str
    mode: str
    nothing: float | None = None  # what the monitored metric says of a model that has learnt nothing yet, where that is one value
    rests = False  # whether some trained parameters have no gradient at some steps

    def __init__(self, models: Mapping[str, Model], training: Training) -> None:
        super().__init__()
        self.models = nn.ModuleDict(dict(models))
        self.training_settings = training
        self._row = Row()
        self._term_gradients = TermGradients()
        self._probing = False  # a backward pass that only measures is under way

    # -- what a method says ----------------------------------------------------------------------------------------------------

    def terms(self, batch: Batch) -> dict[str, Term]:
        """Return the loss terms of a micro-batch; a term whose weight is 0 at this step is left out, not computed."""
        raise NotImplementedError

    # -- the step --------------------------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return Σ weight · term. Lightning divides by the micro-batches and averages over ranks; both are undone here."""
        accumulate, clock = self.training_settings.accumulate, self.training_settings.clock
        self._micro_batch = batch_idx % accumulate
        terms = self.terms(batch)
        if terms:
            loss = torch.stack([term.weight * term.value for term in terms.values()]).sum()
        else:  # no parameter is reached, so none gets a gradient, not even of 0
            loss = torch.zeros((), device=self.device, requires_grad=True)
        self.note_parts({f"train/{name}": term.value for name, term in terms.items()} | {"train/loss": loss})
        self._measure_gradients(terms)
        if self._micro_batch == accumulate - 1:
            clock.spend(batch.counts["global_tokens"])
        return poison(loss) * accumulate * self.ranks

    def _measure_gradients(self, terms: Mapping[str, Term]) -> None:
        """Note the norm of each term's gradient at the parameters, at the steps that ask for it."""
        every = self.training_settings.gradients_every
        if every is None or self.global_step % every:
            return
        self._probing = True
        with _disable_current_modes():  # nobody counts these operations as the step's
            self._term_gradients.add(terms, self.trained)
        self._probing = False
        if self._micro_batch == self.training_settings.accumulate - 1:
            for name, norm in self._term_gradients.norms(self.ranks).items():
                self.note_once(f"train/parameter_gradient_{name}", norm)

    def states(self, name: str, batch: Batch, stream: str = "") -> Tensor:
        """Return the last states (T, D) of encoder ``name``, with dropout f(seed, encoder, stream, step, micro-batch, rank)."""
        self.seed_dropout(name, stream)
        states: Tensor = self.model(name).encoder(batch)
        return states

    def seen_by(self, term: str, name: str, states: Tensor) -> Tensor:
        """Return the states of encoder ``name`` for ``term`` to use: the norm of its gradient at them is noted, at no further
        pass.

        The gradient is that of the weighted term, a part of the global mean.
        """
        if not (self.training and states.requires_grad):
            return states
        seen, note, scale = states.view_as(states), f"train/gradient_{term}_{name}", self.ranks**2

        def note_norm(gradient: Tensor) -> None:
            if not self._probing:
                self.note_parts({note: gradient.float().square().sum() / scale}, rooted=True)

        seen.register_hook(note_norm)
        return seen

    def model(self, name: str) -> Model:
        """Return ``pre`` or ``ft``."""
        model = self.models[name]
        assert isinstance(model, Model)
        return model

    def seed_dropout(self, name: str, stream: str = "") -> None:
        """Set the generator that dropout draws from, for one pass of encoder ``name`` in training; each ``stream`` has masks of
        its own.

        The two encoders must not share masks, and a resumed run must draw the same ones: the generator is set, never read.
        """
        if not self.training:
            return
        place = (name, stream) if stream else (name,)
        value = key(self.training_settings.seed, "dropout", *place, self.global_step, self._micro_batch, self.global_rank)
        device = self.device
        if device.type == "cuda":
            torch.cuda.default_generators[device.index or 0].manual_seed(value % 2**63)
        torch.default_generator.manual_seed(value % 2**63)

    def global_count(self, batch: Batch, what: str) -> Tensor | int:
        """Return how many ``what`` (masked tokens, pairs, samples) the global batch holds, over micro-batches and ranks."""
        if self.ranks == 1:
            return batch.counts[what]
        count = torch.tensor(batch.counts[what], device=self.device)
        torch.distributed.all_reduce(count)
        return count

    @property
    def compiled(self) -> bool:
        """Whether any encoder has compiled layers."""
        return any(self.model(name).encoder.compiled for name in self.models)

    @property
    def ranks(self) -> int:
        """Number of processes that share a global batch."""
        return self._trainer.world_size if self._trainer is not None else 1

    @property
    def progress(self) -> float:
        """Share of the budget used before this step, in [0, 1]."""
        return self.training_settings.clock.progress(self.global_step)

    @property
    def trained(self) -> dict[str, nn.Module]:
        """Modules whose parameters the optimizer sees, each clipped on its own."""
        return dict(self.models.items())

    @property
    def moving(self) -> dict[str, nn.Parameter]:
        """Parameters that a step changes, by name: what the best weights are made of."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    # -- optimizer -------------------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        """Return one AdamW over named groups and its learning-rate schedule, a function of progress."""
        optimizer = adamw(self.trained, self.training_settings.optimizer)
        clock, schedule = self.training_settings.clock, self.training_settings.schedule
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(clock.progress(step)))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Clip each encoder on its own (contract 4); let the optimizer skip a step whose gradient is not finite.

        The gradient is the sum over ranks, so all decide alike, on their devices and without asking the host.
        """
        norms = clip_per_encoder(self.trained, self.training_settings.clip, self.training_settings.clip_pre)
        skipped = not_finite(norms.values()) if norms else torch.zeros((), device=self.device)
        optimizer.found_inf = self.skipped = skipped  # read by fused optimizers: at 1 they leave weights and state alone
        for name, norm in norms.items():
            self.note_once(f"train/gradient_norm_{name}", norm.detach())
        self.note_once("train/skipped", skipped)
        self.note_once("train/learning_rate", optimizer.param_groups[0]["lr"])

    # -- what is logged --------------------------------------------------------------------------------------------------------

    def note_parts(self, values: Mapping[str, Tensor], rooted: bool = False) -> None:
        """Note this rank's and micro-batch's parts of sums, or with ``rooted`` of sums of squares whose root is meant.

        Tensors stay on the device: the recorder reads them late, many steps at once, and adds up the ranks' parts then.
        """
        row = self._row
        for name, value in values.items():
            value = value.detach()
            row.values[name] = row.values[name] + value if name in row.summed else value
            row.summed.add(name)
            if rooted:
                row.rooted.add(name)

    def note_once(self, name: str, value: Tensor | float) -> None:
        """Note a number that belongs to the step and not to its micro-batches, the same on every rank."""
        self._row.values[name] = torch.as_tensor(value)

    def pop_row(self) -> Row:
        """Return what was noted of the step that has just ended; forget it."""
        row, self._row = self._row, Row()
        return row
