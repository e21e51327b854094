"""Chinese words: where they begin among the tokens, compared with a slow walk over the characters."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import rjieba

from tests.tokens.test_store import Corpus
from tofro.tokens import segmenter
from tofro.tokens.settings import TokenizerSettings
from tofro.tokens.store import open_store
from tofro.tokens.tokenizer import Tokenizer, bert_backend
from tofro.tokens.training import train_tokenizer

TEXTS = [
    "东富山站是隶属于爱之风富山铁道及日本货物铁道的铁路车站。",
    "我买了T恤和iPhone 15,价格1,234.5元!",
    "",
    "中 国\u200b和中\u3000国,中\tCafé\u0301国ﬁ中国",  # white space, a character that the normaliser drops, accents it strips
    "二〇一二年的３Ｄ打印 unbelievable中国人",
    "   ",
    "English only, with 2 numbers.",
    "豈更車賈 𠀀𠀁 中国人民",  # compatibility characters, and such beyond the basic plane
    "中国",
    "龘国家",
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TokenizerSettings(vocabulary=256, min_frequency=1), [text.replace("龘", "") for text in TEXTS])


def slow_starts(tokenizer: Tokenizer, text: str) -> list[bool]:
    """Walk over the tokens of one text: between two Han characters the segmenter decides, else the tokenizer."""
    encoding = tokenizer.backend.encode(text, add_special_tokens=False)
    cuts = set(itertools.accumulate((len(word) for word in rjieba.cut(text)), initial=0))
    ranges = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2F800, 0x2FA1F))
    han = [any(low <= ord(text[start]) <= high for low, high in ranges) for start, _ in encoding.offsets]
    found = []
    for number, (start, _) in enumerate(encoding.offsets):
        if number and han[number] and han[number - 1]:
            found.append(start in cuts)
        else:
            found.append(number == 0 or encoding.word_ids[number] != encoding.word_ids[number - 1])
    return found


def test_words_begin_where_a_slow_walk_finds_them(tokenizer: Tokenizer) -> None:
    flat = tokenizer.encode_flat(TEXTS, "segmenter")
    assert flat.word_starts.tolist() == [flag for text in TEXTS for flag in slow_starts(tokenizer, text)]
    plain = tokenizer.encode_flat(TEXTS)
    assert np.array_equal(flat.ids, plain.ids)
    assert (plain.word_starts >= flat.word_starts).all()
    assert flat.word_starts.sum() < plain.word_starts.sum()


def test_known_words(tokenizer: Tokenizer) -> None:
    flat = tokenizer.encode_flat(["日本货物铁道的铁路车站。", "T恤中国"], "segmenter")
    words = np.split(flat.ids, np.flatnonzero(flat.word_starts)[1:])
    assert ["".join(tokenizer.token(int(number)) or "" for number in word) for word in words] == [
        *("日本", "货物", "铁道", "的", "铁路", "车站", "。"),
        *("t", "恤", "中国"),
    ]


def test_english_keeps_its_words(tokenizer: Tokenizer) -> None:
    texts = ["English only, with 2 numbers.", "unbelievable Café"]
    assert np.array_equal(tokenizer.encode_flat(texts, "segmenter").word_starts, tokenizer.encode_flat(texts).word_starts)


def test_a_tokenizer_that_leaves_han_runs_whole_gets_words_at_its_tokens() -> None:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##中", "##国", "中", "##铁", "##路", "##b"]
    backend = bert_backend({token: number for number, token in enumerate(vocabulary)}, True, chinese=False)
    flat = Tokenizer(backend).encode_flat(["a中国铁路b"], "segmenter")
    assert flat.ids.tolist() == [5, 6, 7, 9, 10, 11]
    assert flat.word_starts.tolist() == [True, True, False, True, False, True]


def test_nothing_to_segment(tokenizer: Tokenizer) -> None:
    for texts in ([], [""], ["", " "]):
        assert len(tokenizer.encode_flat(texts, "segmenter").word_starts) == 0


def test_a_store_says_which_words_it_holds(tokenizer: Tokenizer, tmp_path: Path) -> None:
    documents = [["日本货物铁道的铁路车站。"]]
    corpus = Corpus(documents)
    plain = open_store(tmp_path, corpus, "train", tokenizer)
    corpus.words = "segmenter"
    words = open_store(tmp_path, corpus, "train", tokenizer)
    assert words.folder != plain.folder
    assert "words" not in plain.meta
    assert words.meta["words"].startswith("rjieba ")
    assert (plain.word_starts.sum(), words.word_starts.sum()) == (12, 7)


def test_a_missing_extra_is_named(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmenter, "LIBRARY", "a_library_that_is_not_there")
    segmenter._segmenter.cache_clear()
    with pytest.raises(ValueError, match=r"pip install 'tofro\[zh\]', or set corpus.words=tokenizer"):
        tokenizer.encode_flat(["中国"], "segmenter")
