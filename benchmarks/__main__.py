"""``make bench``: one pretraining step of tofro beside one of transformers' BertForPreTraining, in the same process, in turn.

Same architecture, vocabulary, tokens, masks, pair labels, precision (fp32), dropout 0 and fused AdamW; full sequences, so nothing
is padded on either side. Prints medians and the spread over rounds, writes outputs/bench.json. Leaves out data loading.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from transformers import BertConfig, BertForPreTraining

from tofro.batches.types import Batch
from tofro.encoders.model import build_model
from tofro.encoders.settings import EncoderSettings
from tofro.objectives.language import mlm_loss, pair_loss
from tofro.runs.folder import machine, versions

VOCABULARY, ROUNDS, MASKED = 8192, 7, 0.15
SIZES = {
    "tiny 16×64": (EncoderSettings(layers=2, width=128, heads=2, intermediate=512), 16, 64),
    "mini 16×128": (EncoderSettings(layers=4, width=256, heads=4, intermediate=1024), 16, 128),
}


def make_batch(rows: int, length: int) -> Batch:
    """Return random tokens with masks and pair labels."""
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, VOCABULARY, (rows * length,), generator=draw)
    masked = torch.randperm(rows * length, generator=draw)[: int(MASKED * rows * length)].sort().values
    return Batch(
        tokens=tokens,
        positions=torch.arange(length).repeat(rows),
        segments=(torch.arange(length) >= length // 2).long().repeat(rows),
        cu_seqlens=torch.arange(0, rows * length + 1, length, dtype=torch.int32),
        max_length=length,
        masked=masked,
        mask_targets=tokens[masked],
        pair_labels=torch.randint(0, 2, (rows,), generator=draw),
    )


def our_step(settings: EncoderSettings, batch: Batch) -> Callable[[], None]:
    """Return a training step of tofro's model."""
    model = build_model(settings, VOCABULARY).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        states = model.encoder(batch)
        assert batch.masked is not None
        loss = mlm_loss(model.mlm_logits(states, batch.masked), batch.mask_targets, batch.masked.numel())
        loss = loss + pair_loss(model.pair_logits(states, batch), batch.pair_labels, batch.size)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def their_step(settings: EncoderSettings, batch: Batch, rows: int, length: int) -> Callable[[], None]:
    """Return a training step of transformers' model on the same numbers, padded layout, sdpa attention."""
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.intermediate,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="sdpa",
    )
    model = BertForPreTraining(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    labels = torch.full((rows * length,), -100)
    labels[batch.masked] = batch.mask_targets
    inputs = {
        "input_ids": batch.tokens.view(rows, length),
        "token_type_ids": batch.segments.view(rows, length),
        "attention_mask": torch.ones(rows, length, dtype=torch.long),
        "labels": labels.view(rows, length),
        "next_sentence_label": batch.pair_labels,
    }

    def step() -> None:
        model(**inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def seconds(step: Callable[[], None], times: int) -> float:
    """Return the mean seconds of a step over ``times`` calls."""
    started = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - started) / times


def compare(settings: EncoderSettings, rows: int, length: int) -> dict[str, float]:
    """Time both in turn and return tokens per second, medians over rounds, and the ratio round by round."""
    batch = make_batch(rows, length)
    steps = our_step(settings, batch), their_step(settings, batch, rows, length)
    for step in steps:
        seconds(step, 2)
    rounds = [tuple(rows * length / seconds(step, 4) for step in steps) for _ in range(ROUNDS)]
    ratios = [ours / theirs for ours, theirs in rounds]
    return {
        "tofro": statistics.median(ours for ours, _ in rounds),
        "transformers": statistics.median(theirs for _, theirs in rounds),
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
    }


def main() -> None:
    """Print one table and write the numbers."""
    table = Table("pretraining step", "tofro, tokens/s", "transformers, tokens/s", "ratio", "low to high")
    results = {}
    for name, (settings, rows, length) in SIZES.items():
        found = results[name] = compare(settings, rows, length)
        spread = f"{found['ratio_low']:.2f} to {found['ratio_high']:.2f}"
        table.add_row(name, f"{found['tofro']:,.0f}", f"{found['transformers']:,.0f}", f"{found['ratio']:.2f}×", spread)
    Console().print(table)
    path = Path("outputs/bench.json")
    path.parent.mkdir(exist_ok=True)
    record = {"results": results, "machine": machine(), "versions": versions(), "threads": torch.get_num_threads()}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{ROUNDS} rounds in turn, {torch.get_num_threads()} threads; written to {path}")


if __name__ == "__main__":
    main()
