"""Training of a WordPiece tokenizer: the same text gives the same bytes.

In: settings and texts. Out: a :class:`~tofro.tokens.tokenizer.Tokenizer`. The `tokenizers` trainer numbers continuation
pieces in the order of a randomly seeded hash table, which changes ties and therefore merges from run to run; here the
alphabet and its continuation pieces are counted, cut and numbered first, so that nothing is left to that order.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator

import numpy as np
import tokenizers
from tokenizers import trainers

from tofro.tokens.settings import TokenizerSettings
from tofro.tokens.tokenizer import SPECIALS, Tokenizer, bert_backend


def open_tokenizer(settings: TokenizerSettings, texts: Iterable[str]) -> Tokenizer:
    """Read the tokenizer at ``settings.path``, or train one on ``texts``, which are left unread in the first case."""
    if settings.path is not None:
        return Tokenizer.load(settings.path)
    return train_tokenizer(settings, texts)


def train_tokenizer(settings: TokenizerSettings, texts: Iterable[str]) -> Tokenizer:
    """Train a WordPiece tokenizer on at most ``settings.megabytes`` of ``texts`` (one string per document or sentence).

    The vocabulary may come out smaller than asked for where the text is short. Raises ValueError where there is no text.
    """
    chosen = choose_texts(texts, int(settings.megabytes * 1e6))
    backend = bert_backend({}, settings.lowercase)
    alphabet, continuing = _alphabet(chosen, settings, backend)
    if not alphabet:
        raise ValueError("the corpus holds no text to train a tokenizer on; check corpus.path, or give tokenizer.path")
    trainer = trainers.WordPieceTrainer(
        vocab_size=settings.vocabulary,
        min_frequency=settings.min_frequency,
        special_tokens=[*SPECIALS, *continuing],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    backend.train_from_iterator(chosen, trainer)
    learnt = backend.get_vocab(with_added_tokens=False)
    known = {*SPECIALS, *alphabet, *continuing}
    merges = sorted((token for token in learnt if token not in known), key=lambda token: learnt[token])
    vocabulary = {token: number for number, token in enumerate([*SPECIALS, *alphabet, *continuing, *merges])}
    assert len(vocabulary) <= settings.vocabulary, "the trainer exceeded its vocabulary"
    return Tokenizer(bert_backend(vocabulary, settings.lowercase), settings.lowercase)


def choose_texts(texts: Iterable[str], limit: int) -> list[str]:
    """Keep at most ``limit`` bytes of ``texts``, in their order; where there are more, those with the smallest content hash.

    One pass; memory stays within ``limit`` and one text.
    """
    kept: list[tuple[bytes, int, str, int]] = []
    total = 0
    for number, text in enumerate(texts):
        content = text.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(content, digest_size=16).digest()
        inverted = bytes(255 - byte for byte in digest)  # heapq keeps the smallest on top; the largest hash must go first
        heapq.heappush(kept, (inverted, -number, text, len(content)))
        total += len(content)
        while total > limit and len(kept) > 1:
            total -= heapq.heappop(kept)[3]
    return [text for _, _, text, _ in sorted(kept, key=lambda entry: -entry[1])]


def _alphabet(texts: list[str], settings: TokenizerSettings, backend: tokenizers.Tokenizer) -> tuple[list[str], list[str]]:
    """Return the characters to keep, and the "##" pieces of those that occur inside words.

    The most frequent characters are kept until they and their pieces fill three quarters of the vocabulary.
    """
    normalise, cut = backend.normalizer.normalize_str, backend.pre_tokenizer.pre_tokenize_str
    counts: dict[str, int] = {}
    for character, count in _count_characters(texts):
        for letter in normalise(character):
            if not letter.isspace():
                counts[letter] = counts.get(letter, 0) + count
    room = settings.vocabulary * 3 // 4 - len(SPECIALS)
    alphabet, continuing = [], []
    for letter, count in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])):
        inside = len(cut(normalise(f"a{letter}a"))) == 1
        room -= 2 if inside else 1
        if count < settings.min_frequency or room < 0:
            break
        alphabet.append(letter)
        if inside:
            continuing.append(f"##{letter}")
    return sorted(alphabet), sorted(continuing)


def _count_characters(texts: list[str]) -> Iterator[tuple[str, int]]:
    totals = np.zeros(0x110000, dtype=np.int64)
    for start in range(0, len(texts), 1000):
        joined = "".join(texts[start : start + 1000]).encode("utf-32-le", "surrogatepass")
        found = np.bincount(np.frombuffer(joined, dtype=np.uint32))
        totals[: len(found)] += found
    for code in np.flatnonzero(totals):
        if not 0xD800 <= code < 0xE000:
            yield chr(code), int(totals[code])
