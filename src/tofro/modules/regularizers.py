"""What is added to a task's loss so that encoders keep what they knew: replay of the corpus, and a pull towards the start.

In: settings, the objective that pretraining had, a module and its batch. Out: named terms. Replay is continued pretraining in
small doses; L2-SP is that of Li et al. (2018).
"""

from __future__ import annotations

from tofro.batches.settings import ObjectiveSettings
from tofro.batches.types import Batch
from tofro.modules.base import TransferModule
from tofro.modules.language import language_heads, language_weights, mlm_term, pair_term
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

    def _replay(self, module: TransferModule, batch: Batch) -> dict[str, Term]:
        name = self.settings.replay_encoder
        model, states = module.model(name), module.states(name, batch, stream="replay")
        terms = {}
        if self.weights["mlm_loss"]:
            seen = module.seen_by("replay_mlm_loss", name, states)
            terms["replay_mlm_loss"] = mlm_term(model, seen, batch, module.global_count(batch, "masked"))
        if self.weights["pair_loss"]:
            seen = module.seen_by("replay_pair_loss", name, states)
            terms["replay_pair_loss"] = pair_term(model, seen, batch, module.global_count(batch, "pairs"))[0]
        weights = {f"replay_{term}": self.settings.replay * weight for term, weight in self.weights.items()}
        return {term: Term(value, weights[term]) for term, value in terms.items()}
