"""The presets of conf/prompt: every template scores, and their labels are those of the tasks."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tofro.encoders.model import build_model
from tofro.encoders.settings import EncoderSettings
from tofro.modules.prompting import ClozeScorer, PairScorer
from tofro.text.task import Example
from tofro.tokens.settings import PromptSettings, TokenizerSettings
from tofro.tokens.training import train_tokenizer

PRESETS = sorted((Path(__file__).parents[2] / "conf" / "prompt").glob("*.yaml"))


@pytest.mark.parametrize(
    "path", [path for path in PRESETS if not path.stem.startswith(("none", "search"))], ids=lambda path: path.stem
)
def test_every_template_of_every_preset_scores(path: Path):
    preset = OmegaConf.to_container(OmegaConf.load(path))
    kind = {"ClozeScorer": ClozeScorer, "PairScorer": PairScorer}[preset["_target_"].rpartition(".")[2]]
    texts = [*preset["templates"], *(word for words in preset["words"].values() for word in words)]
    tokenizer = train_tokenizer(TokenizerSettings(vocabulary=256, min_frequency=1), texts)
    settings = EncoderSettings(layers=1, width=16, heads=2, intermediate=32, max_positions=64)
    model = build_model(settings, tokenizer.vocabulary, heads=("mlm", "pair"))
    pair = any("{text_b}" in template for template in preset["templates"])
    assert len(preset["templates"]) >= 3
    for number in range(len(preset["templates"])):
        prompt = PromptSettings("unused", preset["templates"], number, preset["words"])
        scorer = kind(prompt, model, tokenizer, sorted(preset["words"]), pair, 64)
        assert scorer.score([Example("it", "was" if pair else None, "")]).shape == (1, len(preset["words"]))


FOLDERS = {"snli": "snli_subset"}  # a preset's task -> its folder, where the two differ
TASKS = [path.stem for path in PRESETS if not path.stem.startswith(("none", "search", "pydoc"))]


@pytest.mark.parametrize("name", TASKS)
def test_labels_of_presets_are_those_of_the_tasks(name: str, shared: Path):
    task = name.removesuffix("_pair")
    with gzip.open(shared / "tasks" / FOLDERS.get(task, task) / "validation.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    preset = OmegaConf.to_container(OmegaConf.load(PRESETS[0].parent / f"{name}.yaml"))
    assert set(preset["words"]) == {row["label"] for row in rows}
    assert any("{text_b}" in template for template in preset["templates"]) == ("text_b" in rows[0])
