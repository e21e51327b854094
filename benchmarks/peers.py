"""The peer's side: transformers' models under its own Trainer and collators, on the same samples in the same order.

In: tofro's batches. Out: rows as a tokenised Hugging Face data set holds them, models of the same size, and the
:class:`~benchmarks.timing.Window` of timed steps. Fused AdamW, clipping at 1, a linear schedule; nothing is evaluated, saved or
reported.
"""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import transformers
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from benchmarks.timing import Window
from tofro.batches.types import Batch
from tofro.encoders.settings import EncoderSettings

Rows = list[dict[str, Any]]
Collator = Callable[[Rows], dict[str, Any]]
transformers.logging.set_verbosity_error()


def rows_of(batches: Iterable[Batch], tokenizer: Any) -> Rows:
    """Return the sequences of ``batches`` as plain lists, masked tokens put back, with their pair or task label."""
    special, rows = set(tokenizer.all_special_ids), []
    for batch in batches:
        tokens = batch.tokens.clone()
        if batch.masked is not None and batch.mask_targets is not None:
            tokens[batch.masked] = batch.mask_targets
        ends = batch.cu_seqlens.tolist()
        for row, (start, end) in enumerate(itertools.pairwise(ends)):
            ids = tokens[start:end].tolist()
            entry: dict[str, Any] = {"input_ids": ids, "attention_mask": [1] * len(ids)}
            if batch.masked is not None:
                entry["special_tokens_mask"] = [int(token in special) for token in ids]
            if batch.pair_labels is not None:
                entry["token_type_ids"] = batch.segments[start:end].tolist()
                entry["next_sentence_label"] = int(batch.pair_labels[row])
            if batch.labels is not None:
                entry["token_type_ids"] = batch.segments[start:end].tolist()
                entry["labels"] = int(batch.labels[row])
            rows.append(entry)
    return rows


def bert(kind: str, settings: EncoderSettings, vocabulary: int, dropout: float, **more: Any) -> Any:
    """Return a BERT of class ``kind`` with random weights, sdpa attention and, like ours, no attention dropout."""
    config = transformers.BertConfig(
        vocab_size=vocabulary,
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.intermediate,
        max_position_embeddings=settings.max_positions,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=0.0,
        attn_implementation="sdpa",
        **more,
    )
    return getattr(transformers, kind)(config)


def modernbert(settings: EncoderSettings, vocabulary: int, sparse: bool) -> Any:
    """Return a ModernBERT for masked words with random weights and sdpa attention; ``sparse`` projects masked positions alone."""
    config = transformers.ModernBertConfig(
        vocab_size=vocabulary,
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.intermediate,
        max_position_embeddings=settings.max_positions,
        global_attn_every_n_layers=settings.global_every,
        local_attention=settings.local_window,
        global_rope_theta=settings.rotary_base_global,
        local_rope_theta=settings.rotary_base_local,
        sparse_prediction=sparse,
        pad_token_id=0,
        attn_implementation="sdpa",
    )
    return transformers.ModernBertForMaskedLM(config)


def masking(tokenizer: Any, rate: float) -> Collator:
    """Return transformers' own masked-language-modelling collator: single tokens, 80/10/10, padding to the longest row."""
    return DataCollatorForLanguageModeling(tokenizer, mlm_probability=rate)


def padding(tokenizer: Any) -> Collator:
    """Return transformers' own dynamic padding."""
    return DataCollatorWithPadding(tokenizer)


class Stopwatch(TrainerCallback):
    """Times ``steps`` steps after ``warm`` others; wrapped round a collator it knows what each step held."""

    def __init__(self, warm: int, steps: int, collate: Collator) -> None:
        self.warm, self.steps, self.collate = warm, steps, collate
        self.window = Window()
        self.held: list[tuple[int, int]] = []  # (real tokens, slots) by step

    def __call__(self, rows: Rows) -> dict[str, Any]:
        """Collate ``rows`` and remember their tokens; counted from the rows, which costs next to nothing."""
        batch = self.collate(rows)
        self.held.append((sum(len(row["input_ids"]) for row in rows), batch["input_ids"].numel()))
        return batch

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Start and stop."""
        if state.global_step == self.warm:
            self.window.start()
        if state.global_step == self.warm + self.steps:
            self.window.stop()
            for tokens, slots in self.held[self.warm : self.warm + self.steps]:
                self.window.add(tokens, slots)


def train(model: Any, rows: Rows, collate: Collator, batch: int, warm: int, steps: int, **arguments: Any) -> Window:
    """Train for ``warm`` steps and then ``steps`` timed ones; every call starts a Trainer of its own."""
    stopwatch = Stopwatch(warm, steps, collate)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = TrainingArguments(
            output_dir=folder,
            max_steps=warm + steps,
            per_device_train_batch_size=batch,
            optim="adamw_torch_fused",
            weight_decay=0.01,
            warmup_steps=1,
            dataloader_pin_memory=not arguments["use_cpu"],
            remove_unused_columns=False,
            save_strategy="no",
            eval_strategy="no",
            logging_strategy="no",
            logging_nan_inf_filter=False,
            report_to=[],
            disable_tqdm=True,
            **({"train_sampling_strategy": "sequential"} | arguments),
        )
        trainer = Trainer(model, settings, data_collator=stopwatch, train_dataset=rows, callbacks=[stopwatch])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return stopwatch.window
