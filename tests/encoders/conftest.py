"""What the tests of the encoders room share: packed batches, small models, Hugging Face's BERT."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tofro.batches.types import Batch
from tofro.encoders.model import Model
from tofro.encoders.settings import EncoderSettings

VOCABULARY = 512
KIN_CLASSES = ("Config", "Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")
SMALL = EncoderSettings(layers=3, width=32, heads=4, intermediate=64, max_positions=40)


def make_batch(lengths: list[int], vocabulary: int = VOCABULARY, seed: int = 0) -> Batch:
    """A packed batch of random tokens, the second half of each sequence being segment 1."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.tensor(lengths)
    positions = torch.cat([torch.arange(length) for length in lengths])
    return Batch(
        tokens=torch.randint(5, vocabulary, (int(sizes.sum()),), generator=generator),
        positions=positions,
        segments=torch.cat([(torch.arange(length) >= length // 2).long() for length in lengths]),
        cu_seqlens=torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)]).int(),
        max_length=max(lengths),
        masked=torch.arange(0, int(sizes.sum()), 5),
        tagged=torch.arange(int(sizes.sum())),
    )


def padded(batch: Batch, padding: int = 0) -> dict[str, torch.Tensor]:
    """The same batch as transformers takes it, padded with zeros, or with another token."""

    def pad(packed: torch.Tensor, value: int = 0) -> torch.Tensor:
        parts = packed.split(batch.cu_seqlens.diff().tolist())
        return torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True, padding_value=value)

    return {
        "input_ids": pad(batch.tokens, padding),
        "token_type_ids": pad(batch.segments),
        "attention_mask": pad(torch.ones_like(batch.tokens)),
    }


def unpad(states: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Padded states (B, L, ...) as packed ones (T, ...)."""
    return torch.cat([row[:length] for row, length in zip(states, batch.cu_seqlens.diff().tolist(), strict=True)])


def randomise(model: torch.nn.Module, seed: int = 1, std: float = 0.05) -> None:
    """Give every parameter random values, biases and norms too, so that none hides behind a zero or a one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0, std, generator=generator)


def outputs_of(model: Model, batch: Batch) -> dict[str, torch.Tensor]:
    """Everything our model says about a batch."""
    every = torch.arange(batch.tokens.numel())
    with torch.no_grad():
        states = model.eval().encoder(batch, layers="all")
        result = {f"layer {index}": layer for index, layer in enumerate(states)}
        if "mlm" in model.heads:
            result["mlm"] = model.mlm_logits(states[-1], every)
        if "pair" in model.heads:
            result["pair"] = model.pair_logits(states[-1], batch)
        if "task" in model.heads:
            result["task"] = model.task_logits(states[-1], batch)
    return result


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """Assert that everything they say is within 1e-5 of what we say."""
    for name, expected in theirs.items():
        assert ours[name].shape == expected.shape, name
        difference = float((ours[name] - expected).abs().max())
        assert difference <= 1e-5, f"{name} differs by {difference}"


class StandInTokenizer:
    """A tokenizer as the folder writer sees it."""

    pad_id, cls_id, sep_id = 0, 2, 3

    def __init__(self, entries: int = VOCABULARY) -> None:
        self.entries = entries

    def save(self, folder: Path, segments: bool = True, longest: int = 512) -> None:
        """Write a vocabulary of ``entries`` lines."""
        (folder / "vocab.txt").write_text("".join(f"token{index}\n" for index in range(self.entries)))


@pytest.fixture
def tokenizer() -> StandInTokenizer:
    """A tokenizer as large as the test vocabulary."""
    return StandInTokenizer()


@pytest.fixture(scope="session")
def hf() -> Any:
    """The transformers package, imported once and late because that takes seconds."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    return SimpleNamespace(
        **{
            name: getattr(transformers, name)
            for name in (
                "AutoModel",
                "AutoModelForTokenClassification",
                "BertConfig",
                "BertModel",
                "BertForMaskedLM",
                "BertForPreTraining",
                "BertForNextSentencePrediction",
                "BertForSequenceClassification",
                "BertForTokenClassification",
                "ModernBertConfig",
                "ModernBertModel",
                "ModernBertForMaskedLM",
                "ModernBertForSequenceClassification",
                "ModernBertForTokenClassification",
                *(f"{kin}{name}" for kin in ("Roberta", "XLMRoberta", "DistilBert") for name in KIN_CLASSES),
            )
        }
    )
