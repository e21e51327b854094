"""What is added to a task's loss so that encoders keep what they knew: replay of the corpus, and a pull towards the start.

In: settings, the objective that pretraining had, a module and its batch. Out: named terms. Replay is continued pretraining in
small doses, and pulls from the first step on; with ``replay_targets=start`` the corpus is read for what the encoder said of it
before training, which pulls at nothing until the encoder has moved: of its words and pairs (Li and Hoiem 2016), and of the vector
of a text (Romero et al. 2015, with no map between the two). L2-SP is that of Li et al. (2018).
"""

from __future__ import annotations

import copy
import functools

import torch

from tofro.batches.settings import ObjectiveSettings
from tofro.batches.types import Batch
from tofro.encoders.model import Model
from tofro.encoders.pooling import pool
from tofro.modules.base import TransferModule
from tofro.modules.language import divergence_term, language_heads, language_term, language_weights
from tofro.modules.start import Start
from tofro.modules.terms import Term
from tofro.objectives.regularizers import l2_sp
from tofro.objectives.settings import RegularizerSettings


class Regularizers:
    """The regularizing terms of a step."""

    def __init__(self, settings: RegularizerSettings | None = None, objective: ObjectiveSettings | None = None) -> None:
        self.settings = settings or RegularizerSettings()
        self.weights = language_weights(objective or ObjectiveSettings())
        if self.settings.replay and not any(self.weights.values()):
            raise ValueError("objective: mlm_weight and pair_weight are both 0, so there is nothing to replay; set one above 0")
        self._twin: Model | None = None

    def replays(self, encoder: str) -> bool:
        """Say whether ``encoder`` learns from the corpus."""
        return self.settings.replay > 0 and self.settings.replay_encoder == encoder

    @property
    def rests(self) -> bool:
        """Whether language heads have no gradient at some steps."""
        return self.settings.replay > 0 and self.settings.replay_every > 1

    def heads(self, encoder: str) -> tuple[str, ...]:
        """Return the language heads of ``encoder`` that train."""
        return language_heads(self.weights) if self.replays(encoder) else ()

    def terms(self, module: TransferModule, batch: Batch, start: Start) -> dict[str, Term]:
        """Return the terms that count at this step; ``start`` is that of ``ft``."""
        terms = {}
        if self.settings.l2_sp:
            share = 1 / (module.training_settings.accumulate * module.ranks)  # every micro-batch of every rank adds its part
            terms["l2_sp_loss"] = Term(l2_sp(start.parameters, start.values) * share, self.settings.l2_sp)
        if batch.replay is not None:
            terms |= self._replay(module, batch.replay)
        return terms

    def remember(self, encoder: str, model: Model) -> None:
        """Keep a twin of ``model`` as it is before training, where replay teaches ``encoder`` what it said then."""
        if self.replays(encoder) and self.settings.replay_targets == "start":
            self._twin = copy.deepcopy(model).requires_grad_(False).eval()

    def _replay(self, module: TransferModule, batch: Batch) -> dict[str, Term]:
        name, kind, taught = self.settings.replay_encoder, "loss", language_term
        model, states = module.model(name), module.states(name, batch, stream="replay")
        terms = {}
        if self._twin is not None:
            with torch.no_grad():
                told = self._twin.to(module.device)(batch)
            kind, taught = "divergence", functools.partial(divergence_term, self._twin, told)
            if self.settings.replay_states:
                term = "replay_states_distance"
                apart = (pool(module.seen_by(term, name, states), batch) - pool(told, batch)).square().mean(-1).sum()
                weight = self.settings.replay * self.settings.replay_states
                terms[term] = Term(apart / module.global_count(batch, "samples"), weight)
        for what, counted in (("mlm", "masked"), ("pair", "pairs")):
            weight = self.settings.replay * self.weights[f"{what}_loss"]
            if weight:
                term = f"replay_{what}_{kind}"
                seen, count = module.seen_by(term, name, states), module.global_count(batch, counted)
                terms[term] = Term(taught(what, model, seen, batch, count), weight)
        return terms
