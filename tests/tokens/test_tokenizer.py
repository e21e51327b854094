"""The tokenizer: determinism, words, files, refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from tofro.tokens.settings import TokenizerSettings
from tofro.tokens.tokenizer import SPECIALS, Tokenizer
from tofro.tokens.training import choose_texts, open_tokenizer, train_tokenizer

TEXTS = [
    "The quick brown fox jumps over the lazy dog, doesn't it?",
    "Unbelievable! Unbelievers believe that foxes are quicker than dogs.",
    "中文和英文 mixed in one line: 狐狸跳过了狗。",
    "Café, naïve, déjà vu: accents are folded.",
] * 3


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TokenizerSettings(vocabulary=192), TEXTS)


def test_special_tokens_come_first_and_the_vocabulary_is_padded(tokenizer: Tokenizer) -> None:
    assert [tokenizer.id(token) for token in SPECIALS] == [0, 1, 2, 3, 4]
    assert tokenizer.vocabulary % 64 == 0
    assert tokenizer.size <= tokenizer.vocabulary <= 192
    assert tokenizer.special.shape == (tokenizer.vocabulary,)
    assert tokenizer.special[: len(SPECIALS)].all()
    assert tokenizer.special[tokenizer.size :].all()


def test_the_same_text_gives_the_same_bytes_in_another_process(tokenizer: Tokenizer) -> None:
    script = (
        "from tests.tokens.test_tokenizer import *\nprint(train_tokenizer(TokenizerSettings(vocabulary=192), TEXTS).fingerprint)"
    )
    root = Path(__file__).parents[2]
    for _ in range(2):
        other = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
        assert other.stdout.strip() == tokenizer.fingerprint


def test_words_are_what_the_pre_tokenizer_cut(tokenizer: Tokenizer) -> None:
    """Pieces of a word share its number; punctuation and each Han character are words of their own."""
    text = "overbelievable, dog's 狐狸"
    encoded = tokenizer.encode([text])[0]
    words: list[list[str]] = [[] for _ in range(int(encoded.word_ids[-1]) + 1)]
    for number, word in zip(encoded.ids, encoded.word_ids, strict=True):
        words[word].append(str(tokenizer.token(int(number))).removeprefix("##"))
    assert ["".join(word) for word in words] == ["overbelievable", ",", "dog", "'", "s", "狐", "狸"]
    assert max(len(word) for word in words) > 1


def test_special_tokens_spelt_out_in_a_text_are_plain_characters(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(["a [MASK] [SEP] b"])[0].ids
    assert not set(ids.tolist()) & {tokenizer.mask_id, tokenizer.sep_id, tokenizer.cls_id, tokenizer.pad_id}


def test_flat_and_single_encoding_agree(tokenizer: Tokenizer) -> None:
    texts = ["the fox", "", "dogs jump"]
    flat, single = tokenizer.encode_flat(texts), tokenizer.encode(texts)
    assert np.array_equal(flat.ids, np.concatenate([text.ids for text in single]))
    assert np.diff(flat.offsets).tolist() == [len(text.ids) for text in single]
    assert flat.word_starts[flat.offsets[[0, 2]]].all()


def test_rare_characters_leave_the_alphabet_and_the_size_holds() -> None:
    many = ["".join(chr(0x4E00 + place) for place in range(900)), "abc abc abd abc " * 9, "狐狸" * 5]
    trained = train_tokenizer(TokenizerSettings(vocabulary=64, min_frequency=2), many)
    assert trained.size <= 64
    assert trained.unk_id not in trained.encode(["abc 狐"])[0].ids
    assert (trained.encode([chr(0x4E00 + 5)])[0].ids == trained.unk_id).all()


def test_texts_beyond_the_limit_are_left_out_by_content() -> None:
    texts = [f"sentence number {place}" for place in range(200)]
    chosen = choose_texts(texts, 1000)
    assert 900 < sum(map(len, chosen)) <= 1000
    assert chosen == [text for text in texts if text in set(chosen)]
    assert set(choose_texts(texts[::-1], 1000)) == set(chosen)
    assert choose_texts(texts, 10**6) == texts


def test_saved_folder_opens_here_and_in_transformers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.txt",
    }
    again = Tokenizer.load(tmp_path)
    assert again.fingerprint == tokenizer.fingerprint
    transformers = pytest.importorskip("transformers")
    peer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    pair = peer("The fox", "doesn't jump")
    first, second = (text.ids.tolist() for text in tokenizer.encode(["The fox", "doesn't jump"]))
    assert pair["input_ids"] == [2, *first, 3, *second, 3]
    assert pair["token_type_ids"] == [0] * (len(first) + 2) + [1] * (len(second) + 1)


def test_vocabulary_file_alone_is_enough(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    again = open_tokenizer(TokenizerSettings(path=str(tmp_path)), iter([]))
    for mine, theirs in zip(again.encode(TEXTS), tokenizer.encode(TEXTS), strict=True):
        assert np.array_equal(mine.ids, theirs.ids)
        assert np.array_equal(mine.word_ids, theirs.word_ids)


def test_other_families_and_broken_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no tokenizer\.json and no vocab\.txt"):
        Tokenizer.load(tmp_path)
    tokenizers.Tokenizer(tokenizers.models.BPE()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="type BPE"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.txt").write_text("[UNK]\na\nb\n")
    with pytest.raises(ValueError, match=r"lacks \[PAD\]"):
        Tokenizer.load(tmp_path)


def test_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="no text to train a tokenizer on"):
        train_tokenizer(TokenizerSettings(), ["", "  "])


def test_config_says_whether_case_is_folded(tmp_path: Path) -> None:
    cased = train_tokenizer(TokenizerSettings(vocabulary=128, lowercase=False), ["The the The the"] * 3)
    cased.save(tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["do_lower_case"] is False
    assert not Tokenizer.load(tmp_path).lowercase
    upper, lower = cased.encode(["The", "the"])
    assert upper.ids.tolist() != lower.ids.tolist()
