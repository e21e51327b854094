"""A published folder, where one is named: 1,000 sentences through it and through transformers.

``TOFRO_PUBLISHED_MODEL=FOLDER`` names a model folder of any family, or a sentence-transformers folder of such a model.
"""

from __future__ import annotations

import os
import pydoc_data.topics
import re
from itertools import islice
from pathlib import Path

import pytest
import torch

from tofro.batches.labelled import LabelledBuilder
from tofro.encoders.folder import load_model, save_model
from tofro.encoders.pooling import pool
from tofro.encoders.sentence import find_transformer
from tofro.text.task import Example
from tofro.tokens.tokenizer import Tokenizer

PLACE = os.environ.get("TOFRO_PUBLISHED_MODEL")
COUNT, BATCH = 1000, 50


def sentences() -> list[str]:
    """Python's own documentation, cut at full stops, with what stands in it of markup, code and other scripts."""
    whole = " ".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    found = dict.fromkeys(part for part in re.split(r"(?<=[.?!])\s+", whole) if 3 < len(part) < 400)
    return [*islice(found, COUNT - 3), "Größe, naïve café: 中文和英文。", "🙂 don't", "x"]


@pytest.mark.skipif(PLACE is None, reason="TOFRO_PUBLISHED_MODEL names no published folder")
@pytest.mark.filterwarnings("ignore:.*attention dropout is 0")
def test_a_published_folder_agrees_on_a_thousand_sentences(tmp_path: Path) -> None:
    import transformers

    folder = find_transformer(Path(str(PLACE)))
    ours, tokenizer = load_model(folder).model.eval(), Tokenizer.load(folder)
    theirs, peer = transformers.AutoModel.from_pretrained(folder).eval(), transformers.AutoTokenizer.from_pretrained(folder)
    longest = min(ours.settings.max_positions, 256)
    texts = sentences()
    assert len(texts) == COUNT
    builder = LabelledBuilder([Example(text, None, "") for text in texts], tokenizer, longest)
    worst = 0.0
    for batch in builder.batches(BATCH):
        assert batch.samples is not None
        given = peer(
            [texts[row] for row in batch.samples], padding=True, truncation=True, max_length=longest, return_tensors="pt"
        )
        inside = given["attention_mask"].bool()
        assert given["input_ids"][inside].tolist() == batch.tokens.tolist()
        with torch.no_grad():
            states, expected = ours.encoder(batch), theirs(**given).last_hidden_state
        mean = (expected * inside[..., None]).sum(1) / inside.sum(1, keepdim=True)
        worst = max(worst, float((states - expected[inside]).abs().max()), float((pool(states, batch) - mean).abs().max()))
    print(f"{PLACE}: {COUNT} sentences, largest difference {worst:.1e}")
    assert worst <= 1e-5
    save_model(tmp_path / "out", ours, tokenizer)
    again = load_model(tmp_path / "out").model.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in ours.state_dict().items())
