"""A cloze that trains: its scores are the prompt's, its gradient that of a plain reference, and both ways λ = 0 is one way."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.modules.conftest import Bench, same_weights
from tofro.batches.types import Batch
from tofro.encoders.inference import inference
from tofro.encoders.model import Model
from tofro.encoders.settings import TopKSettings, TuningSettings
from tofro.encoders.tuning import train_bias, train_head, train_norm, train_top_k, trainable_names
from tofro.measures.tasks import evaluate_prompt, evaluate_task
from tofro.modules.cloze_output import ClozeOutput
from tofro.modules.prompting import ClozeScorer
from tofro.modules.settings import BudgetSettings
from tofro.objectives.alignment import kl
from tofro.text.task import Example, Task
from tofro.tokens.settings import PromptSettings
from tofro.tokens.tokenizer import Tokenizer

BUDGET = BudgetSettings(steps=8, batch=16, best=False)
WORDS = {"bad": ["cold", "bitter"], "good": ["warm"]}
LENGTH = 32


def prompt(wording: str = "{text_a} It is [MASK].", **changes: object) -> PromptSettings:
    return replace(PromptSettings("unused", [wording], 0, WORDS, "none"), **changes)  # type: ignore[arg-type]


def make_cloze(tokenizer: Tokenizer, settings: PromptSettings | None = None, pair: bool = False) -> ClozeOutput:
    return ClozeOutput(settings or prompt(), tokenizer, ("bad", "good"), pair, LENGTH)


@pytest.fixture
def asking(bench: Bench) -> Bench:
    bench.cloze = make_cloze(bench.tokenizer)
    return bench


def first_batch(bench: Bench, budget: BudgetSettings = BUDGET) -> Batch:
    return next(iter(bench.data(budget).train_dataloader()))


@pytest.mark.parametrize("template", ["{text_a} It is [MASK].", "[MASK]: {text_a} {text_a}"])
def test_before_training_it_scores_as_the_prompt_does_without_calibration(
    template: str, start: Model, task: Task, tokenizer: Tokenizer
) -> None:
    settings = prompt(template)
    cloze, scorer = make_cloze(tokenizer, settings), ClozeScorer(settings, start, tokenizer, task.labels, False, LENGTH)
    examples = [*task.splits["test"], Example("", None, "bad"), Example("the cold river " * 30, None, "good")]
    with torch.no_grad():
        batch = cloze.builder(examples).build(np.arange(len(examples)))
        scores = cloze.logits(start.eval(), start.encoder(batch), batch).log_softmax(-1)
    torch.testing.assert_close(scores, scorer.score(examples), rtol=0, atol=1e-5)
    scored = evaluate_task(start, cloze.builder(task.splits["test"]).batches(64), task, cloze)
    assert scored == evaluate_prompt(scorer, task, "test")


def test_pairs_are_worded_with_both_texts(start: Model, tokenizer: Tokenizer) -> None:
    settings = prompt("{text_a}? [MASK], {text_b}")
    cloze, scorer = make_cloze(tokenizer, settings, True), ClozeScorer(settings, start, tokenizer, ("bad", "good"), True, LENGTH)
    examples = [Example("the cold river", "the market " * 20, "bad"), Example("a garden", "the doctor", "good")]
    batch = cloze.builder(examples).build(np.arange(2))
    with torch.no_grad():
        scores = cloze.logits(start.eval(), start.encoder(batch), batch).log_softmax(-1)
    torch.testing.assert_close(scores, scorer.score(examples), rtol=0, atol=1e-5)


def test_masks_and_template_outlast_a_long_text_and_labels_follow_their_rows(tokenizer: Tokenizer) -> None:
    examples = [Example("the cold river " * 50, None, "good"), Example("a garden", None, "bad"), Example("x", None, "good")]
    batch = make_cloze(tokenizer).builder(examples).build(np.array([2, 0]))
    assert batch.max_length == LENGTH
    assert batch.labels.tolist() == [1, 1]
    assert (batch.tokens[batch.masked] == tokenizer.mask_id).all()
    assert batch.masked.numel() == int((batch.tokens == tokenizer.mask_id).sum()) == 2


def by_hand(model: Model, tokenizer: Tokenizer, examples: list[Example], settings: PromptSettings) -> torch.Tensor:
    """Return the mean cross-entropy, one sequence and one word at a time, written from the formula."""
    losses = []
    for example in examples:
        text = [each.ids.tolist() for each in tokenizer.encode([example.text_a, "It is", "."])]
        scores = []
        for label in ("bad", "good"):
            of_words = []
            for word in settings.words[label]:
                target = tokenizer.encode([word])[0].ids.tolist()
                tokens = [*text[0], *text[1], *[tokenizer.mask_id] * len(target), *text[2]]
                tokens = [tokenizer.cls_id, *tokens, tokenizer.sep_id]
                size = len(tokens)
                ends = torch.tensor([0, size], dtype=torch.int32)
                batch = Batch(torch.tensor(tokens), torch.arange(size), torch.zeros(size, dtype=torch.int64), ends, size)
                masks = torch.tensor([place for place, token in enumerate(tokens) if token == tokenizer.mask_id])
                rows = model.mlm_logits(model.encoder(batch), masks).log_softmax(-1)
                of_words.append(torch.stack([row[token] for row, token in zip(rows, target, strict=True)]).mean())
            scores.append(torch.stack(of_words).exp().mean().log())
        losses.append(-torch.stack(scores).log_softmax(-1)[("bad", "good").index(str(example.label))])
    return torch.stack(losses).mean()


@pytest.mark.parametrize("words", [WORDS, {"bad": ["cold market"], "good": ["warm garden", "lovely river"]}])
def test_loss_and_gradient_are_those_of_the_formula(bench: Bench, words: dict[str, list[str]]) -> None:
    settings = prompt(words=words)
    bench.cloze = make_cloze(bench.tokenizer, settings)
    bench.start.double().dropout = 0.0
    module, reference = bench.full(BUDGET), copy.deepcopy(bench.start)
    module.train()
    batch = first_batch(bench)
    loss = module.training_step(batch, 0)
    loss.backward()
    expected = by_hand(reference, bench.tokenizer, [bench.task.splits["train"][row] for row in batch.samples], settings)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
    found = dict(module.model("ft").named_parameters())
    for name, parameter in reference.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name].grad, parameter.grad, rtol=1e-6, atol=1e-10)
    assert {name for name, each in found.items() if each.grad is not None} == {
        name for name, each in reference.named_parameters() if each.grad is not None
    }


def test_micro_batches_add_up_to_the_global_batch(asking: Bench) -> None:
    asking.start.dropout = 0.0
    found = []
    for accumulate in (1, 4):
        budget = replace(BUDGET, accumulate=accumulate)
        module, loader = asking.full(budget), iter(asking.data(budget).train_dataloader())
        module.train()
        for number in range(accumulate):
            (module.training_step(next(loader), number) / accumulate).backward()
        found.append(torch.cat([each.grad.flatten() for each in module.parameters() if each.grad is not None]))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


def test_it_learns_with_no_new_parameter_and_leaves_the_pair_head(asking: Bench) -> None:
    budget = replace(BUDGET, steps=30)
    module, (batch,) = asking.full(budget), asking.cloze.builder(asking.task.splits["train"]).batches(96)

    def loss() -> float:
        with inference(module.model("ft")), torch.no_grad():
            logits = asking.cloze.logits(module.model("ft"), module.model("ft").encoder(batch), batch)
        return float(F.cross_entropy(logits, batch.labels))

    before = loss()
    asking.fit(module, budget, "cloze")
    ft = module.model("ft")
    assert ft.state_dict().keys() == asking.start.state_dict().keys()
    assert same_weights(ft.heads["pair"], asking.start.heads["pair"])
    assert not same_weights(ft.heads["mlm"], asking.start.heads["mlm"])
    assert loss() < before


@pytest.mark.parametrize(
    ("tune", "settings", "encoder"),
    [
        (train_head, TuningSettings(), lambda name: False),
        (train_bias, TuningSettings(), lambda name: name.endswith(".bias")),
        (train_norm, TuningSettings(), lambda name: ".norm." in name),
        (train_top_k, TopKSettings(k=1), lambda name: name.startswith(("encoder.layers.1.", "encoder.norm."))),
    ],
)
def test_a_partial_tuning_trains_its_part_and_the_head_for_masked_words(
    asking: Bench, tune: object, settings: object, encoder: object
) -> None:
    ft = asking.ft()
    tune(settings, ft, 0)
    module = asking.full(BUDGET, ft)
    asking.fit(module, BUDGET, "part")
    expected = {
        name for name, _ in ft.named_parameters() if name.startswith("heads.mlm.") or encoder(name) * name.startswith("e")
    }
    assert set(trainable_names(ft)) == expected
    start = asking.start.state_dict()
    assert {name for name, each in ft.named_parameters() if not torch.equal(each, start[name])} == expected


# -- both ways -----------------------------------------------------------------------------------------------------------------


def test_no_alignment_is_one_way_bit_for_bit(asking: Bench) -> None:
    one, both = asking.full(BUDGET), asking.two_way(BUDGET, weight=0.0)
    asking.fit(one, BUDGET, "one")
    asking.fit(both, BUDGET, "both")
    assert same_weights(one.models["ft"], both.models["ft"])
    assert same_weights(both.models["pre"], asking.start)


def test_an_alignment_moves_both_encoders_and_no_head_of_pre(asking: Bench) -> None:
    one, both = asking.full(BUDGET), asking.two_way(BUDGET, weight=1.0)
    asking.fit(one, BUDGET, "one")
    asking.fit(both, BUDGET, "both")
    assert not same_weights(both.models["ft"], one.models["ft"])
    assert not same_weights(both.models["pre"].encoder, asking.start.encoder)
    assert same_weights(both.models["pre"].heads, asking.start.heads)


def test_mutual_learning_asks_both_the_same_cloze(asking: Bench) -> None:
    both = asking.two_way(BUDGET, loss=kl, weight=1.0, compares="logits", pre_task=1.0, same_label="keep")
    asking.fit(both, BUDGET, "both")
    assert not same_weights(both.models["pre"].heads["mlm"], asking.start.heads["mlm"])
    assert same_weights(both.models["pre"].heads["pair"], asking.start.heads["pair"])


def test_pre_follows_ft_by_an_average(asking: Bench) -> None:
    both = asking.two_way(BUDGET, weight=0.0, ema=0.9)
    asking.fit(both, BUDGET, "both")
    assert not same_weights(both.models["pre"].encoder, asking.start.encoder)
    assert same_weights(both.models["pre"].heads, asking.start.heads)


# -- refusals ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"words": {"bad": ["cold"], "good": ["warm river"]}}, r"prompt\.words\.good: 'warm river' has 2 token.*'cold' has 1"),
        ({"template": 3}, r"prompt\.template=3 is out of range"),
        ({"templates": ["{text_a} It is so."]}, r"prompt\.templates\[0\]: a cloze template needs a \[MASK\]"),
        ({"words": {"bad": ["cold"]}}, r"prompt\.words\.good"),
    ],
)
def test_a_prompt_that_can_not_be_trained_names_its_key(changes: dict[str, object], message: str, tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=message):
        make_cloze(tokenizer, prompt(**changes))


def test_many_words_do_not_outvote_few(tokenizer: Tokenizer) -> None:
    from tofro.modules.calibration import label_scores

    words = torch.log(torch.tensor([[0.2, 0.4, 0.3]]))
    assert label_scores(words, torch.tensor([0, 0, 1])).tolist()[0] == pytest.approx([math.log(0.3), math.log(0.3)])
