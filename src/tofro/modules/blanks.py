"""What the masked-language head would write into a template's blanks.

In: a model, a template, examples. Out: log-probabilities (N, k, V) of all tokens in the k masks. One pass per template and
example answers for every word at once, so a search may try as many words as it likes. Leaves out label words, scores and
calibration: those of a prompt are prompting.py's, those of a search prompt_search.py's.

N examples, k masks, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tofro.batches.cloze import fill
from tofro.batches.sequences import packed_by_length
from tofro.encoders.inference import device_of, inference
from tofro.encoders.model import Model
from tofro.text.task import Example
from tofro.tokens.cloze import ClozeTemplate
from tofro.tokens.tokenizer import Tokenizer

BATCH = 64  # sequences of a forward pass


class Blanks:
    """Fills templates with texts and asks ``model`` for their masks; ``max_length`` as in prompting.py."""

    def __init__(self, model: Model, tokenizer: Tokenizer, pair: bool, max_length: int) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.fields = ("text_a", "text_b") if pair else ("text_a",)
        self.max_length = min(max_length, model.settings.max_positions)

    def log_probabilities(self, template: str, examples: Sequence[Example], where: str) -> Tensor:
        """Return log P(token) (N, k, V) in the masks of ``template``, fp32 on the CPU; ``where`` names it in errors."""
        parsed = ClozeTemplate(template, self.fields, self.tokenizer, self.max_length, where)
        parsed.check([], ())
        clozes = fill(examples, self.tokenizer, parsed, 1)
        masks = np.stack([cloze.masks for cloze in clozes])  # (N, k)
        found, device = torch.empty(*masks.shape, self.model.vocabulary), device_of(self.model)
        with inference(self.model):
            for chosen, batch in packed_by_length([(cloze.tokens,) for cloze in clozes], self.tokenizer, BATCH):
                masked = batch.cu_seqlens[:-1, None] + 1 + torch.from_numpy(masks[chosen])  # [CLS] comes first
                batch = batch.to(device)
                logits = self.model.mlm_logits(self.model.encoder(batch), masked.flatten().to(device))  # (B·k, V)
                found[torch.from_numpy(chosen)] = logits.float().log_softmax(-1).view(len(chosen), masks.shape[1], -1).cpu()
        return found
