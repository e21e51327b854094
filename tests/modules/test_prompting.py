from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.kinds import write
from tofro.batches.types import Batch
from tofro.encoders.model import Model, build_model
from tofro.encoders.settings import EncoderSettings
from tofro.modules.prompting import ClozeScorer, PairScorer, Prompting, Scorer
from tofro.text.task import Example
from tofro.tokens.settings import PromptSettings
from tofro.tokens.tokenizer import SPECIALS, Tokenizer, bert_backend

ENTRIES = "it was good bad great movie a the . ? , yes no n / un ##believ ##able"
TOKENIZER = Tokenizer(bert_backend({word: index for index, word in enumerate([*SPECIALS, *ENTRIES.split()])}, lowercase=True))
Slow = Callable[[Model, str, str, Example], float]
LABELS = ("negative", "positive")
LABEL_WORDS = {"negative": ["bad"], "positive": ["good", "unbelievable", "great"]}
EXAMPLES = [
    Example(text, None, "") for text in ("a good movie", "bad", "the movie was a bad movie .", "it was great ?", "", "no " * 40)
]
SHORT_PAIRS = [Example("it was good", "yes a movie", ""), Example("no", "the bad", ""), Example("movie", "", "")]
PAIRS = [Example("it was good", "yes a movie", ""), Example("no", "the bad " * 20, ""), Example("movie " * 30, "a", "")]


def make_model() -> Model:
    settings = EncoderSettings(layers=2, width=16, heads=2, intermediate=32, max_positions=32, init_std=0.5)
    return build_model(settings, TOKENIZER.vocabulary, heads=("mlm", "pair"), dropout=0.5, seed=3)


def make_scorer(
    kind: type[Scorer],
    templates: str | list[str],
    words: dict[str, list[str]] = LABEL_WORDS,
    pair: bool = False,
    model: Model | None = None,
    calibration: str = "contextual",
    objective: str = "swap",
    template: int | None = 0,
) -> Scorer:
    listed = [templates] if isinstance(templates, str) else templates
    prompt = PromptSettings("unused", listed, template, words, calibration, objective)
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


def filled(template: str, values: dict[str, list[int]], special: int) -> list[int]:
    """A template with ``values`` in the place of its braces and of [MASK]; text_a, the only long one, is cut to fit."""
    parts = [part for part in re.split(r"(\{\w+\}|\[MASK\])", template) if part]
    ids = [values[part] if part in values else token_ids(part) for part in parts]
    spare = 24 - special - sum(map(len, ids))
    cut = {"{text_a}": min(spare, 0)}
    return [token for name, part in zip(parts, ids, strict=True) for token in part[: len(part) + cut.get(name, 0)]]


def slow_cloze(model: Model, template: str, word: str, example: Example) -> float:
    """Mean log P of a word in the masks of one sequence."""
    target = token_ids(word)
    grows = template.count("[MASK]") == 1
    values = {"{text_a}": token_ids(example.text_a), "{text_b}": token_ids(example.text_b or "")}
    tokens = filled(template, values | {"[MASK]": [TOKENIZER.mask_id] * (len(target) if grows else 1)}, 2)
    states, _ = run_alone(model, [tokens])
    masks = torch.tensor([1 + place for place, token in enumerate(tokens) if token == TOKENIZER.mask_id])
    with torch.no_grad():
        logits = model.mlm_logits(states, masks).double()
    return float(np.mean([row.log_softmax(-1)[index].item() for row, index in zip(logits, target, strict=True)]))


def slow_pair(model: Model, template: str, word: str, example: Example, contrast: bool = True) -> float:
    """Log-odds of text and statement, less those in the other order."""
    statement = filled(template, {"{word}": token_ids(word), "{text_b}": token_ids(example.text_b or "")}, 3)
    text = token_ids(example.text_a)[: 24 - 3 - len(statement)]
    odds = []
    for parts in ([text, statement], [statement, text]):
        states, batch = run_alone(model, parts)
        with torch.no_grad():
            logits = model.pair_logits(states, batch).double()[0]
        odds.append(float(logits[0] - logits[1]))
    return odds[0] - contrast * odds[1]


def slow_scores(score: Slow, model: Model, template: str, words: dict[str, list[str]], examples: list[Example], how: str):
    """log P(label) under one template, word by word and text by text, calibrated by the formulas of the papers."""
    empty = {"contextual": "N/A", "pmi": ""}.get(how, "")
    pair = examples[0].text_b is not None
    free = Example(empty, empty if pair else None, "")
    scores = np.empty((len(examples), len(LABELS)))
    for column, label in enumerate(LABELS):
        prior = np.array([score(model, template, word, free) for word in words[label]])
        for row, example in enumerate(examples):
            found = np.array([score(model, template, word, example) for word in words[label]])
            if how == "pmi":
                found = found - prior
            scores[row, column] = np.log(np.mean(np.exp(found)))
        if how == "contextual":
            scores[:, column] -= np.log(np.mean(np.exp(prior)))
        if how == "batch":
            scores[:, column] -= np.mean(scores[:, column])
    return normalise(scores)


def normalise(scores: np.ndarray) -> np.ndarray:
    return scores - np.log(np.exp(scores).sum(-1, keepdims=True))


CASES = {
    "cloze": (
        ClozeScorer,
        slow_cloze,
        ["{text_a} it was [MASK].", "[MASK] movie. {text_a}", "{text_a}? {text_a} [MASK]"],
        EXAMPLES,
    ),
    "cloze of pairs": (ClozeScorer, slow_cloze, ["{text_a}? [MASK], {text_b}", "{text_b} was [MASK] the {text_a}"], SHORT_PAIRS),
    "pair head": (PairScorer, slow_pair, ["it was {word} .", "the {word} movie", "{word}"], EXAMPLES),
    "pair head on pairs": (PairScorer, slow_pair, ["{word}, {text_b}", "{text_b} was {word}"], SHORT_PAIRS),
}


@pytest.mark.parametrize("calibration", ["contextual", "pmi", "batch", "none"])
@pytest.mark.parametrize("case", CASES)
def test_scores_equal_one_sequence_at_a_time(case: str, calibration: str):
    kind, slow, templates, examples = CASES[case]
    examples = examples if "{text_a}? {text_a}" not in str(templates) else examples[:-1]  # the reference cuts one text once
    model, pair = make_model(), examples[0].text_b is not None
    every = [slow_scores(slow, model, template, LABEL_WORDS, examples, calibration) for template in templates]
    scorer = make_scorer(kind, templates, LABEL_WORDS, pair, model, calibration, template=None)
    answer = scorer.answer(examples)
    assert np.allclose(answer.calibrated.numpy(), np.stack(every), atol=1e-5)
    assert np.allclose(scorer.score(examples).numpy(), normalise(np.mean(every, axis=0)), atol=1e-5)
    plain = slow_scores(slow, model, templates[-1], LABEL_WORDS, examples, "none")
    assert np.allclose(answer.uncalibrated[-1].numpy(), plain, atol=1e-5)
    last = make_scorer(kind, templates, LABEL_WORDS, pair, model, calibration, template=len(templates) - 1)
    assert np.allclose(last.score(examples).numpy(), every[-1], atol=1e-5)


@pytest.mark.parametrize("calibration", ["contextual", "pmi"])
def test_a_long_text_is_cut_and_several_masks_take_a_token_each(calibration: str):
    model, words = make_model(), {"negative": ["bad movie", "a no"], "positive": ["good movie"]}
    scorer = make_scorer(ClozeScorer, "[MASK] the {text_a}, it was [MASK] .", words, model=model, calibration=calibration)
    expected = slow_scores(slow_cloze, model, scorer.settings.templates[0], words, EXAMPLES, calibration)
    assert np.allclose(scorer.score(EXAMPLES).numpy(), expected, atol=1e-5)
    grown = make_scorer(ClozeScorer, "{text_a} it was [MASK].", model=model, calibration=calibration)
    expected = slow_scores(slow_cloze, model, "{text_a} it was [MASK].", LABEL_WORDS, EXAMPLES, calibration)
    assert np.allclose(grown.score(EXAMPLES).numpy(), expected, atol=1e-5)


def test_a_pair_head_trained_on_random_pairs_is_asked_in_one_order():
    model = make_model()
    scorer = make_scorer(PairScorer, "it was {word} .", model=model, calibration="none", objective="random")
    seen = sizes(scorer)
    found = scorer.score(EXAMPLES)
    assert sum(seen) == 4 * len(EXAMPLES)
    one_order = partial(slow_pair, contrast=False)
    assert np.allclose(found, slow_scores(one_order, model, "it was {word} .", LABEL_WORDS, EXAMPLES, "none"), atol=1e-5)


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


def sizes(scorer: Scorer) -> list[int]:
    """Note how many sequences each forward pass has."""
    seen: list[int] = []
    scorer.model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].size))
    return seen


def test_the_cost_is_one_sequence_for_each_number_of_masks():
    scorer = make_scorer(ClozeScorer, "{text_a} [MASK]", calibration="none")
    seen = sizes(scorer)
    scorer.score(EXAMPLES)
    assert sum(seen) == 2 * len(EXAMPLES)  # four words of one token and three tokens


@pytest.mark.parametrize(
    ("kind", "templates", "count"),
    [
        (ClozeScorer, ["{text_a} [MASK]", "[MASK] {text_a}"], 2 * 2 * 6 - 2),  # of an empty text both are the same
        (PairScorer, ["it was {word}", "{word}"], 2 * 2 * 4 * 6 - 1),  # "bad" before "bad" is the same in either order
    ],
)
def test_all_templates_share_forward_passes_and_the_same_sequence_is_computed_once(
    kind: type[Scorer], templates: list[str], count: int
):
    model = make_model()
    scorer = make_scorer(kind, templates, model=model, calibration="none", template=None)
    seen = sizes(scorer)
    scores = scorer.score([*EXAMPLES, *EXAMPLES[::-1]])
    assert seen == [64] * (count // 64) + [count % 64]
    assert torch.equal(scores[: len(EXAMPLES)], scores[len(EXAMPLES) :].flip(0))


@pytest.mark.parametrize("kind", ["RoBERTa", "XLM-R", "ModernBERT", "WordPiece"])
def test_every_template_of_an_ensemble_answers_as_it_does_alone(kind: str, tmp_path: Path):
    """Some tokenizers write the space before a word into it, so texts and words have other tokens in other templates."""
    tokenizer = Tokenizer.load(write(tmp_path, kind))
    settings = EncoderSettings(layers=1, width=16, heads=2, intermediate=32, max_positions=40, init_std=0.5)
    model = build_model(settings, tokenizer.vocabulary, heads=("mlm", "pair"))
    templates = ["{text_a} It was [MASK].", "[MASK]: {text_a}", "({text_a}) ([MASK])"]
    words = {"negative": ["lazy"], "positive": ["quick", "believe"]}
    scorers = [
        ClozeScorer(PromptSettings("unused", templates, number, words), model, tokenizer, LABELS, False, 32)
        for number in (0, 1, 2, None)
    ]
    texts = [Example(text, None, "") for text in ("The fox jumps over the dog.", "foxes are quicker")]
    answers = torch.stack([scorer.score(texts) for scorer in scorers[:3]])
    assert torch.allclose(scorers[3].answer(texts).calibrated, answers, atol=1e-5)


def test_the_uncalibrated_answer_costs_one_sequence_without_content_for_each_template_and_number_of_masks():
    scorer = make_scorer(ClozeScorer, ["{text_a} [MASK]", "[MASK] . {text_a}"], template=None)
    seen = sizes(scorer)
    scorer.answer(EXAMPLES)
    assert sum(seen) == 2 * 2 * (len(EXAMPLES) + 1)
    scorer.answer(EXAMPLES)
    assert sum(seen) == 2 * 2 * (2 * len(EXAMPLES) + 1)  # N/A is asked once


def test_calibration_by_the_batch_depends_on_the_company_and_leaves_no_label_ahead():
    scorer = make_scorer(ClozeScorer, "{text_a} it was [MASK].", calibration="batch")
    answer = scorer.answer(EXAMPLES).calibrated[0]
    assert torch.allclose(answer.mean(0), answer.mean().expand(2), atol=1e-6)
    assert not torch.allclose(scorer.score(EXAMPLES[:2]), answer[:2], atol=1e-3)
    assert torch.allclose(scorer.score(EXAMPLES[:1]).exp(), torch.full((1, 2), 0.5))


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
