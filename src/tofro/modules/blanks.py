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

from tofro.batches.packing import pack, to_batch
from tofro.encoders.inference import device_of, inference
from tofro.encoders.model import Model
from tofro.text.task import Example
from tofro.tokens.cloze import Cloze, ClozeTemplate
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
        columns = {
            field: self.tokenizer.encode_inside([getattr(example, field) or "" for example in examples], parsed.place(field))
            for field in self.fields
        }
        texts = [{field: columns[field][row].ids for field in self.fields} for row in range(len(examples))]
        clozes = parsed.fill(texts, 1)
        with inference(self.model):
            return torch.cat([self._ask(clozes[start : start + BATCH]) for start in range(0, len(clozes), BATCH)])

    def _ask(self, clozes: Sequence[Cloze]) -> Tensor:
        lengths = np.array([[len(cloze.tokens)] for cloze in clozes])
        flat = np.concatenate([cloze.tokens for cloze in clozes])
        packed = pack(flat, np.ones(len(flat), bool), np.cumsum(lengths)[:, None] - lengths, lengths, self.tokenizer)
        batch = to_batch(packed, np.arange(len(clozes))).to(device_of(self.model))
        masks = torch.from_numpy(np.stack([cloze.masks for cloze in clozes])).to(batch.tokens.device)  # (N, k)
        masked = (batch.cu_seqlens[:-1, None] + 1 + masks).flatten()  # [CLS] comes first
        logits = self.model.mlm_logits(self.model.encoder(batch), masked)  # (N·k, V)
        return logits.float().log_softmax(-1).view(*masks.shape, -1).cpu()
