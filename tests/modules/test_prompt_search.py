from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.modules.test_prompting import TOKENIZER, make_model, make_scorer
from tofro.modules.blanks import Blanks
from tofro.modules.prompt_search import Found, PromptSearch
from tofro.modules.prompting import ClozeScorer
from tofro.text.task import Example
from tofro.tokens.settings import SearchSettings

LABELS = ("negative", "positive")
ROWS = [
    Example(f"{word} movie", None, label)
    for label, words in zip(LABELS, ("no n", "yes a"), strict=True)
    for word in words.split()
]
ROWS += [Example("the no movie", None, "negative"), Example("it was a movie", None, "positive")]
PATTERNS = ["{text_a} <lead> [MASK].", "[MASK], {text_a}"]


def make_search(**keys: Any) -> PromptSearch:
    settings = SearchSettings("unused", patterns=PATTERNS, slots={"lead": ["it was", "a", "the"]}, **keys)
    return PromptSearch(settings, make_model(), TOKENIZER, LABELS, False, 24)


def find(search: PromptSearch, known: dict[str, Any], written: dict[str, Any]) -> Found:
    return search.find(ROWS, known, written.__setitem__, lambda done, total: None)


def test_the_budget_is_kept_and_each_candidate_is_judged_once() -> None:
    for budget in (1, 3, 7, 500):
        written: dict[str, Any] = {}
        found = find(make_search(budget=budget), {}, written)
        assert found.tried == len(written) - 1 <= budget  # the words proposed are recorded too
        assert found.templates


def test_a_search_goes_on_where_it_was_stopped() -> None:
    whole: dict[str, Any] = {}
    expected = find(make_search(), {}, whole)
    kept: dict[str, Any] = {}

    class Killed(Exception):
        pass

    def record(name: str, value: Any) -> None:
        kept[name] = value
        if len(kept) % 5 == 0:
            raise Killed

    for _ in range(100):
        try:
            found = make_search().find(ROWS, dict(kept), record, lambda done, total: None)
            break
        except Killed:
            continue
    assert found == expected
    assert list(kept.items()) == list(whole.items())


def test_what_is_known_is_not_asked_again() -> None:
    written: dict[str, Any] = {}
    find(make_search(), {}, written)
    search, again = make_search(), {}
    search.model.encoder.register_forward_pre_hook(lambda module, inputs: pytest.fail("the model was asked"))
    find(search, written, again)
    assert again == {}


def test_words_of_different_labels_differ_and_are_whole_words() -> None:
    words = {}
    find(make_search(), {}, words)
    proposed = [word for each in words["words"].values() for word in each]
    assert len(set(proposed)) == len(proposed) > 2
    assert all(len(TOKENIZER.encode([word])[0].ids) == 1 and word.isalpha() for word in proposed)
    assert not {"able", "believ"} & set(proposed)  # pieces


def test_the_planted_prompt_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One template tells the labels apart by `good` and `bad`, as a model would that understands it alone."""

    def planted(self: Blanks, template: str, examples: list[Example], where: str) -> torch.Tensor:
        table = torch.full((len(examples), 1, TOKENIZER.vocabulary), -5.0)
        strength = 2.0 if template == "{text_a} the [MASK]." else 0.1
        for row, example in enumerate(examples):
            for word, label in (("good", "positive"), ("bad", "negative")):
                table[row, 0, TOKENIZER.id(word)] = strength if example.label == label else 0.0
        return table.log_softmax(-1)

    monkeypatch.setattr(Blanks, "log_probabilities", planted)
    found = find(make_search(), {}, {})
    assert found.templates[0] == "{text_a} the [MASK]."
    assert (found.words["negative"][0], found.words["positive"][0]) == ("bad", "good")
    assert found.judgements[0].accuracy == 1
    assert [len(words) for words in found.words.values()] == [1, 1]  # another word would be no better


@pytest.mark.parametrize("calibration", ["none", "contextual", "pmi", "batch"])
def test_a_candidate_is_judged_as_the_scorer_scores_it(calibration: str) -> None:
    found = find(make_search(calibration=calibration), {}, {})
    scorer = make_scorer(ClozeScorer, found.templates[0], found.words, calibration=calibration)
    scores = scorer.score(ROWS)
    truth = torch.tensor([LABELS.index(str(row.label)) for row in ROWS])
    size = sum(map(len, found.words.values()))
    assert found.judgements[0].accuracy == pytest.approx((scores.argmax(-1) == truth).double().mean().item())
    assert found.judgements[0].fit == pytest.approx(scores[torch.arange(len(ROWS)), truth].sum().item() - size, abs=1e-4)


def test_what_a_search_can_t_use_is_refused_by_its_key() -> None:
    with pytest.raises(ValueError, match=r"prompt.words: a search finds them"):
        make_search(words={"negative": ["bad"]})
    with pytest.raises(ValueError, match=r"prompt.patterns: .* exactly one \[MASK\]"):
        PromptSearch(SearchSettings("", patterns=["{text_a}"]), make_model(), TOKENIZER, LABELS, False, 24)
    with pytest.raises(ValueError, match="this task has none"):
        PromptSearch(SearchSettings("", patterns=PATTERNS), make_model(), TOKENIZER, (), False, 24)
