"""The peer gets tofro's sequences unmasked; the profile puts each operation where it belongs; every benchmark runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.profile import MARK, rooms
from torch.profiler import ProfilerActivity, profile, record_function

from tofro.batches.masking import Masker, MaskRule
from tofro.batches.packing import pack, to_batch
from tofro.tokens.tokenizer import SPECIALS, Tokenizer, bert_backend

ROOT = Path(__file__).resolve().parents[2]


def test_the_peers_rows_are_our_sequences_with_the_masks_taken_off() -> None:
    transformers = pytest.importorskip("transformers")
    from benchmarks.material import hugging_face_tokenizer
    from benchmarks.peers import masking, rows_of

    words = [f"w{number}" for number in range(40)]
    tokenizer = Tokenizer(bert_backend({word: number for number, word in enumerate([*SPECIALS, *words])}, lowercase=True))
    ids = np.arange(5, 35, dtype=np.int64)
    starts, lengths = np.array([[0, 6], [12, 20]]), np.array([[6, 5], [8, 3]])
    packed = pack(ids, np.ones(len(ids), dtype=bool), starts, lengths, tokenizer)
    plain = packed.tokens.copy()
    masker = Masker(tokenizer, MaskRule(0.5, "word", "mask_only"))
    samples = np.arange(2)
    tokens, masked, targets = masker.mask(1, 0, plain.copy(), packed.starts, packed.positions, packed.sequence, samples)
    assert (tokens != plain).any()
    packed.tokens[:] = tokens
    theirs = hugging_face_tokenizer(tokenizer)
    rows = rows_of([to_batch(packed, samples, masked, targets, np.array([0, 1]))], theirs)
    assert [token for row in rows for token in row["input_ids"]] == plain.tolist()
    assert [len(row["input_ids"]) for row in rows] == [14, 14]
    assert rows[0]["input_ids"] == [2, *range(5, 11), 3, *range(11, 16), 3]
    assert rows[0]["token_type_ids"] == [0] * 8 + [1] * 6
    assert [row["next_sentence_label"] for row in rows] == [0, 1]
    assert rows[0]["special_tokens_mask"] == [int(token in (2, 3)) for token in rows[0]["input_ids"]]
    collated = masking(theirs, 0.15)([{**row} for row in rows])
    assert isinstance(theirs, transformers.PreTrainedTokenizerFast)
    assert collated["input_ids"].shape == (2, 14)
    special = torch.tensor([row["special_tokens_mask"] for row in rows]).bool()
    assert (collated["labels"][special] == -100).all()


def test_a_backward_operation_belongs_to_the_room_of_its_forward_operation() -> None:
    weight = torch.randn(64, 64, requires_grad=True)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        with record_function(MARK + "first"):
            states = torch.randn(64, 64) @ weight
        with record_function(MARK + "without gradient"):  # takes the number of the node made next
            torch.zeros(3) + 1
        with record_function(MARK + "second"):
            states = torch.special.erf(states)
        states.sum().backward()
    events = list(profiler.events())
    placed = rooms(events)
    found = {event.name.rpartition(": ")[2]: placed.get(event.id) for event in events if "evaluate_function" in event.name}
    assert found["MmBackward0"] == "first"
    assert found["SpecialErfBackward0" if "SpecialErfBackward0" in found else "ErfBackward0"] == "second"
    assert found["torch::autograd::AccumulateGrad"] == "gradient sums"


@pytest.mark.slow
def test_every_benchmark_runs_quickly_to_its_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "all", "--quick", "--outputs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))["rows"]
    skipped = {row["benchmark"] for row in rows if row["value"] is None}
    assert skipped <= {"gpu", "arithmetic", "memory"}
    needed = {
        "pretraining",
        "modernbert",
        "fine_tuning",
        "predicting",
        "prompting",
        "arithmetic",
        "store",
        "waiting",
        "checkpoints",
    }
    assert needed <= {row["benchmark"] for row in rows if row["value"] is not None}
