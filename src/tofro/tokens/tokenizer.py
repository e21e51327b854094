"""The tokenizer: text in, token ids and word ids out.

A thin layer over the `tokenizers` library that fixes one family, BERT's WordPiece: special tokens, normaliser, files. It
never adds special tokens by itself (packing does) and never reads one out of a text: the characters "[SEP]" in a corpus are
just characters. Training lives in ``training.py``.
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
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from tofro.tokens.segmenter import chinese_word_starts
from tofro.tokens.words import word_numbers, word_starts

# Data loading processes are forked after the library's threads have run; they never tokenise, so the library need not warn.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


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
    """A BERT WordPiece tokenizer.

    ``vocabulary`` is the number of rows an embedding table needs: the number of entries, rounded up to a multiple of 64.
    ``size`` is the number of entries.
    """

    def __init__(self, backend: tokenizers.Tokenizer, lowercase: bool = True) -> None:
        """Wrap a WordPiece ``backend`` that has the five special tokens of BERT."""
        backend.no_padding()
        backend.no_truncation()
        self.fingerprint = hashlib.sha256(backend.to_str().encode()).hexdigest()
        backend.encode_special_tokens = True
        self.backend = backend
        self.lowercase = lowercase
        self.size = max(backend.get_vocab(with_added_tokens=True).values()) + 1
        self.vocabulary = -(-self.size // 64) * 64
        ids = [backend.token_to_id(token) for token in SPECIALS]
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (int(i) for i in ids if i is not None)
        self.special_ids = np.array([self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id])

    @cached_property
    def special(self) -> np.ndarray:
        """(vocabulary,) bool: ids that are special or stand for nothing, and so are neither masked nor drawn at random."""
        table = np.ones(self.vocabulary, dtype=bool)
        names = self.backend.get_vocab(with_added_tokens=True)
        table[[number for token, number in names.items() if not token.startswith("[unused")]] = False
        table[self.special_ids] = True
        return table

    @cached_property
    def punctuation(self) -> np.ndarray:
        """(vocabulary,) bool: tokens without a letter or a digit."""
        table = np.zeros(self.vocabulary, dtype=bool)
        for token, number in self.backend.get_vocab(with_added_tokens=True).items():
            table[number] = not any(character.isalnum() for character in token)
        return table

    @cached_property
    def characters(self) -> np.ndarray:
        """(vocabulary,) int64: characters that a token stands for, the mark of a continuation ("##") not counted."""
        table = np.zeros(self.vocabulary, dtype=np.int64)
        mark = self.backend.model.continuing_subword_prefix
        for token, number in self.backend.get_vocab(with_added_tokens=True).items():
            table[number] = len(token.removeprefix(mark))
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
        numbers = np.fromiter(itertools.chain.from_iterable(e.word_ids for e in encodings), np.int32, count)
        places = np.fromiter((start for e in encodings for start, _ in e.offsets), np.int64, count)
        return TokenizedTexts(ids, word_starts(numbers, offsets), offsets), places

    def encode(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Tokenise each of ``texts``, without special tokens."""
        flat = self.encode_flat(texts)
        bounds = flat.offsets.tolist()
        return [
            TokenizedText(flat.ids[start:end], word_numbers(flat.word_starts[start:end]))
            for start, end in itertools.pairwise(bounds)
        ]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Return the text of ``ids``, special tokens included."""
        return str(self.backend.decode([int(number) for number in ids], skip_special_tokens=False))

    def token(self, number: int) -> str | None:
        """Return the token with this id; None for an id that only pads the vocabulary."""
        return self.backend.id_to_token(number)

    def id(self, token: str) -> int | None:
        """Return the id of ``token``; None where the vocabulary lacks it."""
        return self.backend.token_to_id(token)

    def save(self, folder: Path | str) -> None:
        """Write the Hugging Face layout into ``folder``, so that ``AutoTokenizer`` opens it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIALS, strict=True))
        config: dict[str, Any] = {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self.lowercase,
            "tokenize_chinese_chars": True,
            "strip_accents": None,
            "model_max_length": 512,
            **names,
        }
        entries = sorted(self.backend.get_vocab(with_added_tokens=True).items(), key=lambda entry: entry[1])
        _write(folder / "tokenizer.json", self.backend.to_str(pretty=True))
        _write(folder / "tokenizer_config.json", json.dumps(config, indent=2))
        _write(folder / "special_tokens_map.json", json.dumps(names, indent=2))
        _write(folder / "vocab.txt", "\n".join(token for token, _ in entries))

    @classmethod
    def load(cls, folder: Path | str) -> Tokenizer:
        """Read a BERT-type folder: its tokenizer.json, or its vocab.txt where that is all there is.

        Raises ValueError that names the file where there is none, or where it holds another family of tokenizers.
        """
        folder = Path(folder)
        config = _read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
        if (folder / "tokenizer.json").is_file():
            backend, lowercase = _open_json(folder / "tokenizer.json")
        elif (folder / "vocab.txt").is_file():
            backend, lowercase = _open_vocabulary(folder / "vocab.txt", config)
        else:
            raise ValueError(f"{folder}: no tokenizer.json and no vocab.txt; tokenizer.path must name a folder with one of them")
        missing = [token for token in SPECIALS if backend.token_to_id(token) is None]
        if missing:
            raise ValueError(f"{folder}: the vocabulary lacks {', '.join(missing)}; tofro needs a BERT-type tokenizer")
        return cls(backend, lowercase)


def bert_backend(
    vocabulary: dict[str, int], lowercase: bool, strip_accents: bool | None = None, chinese: bool = True
) -> tokenizers.Tokenizer:
    """Build the library's tokenizer from ``vocabulary`` (token -> id), as BERT's own code tokenises (Devlin et al. 2019)."""
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=SPECIALS[1]))
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=strip_accents, handle_chinese_chars=chinese
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    if vocabulary:
        present = [token for token in SPECIALS if token in vocabulary]
        backend.add_special_tokens(present)
    if "[CLS]" in vocabulary and "[SEP]" in vocabulary:
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
        )
    return backend


def _open_json(path: Path) -> tuple[tokenizers.Tokenizer, bool]:
    layout = _read_json(path)
    family = (layout.get("model") or {}).get("type", "unknown")
    if family != "WordPiece":
        raise ValueError(f"{path}: a tokenizer of type {family}; tofro reads BERT-type (WordPiece) tokenizers")
    try:
        backend = tokenizers.Tokenizer.from_str(json.dumps(layout))
    except Exception as error:  # the library raises bare Exception
        raise ValueError(f"{path}: not a tokenizer that the tokenizers library reads ({error})") from error
    return backend, bool((layout.get("normalizer") or {}).get("lowercase", False))


def _open_vocabulary(path: Path, config: dict[str, Any]) -> tuple[tokenizers.Tokenizer, bool]:
    lines = path.read_text(encoding="utf-8").split("\n")
    entries = [line.rstrip("\r") for line in lines]
    while entries and not entries[-1]:
        entries.pop()
    lowercase = bool(config.get("do_lower_case", True))
    vocabulary = {token: number for number, token in enumerate(entries)}
    if len(vocabulary) != len(entries):
        raise ValueError(f"{path}: {len(entries) - len(vocabulary)} entries occur twice; each line must hold another token")
    backend = bert_backend(vocabulary, lowercase, config.get("strip_accents"), bool(config.get("tokenize_chinese_chars", True)))
    return backend, lowercase


def _read_json(path: Path) -> dict[str, Any]:
    try:
        layout = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(layout, dict):
        raise ValueError(f"{path}: expected a JSON object")
    return layout


def _write(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")
