"""Cloze scores equal what transformers' fill-mask pipeline says on the same folder, in English and in Chinese."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tofro.encoders.folder import load_model, save_model
from tofro.encoders.model import build_model
from tofro.encoders.settings import EncoderSettings
from tofro.modules.prompting import ClozeScorer
from tofro.text.task import Example
from tofro.tokens.settings import PromptSettings
from tofro.tokens.tokenizer import SPECIALS, Tokenizer, bert_backend

ENTRIES = "it was good bad great a movie the . , ? 好 坏 差 很 影 片 总 之 。 ！ ##s"
CASES = {
    "English": (
        ["{text_a} It was [MASK].", "A [MASK] movie, {text_a}"],
        {"negative": ["bad"], "positive": ["good", "great"]},
        ["The movie was a movie.", "great movies"],
    ),
    "Chinese": (
        ["{text_a}。总之很[MASK]。", "很[MASK]！{text_a}"],
        {"negative": ["坏", "差"], "positive": ["好"]},
        ["影片很好", "总之影片坏"],
    ),
}


@pytest.mark.parametrize("language", CASES)
def test_words_of_one_token_score_as_in_transformers(language: str, tmp_path: Path) -> None:
    import transformers

    templates, words, texts = CASES[language]
    entries = {word: index for index, word in enumerate([*SPECIALS, *ENTRIES.split()])}
    tokenizer = Tokenizer(bert_backend(entries, lowercase=True))
    settings = EncoderSettings(layers=2, width=32, heads=2, intermediate=64, max_positions=32, init_std=0.5)
    save_model(tmp_path, build_model(settings, tokenizer.vocabulary, ("mlm",), seed=5), tokenizer)
    model, tokenizer = load_model(tmp_path).model, Tokenizer.load(tmp_path)
    prompt = PromptSettings("unused", templates, None, words, "none")
    scorer = ClozeScorer(prompt, model, tokenizer, sorted(words), False, 32)
    fill = transformers.pipeline("fill-mask", model=str(tmp_path), device="cpu")
    theirs = np.empty((len(templates), len(texts), 2))
    for row, template in enumerate(templates):
        for column, text in enumerate(texts):
            found = {
                answer["token"]: answer["score"]
                for answer in fill(template.replace("{text_a}", text), top_k=tokenizer.vocabulary)
            }
            theirs[row, column] = [np.mean([found[tokenizer.id(word)] for word in words[label]]) for label in sorted(words)]
    expected = np.log(theirs / theirs.sum(-1, keepdims=True))
    assert np.allclose(scorer.answer([Example(text, None, "") for text in texts]).calibrated, expected, atol=1e-5)
