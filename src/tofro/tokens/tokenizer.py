"""The tokenizer: text in, token ids and word ids out.

A thin layer over the `tokenizers` library: BERT's WordPiece, which tofro trains (training.py), and the byte-level BPE and
SentencePiece of published folders (opening.py). It never adds special tokens by itself (packing does) and never reads one out of
a text: the characters "[SEP]" in a corpus are just characters.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import pre_tokenizers

from tofro.tokens.marks import cut_words
from tofro.tokens.opening import BYTES, METASPACE, WORDPIECE, bert_backend, description, open_folder, way_of_writing
from tofro.tokens.segmenter import chinese_word_starts
from tofro.tokens.specials import BERT_SPECIALS, SPECIALS, Specials
from tofro.tokens.words import word_numbers, word_starts

__all__ = ["SPECIALS", "TokenizedText", "TokenizedTexts", "Tokenizer", "bert_backend"]

# Data loading processes are forked after the library's threads have run; they never tokenise, so the library need not warn.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


@dataclass(frozen=True)
class TokenizedText:
    """The tokens of one text, without special tokens."""

    ids: np.ndarray  # (n,) int32
    word_ids: np.ndarray  # (n,) int32, from 0


@dataclass(frozen=True)
class TokenizedTexts:
    """The tokens of many texts, one after the other."""

    ids: np.ndarray  # (N,) int32
    word_starts: np.ndarray  # (N,) bool
    offsets: np.ndarray  # (S+1,) int64, where each text begins in N


class Tokenizer:
    """A tokenizer of one of the kinds that opening.py knows.

    ``vocabulary`` is the number of rows an embedding table needs: the number of entries, rounded up to a multiple of 64.
    ``size`` is the number of entries.
    """

    def __init__(self, backend: tokenizers.Tokenizer, lowercase: bool = True, specials: Specials = BERT_SPECIALS) -> None:
        """Wrap a ``backend`` that has the ``specials``."""
        backend.no_padding()
        backend.no_truncation()
        named = "" if specials == BERT_SPECIALS else repr(specials)
        self.fingerprint = hashlib.sha256((backend.to_str() + named).encode()).hexdigest()
        backend.encode_special_tokens = True
        self.backend = backend
        self.lowercase = lowercase
        self.specials = specials
        self.writes = way_of_writing(backend)
        self.cuts_like_bert = isinstance(backend.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        self.size = max(backend.get_vocab(with_added_tokens=True).values()) + 1
        self.vocabulary = -(-self.size // 64) * 64
        tokens = (specials.pad, specials.unk or specials.pad, specials.cls, specials.sep, specials.mask)
        ids = [backend.token_to_id(token) for token in tokens]
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (int(i) for i in ids if i is not None)
        self.special_ids = np.array([self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id])

    def added(self, texts: int) -> int:
        """Return how many special tokens a sequence of one or two ``texts`` has."""
        return 2 if texts == 1 else 2 + self.specials.separators

    @cached_property
    def special(self) -> np.ndarray:
        """(vocabulary,) bool: ids that are special or stand for nothing, and so are neither masked nor drawn at random."""
        table = np.ones(self.vocabulary, dtype=bool)
        names = self.backend.get_vocab(with_added_tokens=True)
        table[[number for token, number in names.items() if not token.startswith("[unused")]] = False
        table[[number for number, token in self.backend.get_added_tokens_decoder().items() if token.special]] = True
        table[self.special_ids] = True
        return table

    @cached_property
    def written(self) -> list[str]:
        """What each id writes (vocabulary,), without white space and the marks that tokenizers put for it or for a word's rest.

        A token of bytes that are no whole characters writes U+FFFD for them.
        """
        texts = [""] * self.vocabulary
        for token, number in self.backend.get_vocab(with_added_tokens=True).items():
            texts[number] = self._write(token)
        return texts

    def _write(self, token: str) -> str:
        if self.writes == BYTES:
            return _bytes_of(token).decode("utf-8", "replace").strip()
        if self.writes == METASPACE:
            return token.replace("▁", " ").strip()
        return token.removeprefix(getattr(self.backend.model, "continuing_subword_prefix", ""))

    @cached_property
    def punctuation(self) -> np.ndarray:
        """(vocabulary,) bool: tokens without a letter or a digit."""
        table = np.zeros(self.vocabulary, dtype=bool)
        for number, text in enumerate(self.written):
            table[number] = text != "" and not any(character.isalnum() or character == "\ufffd" for character in text)
        return table

    @cached_property
    def characters(self) -> np.ndarray:
        """(vocabulary,) int64: characters that a token stands for, as :attr:`written`; of their bytes the first one counts."""
        table = np.array([len(text) for text in self.written], dtype=np.int64)
        if self.writes == BYTES:
            for token, number in self.backend.get_vocab(with_added_tokens=True).items():
                table[number] = sum(byte & 0xC0 != 0x80 and not chr(byte).isspace() for byte in _bytes_of(token))
        return table

    def encode_flat(self, texts: Sequence[str], words: str = "tokenizer") -> TokenizedTexts:
        """Tokenise ``texts`` together, without special tokens.

        ``words`` says what a word is: ``tokenizer``, what white space and punctuation cut, each Han character by itself; or
        ``segmenter``, the same with Chinese words (``segmenter.py``; ValueError where the extra is missing).
        """
        if words == "tokenizer":
            return self.encode_placed(texts)[0]
        flat, places = self.encode_placed(texts)
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        places += np.repeat(np.cumsum(lengths + 1) - lengths - 1, np.diff(flat.offsets))
        starts = chinese_word_starts("\n".join(texts), places, flat.offsets, flat.word_starts)
        return TokenizedTexts(flat.ids, starts, flat.offsets)

    def encode_placed(self, texts: Sequence[str]) -> tuple[TokenizedTexts, np.ndarray]:
        """Tokenise ``texts``; return also (N,) int64, the character of its text at which each token begins."""
        encodings = self.backend.encode_batch(list(texts), add_special_tokens=False)
        offsets = np.zeros(len(encodings) + 1, dtype=np.int64)
        np.cumsum([len(encoding) for encoding in encodings], out=offsets[1:])
        count = int(offsets[-1])
        ids = np.fromiter(itertools.chain.from_iterable(e.ids for e in encodings), np.int32, count)
        places = np.fromiter((start for e in encodings for start, _ in e.offsets), np.int64, count)
        if self.cuts_like_bert:
            numbers = np.fromiter(itertools.chain.from_iterable(e.word_ids for e in encodings), np.int32, count)
            return TokenizedTexts(ids, word_starts(numbers, offsets), offsets), places
        places, starts = cut_words(texts, places, offsets)
        return TokenizedTexts(ids, starts, offsets), places

    def encode(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Tokenise each of ``texts``, without special tokens."""
        flat = self.encode_flat(texts)
        bounds = flat.offsets.tolist()
        return [
            TokenizedText(flat.ids[start:end], word_numbers(flat.word_starts[start:end]))
            for start, end in itertools.pairwise(bounds)
        ]

    def encode_inside(self, texts: Sequence[str], spaced: bool | None) -> list[TokenizedText]:
        """Tokenise each of ``texts`` as it stands inside a longer one: after a space, or right after another character.

        ``spaced`` None means at the beginning of the longer one. To BERT all are the same; other tokenizers write the space into
        the token after it. White space around a text is left out, as are tokens of the character put before it here.
        """
        if spaced is None or self.writes == WORDPIECE:
            return self.encode(texts)
        stripped = [text.strip() for text in texts]
        before = ["." if text[:1].isalnum() else "a" for text in stripped]  # what joins no token of the text's
        joined = [f"{first}{' ' if spaced else ''}{text}" for first, text in zip(before, stripped, strict=True)]
        flat, places = self.encode_placed(joined)
        result = []
        for text, (start, end) in zip(stripped, itertools.pairwise(flat.offsets.tolist()), strict=True):
            kept = slice(start + int(np.searchsorted(places[start:end], 1)) if text else end, end)
            if text and (kept.start == end or places[kept.start] != 1 + spaced):  # a token of both
                result += self.encode([text])
            else:
                result.append(TokenizedText(flat.ids[kept], word_numbers(flat.word_starts[kept])))
        return result

    def encode_words(self, words: Sequence[str]) -> TokenizedTexts:
        """Tokenise each of ``words`` of a text that was cut into words: as it stands after a space."""
        return self.encode_flat([f" {word}" for word in words] if self.writes == BYTES else words)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Return the text of ``ids``, special tokens included."""
        return str(self.backend.decode([int(number) for number in ids], skip_special_tokens=False))

    def token(self, number: int) -> str | None:
        """Return the token with this id; None for an id that only pads the vocabulary."""
        return self.backend.id_to_token(number)

    def id(self, token: str) -> int | None:
        """Return the id of ``token``; None where the vocabulary lacks it."""
        return self.backend.token_to_id(token)

    def save(self, folder: Path | str, segments: bool = True, longest: int = 512) -> None:
        """Write the Hugging Face layout into ``folder``, so that ``AutoTokenizer`` opens it.

        Without ``segments`` it is told to give none, for a model that has no use for them; ``longest`` is what it cuts texts to.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        normaliser = description(self.backend.normalizer)
        config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
        if self.writes == WORDPIECE and self.cuts_like_bert and normaliser.get("type") == "BertNormalizer":
            config = {
                "tokenizer_class": "BertTokenizer",
                "do_lower_case": self.lowercase,
                "tokenize_chinese_chars": normaliser["handle_chinese_chars"],
                "strip_accents": normaliser["strip_accents"],
            }
        config |= {"model_max_length": longest, **self.specials.names}
        if not segments:
            config["model_input_names"] = ["input_ids", "attention_mask"]
        _write(folder / "tokenizer.json", self.backend.to_str(pretty=True))
        _write(folder / "tokenizer_config.json", json.dumps(config, indent=2))
        _write(folder / "special_tokens_map.json", json.dumps(self.specials.names, indent=2))
        if self.writes == WORDPIECE:
            entries = sorted(self.backend.get_vocab(with_added_tokens=True).items(), key=lambda entry: entry[1])
            _write(folder / "vocab.txt", "\n".join(token for token, _ in entries))

    @classmethod
    def load(cls, folder: Path | str) -> Tokenizer:
        """Read the tokenizer of a folder.

        Raises ValueError that names the file where there is none, or where it holds another kind of tokenizer.
        """
        opened = open_folder(Path(folder))
        return cls(opened.backend, opened.lowercase, opened.specials)


def _byte_table() -> dict[str, int]:
    """Return the byte that each character of a byte-level token stands for (Radford et al. 2019: printable ones themselves)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(0x100 + place): byte for place, byte in enumerate(byte for byte in range(0x100) if byte not in printable)}


_BYTES = _byte_table()


def _bytes_of(token: str) -> bytes:
    """Return the bytes that a byte-level token stands for; an added token, which is plain text, its own."""
    if all(character in _BYTES for character in token):
        return bytes(_BYTES[character] for character in token)
    return token.encode()


def _write(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")
