from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from tofro.batches.types import Batch
from tofro.encoders.model import Model, build_model
from tofro.encoders.settings import EncoderSettings
from tofro.modules.prompting import ClozeScorer, PairScorer, Prompting, Scorer
from tofro.text.task import Example
from tofro.tokens.settings import PromptSettings, TokenizerSettings
from tofro.tokens.tokenizer import SPECIALS, Tokenizer, bert_backend
from tofro.tokens.training import train_tokenizer

ENTRIES = "it was good bad great movie a the . ? , yes no n / un ##believ ##able"
TOKENIZER = Tokenizer(bert_backend({word: index for index, word in enumerate([*SPECIALS, *ENTRIES.split()])}, lowercase=True))
LABELS = ("negative", "positive")
LABEL_WORDS = {"negative": ["bad"], "positive": ["good", "unbelievable", "great"]}
EXAMPLES = [
    Example(text, None, "") for text in ("a good movie", "bad", "the movie was a bad movie .", "it was great ?", "", "no " * 40)
]
PAIRS = [Example("it was good", "yes a movie", ""), Example("no", "the bad " * 20, ""), Example("movie " * 30, "a", "")]


def make_model() -> Model:
    settings = EncoderSettings(layers=2, width=16, heads=2, intermediate=32, max_positions=32, init_std=0.5)
    return build_model(settings, TOKENIZER.vocabulary, heads=("mlm", "pair"), dropout=0.5, seed=3)


def make_scorer(
    kind: type[Scorer],
    template: str,
    words: dict[str, list[str]] = LABEL_WORDS,
    pair: bool = False,
    model: Model | None = None,
    calibration: str = "contextual",
    objective: str = "swap",
) -> Scorer:
    prompt = PromptSettings("unused", [template], 0, words, calibration, objective)
    return kind(prompt, model or make_model().train(), TOKENIZER, LABELS, pair, 24)


def run_alone(model: Model, parts: list[list[int]]) -> tuple[torch.Tensor, Batch]:
    """One sequence by itself, put together by hand."""
    tokens, segments = [TOKENIZER.cls_id], [0]
    for number, part in enumerate(parts):
        tokens += [*part, TOKENIZER.sep_id]
        segments += [number] * (len(part) + 1)
    size = len(tokens)
    batch = Batch(
        torch.tensor(tokens), torch.arange(size), torch.tensor(segments), torch.tensor([0, size], dtype=torch.int32), size
    )
    with torch.no_grad():
        return model.eval().encoder(batch), batch


def token_ids(text: str) -> list[int]:
    return TOKENIZER.encode([text])[0].ids.tolist()


def slow_cloze(model: Model, text: str, ending: str) -> list[float]:
    """log P(label) without calibration for "{text_a} <ending> [MASK] .", one sequence and one word at a time."""
    by_label = []
    for label in LABELS:
        by_word = []
        for word in LABEL_WORDS[label]:
            target = token_ids(word)
            rest = token_ids(ending)
            kept = token_ids(text)[: 24 - 2 - len(rest) - len(target) - 1]
            tokens = [*kept, *rest, *[TOKENIZER.mask_id] * len(target), *token_ids(".")]
            states, _ = run_alone(model, [tokens])
            first = 1 + len(kept) + len(rest)
            with torch.no_grad():
                logits = model.mlm_logits(states, torch.arange(first, first + len(target))).double()
            by_word.append(np.mean([row.log_softmax(-1)[index].item() for row, index in zip(logits, target, strict=True)]))
        by_label.append(np.log(np.mean(np.exp(by_word))))
    return by_label


def normalise(scores: np.ndarray) -> np.ndarray:
    return scores - np.log(np.exp(scores).sum(-1, keepdims=True))


@pytest.mark.parametrize("calibration", ["none", "contextual"])
def test_cloze_equals_one_sequence_at_a_time(calibration: str):
    model = make_model()
    found = make_scorer(ClozeScorer, "{text_a} it was [MASK].", model=model, calibration=calibration).score(EXAMPLES)
    expected = np.array([slow_cloze(model, example.text_a, "it was") for example in EXAMPLES])
    if calibration == "contextual":
        expected = expected - np.array(slow_cloze(model, "N/A", "it was"))
    assert found.shape == (6, 2)
    assert np.allclose(found.numpy(), normalise(expected), atol=1e-5)


@pytest.mark.parametrize("objective", ["swap", "random"])
def test_pair_head_equals_one_sequence_at_a_time(objective: str):
    model = make_model()
    scorer = make_scorer(PairScorer, "it was {word} .", model=model, calibration="none", objective=objective)

    def log_odds(first: list[int], second: list[int]) -> float:
        states, batch = run_alone(model, [first, second])
        with torch.no_grad():
            probabilities = model.pair_logits(states, batch).double().softmax(-1)[0]
        return float(torch.log(probabilities[0] / probabilities[1]))

    expected = np.empty((len(EXAMPLES), 2))
    for row, example in enumerate(EXAMPLES):
        for column, label in enumerate(LABELS):
            odds = []
            for word in LABEL_WORDS[label]:
                statement = token_ids(f"it was {word} .")
                text = token_ids(example.text_a)[: 24 - 3 - len(statement)]
                odds.append(log_odds(text, statement) - (log_odds(statement, text) if objective == "swap" else 0))
            expected[row, column] = np.log(np.mean(np.exp(odds)))
    assert np.allclose(scorer.score(EXAMPLES).numpy(), normalise(expected), atol=1e-5)


@pytest.mark.parametrize(("kind", "template"), [(ClozeScorer, "{text_a}? [MASK], {text_b}"), (PairScorer, "{word}, {text_b}")])
def test_scores_of_pair_tasks_do_not_depend_on_the_company(kind: type[Scorer], template: str):
    scorer = make_scorer(kind, template, {"negative": ["no"], "positive": ["yes"]}, pair=True)
    together = scorer.score(PAIRS)
    alone = torch.cat([scorer.score([example]) for example in PAIRS])
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(scorer.score(PAIRS[::-1]), together.flip(0), atol=1e-5)


@pytest.mark.parametrize(("kind", "template"), [(ClozeScorer, "{text_a} [MASK]"), (PairScorer, "{word}")])
def test_prompting_changes_no_parameter_buffer_or_mode(kind: type[Scorer], template: str):
    model = make_model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    make_scorer(kind, template, model=model).score(EXAMPLES)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(torch.equal(buffers[name], value) for name, value in model.named_buffers())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(part.training for part in model.modules())


@pytest.mark.parametrize(("kind", "template"), [(ClozeScorer, "{text_a} [MASK]"), (PairScorer, "it was {word}")])
def test_calibration_makes_the_content_free_text_undecided(kind: type[Scorer], template: str):
    calibrated = make_scorer(kind, template).score([Example("N/A", None, "")]).exp()
    assert calibrated.tolist() == [[pytest.approx(0.5, abs=1e-6)] * 2]
    plain = make_scorer(kind, template, calibration="none").score([Example("N/A", None, "")]).exp()
    assert abs(plain[0, 0] - 0.5) > 1e-3


def test_scores_are_log_probabilities():
    assert torch.allclose(make_scorer(ClozeScorer, "{text_a} [MASK]").score(EXAMPLES).exp().sum(-1), torch.ones(len(EXAMPLES)))


def test_the_cost_is_one_sequence_for_each_number_of_masks():
    scorer = make_scorer(ClozeScorer, "{text_a} [MASK]", calibration="none")
    seen = []
    scorer.model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].size))
    scorer.score(EXAMPLES)
    assert sum(seen) == 2 * len(EXAMPLES)  # four words of one token and three tokens


@pytest.mark.filterwarnings("ignore")  # Lightning's own about workers and pytrees
def test_trainer_predicts_what_the_scorer_scores(tmp_path):
    import pytorch_lightning as pl

    scorer = make_scorer(ClozeScorer, "{text_a} [MASK]")
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    parts = trainer.predict(Prompting(scorer), torch.utils.data.DataLoader(EXAMPLES, batch_size=4, collate_fn=list))
    assert torch.allclose(torch.cat(parts), scorer.score(EXAMPLES), atol=1e-5)


def test_a_model_without_the_head_is_refused():
    model = make_model()
    del model.heads["mlm"]
    with pytest.raises(ValueError, match="has no mlm head"):
        make_scorer(ClozeScorer, "{text_a} [MASK]", model=model)


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
