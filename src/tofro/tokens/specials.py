"""The special tokens of a tokenizer and how it lays out texts: [CLS] A [SEP], and [CLS] A [SEP] B [SEP] or <s> A </s></s> B </s>.

In: a backend of the `tokenizers` library and what its folder's JSON files name. Out: :class:`Specials`. Where the post-processor
puts tokens around a text, these are the first and the last; the others go by name. A tokenizer that lays texts out in another
way, or whose files contradict one another, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tokenizers

PARTS = ("pad", "unk", "cls", "sep", "mask")
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ROBERTA = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")
_USUAL = {part: names for part, *names in zip(PARTS, SPECIALS, _ROBERTA, strict=True)}


@dataclass(frozen=True)
class Specials:
    """Special tokens by their part, and how two texts are told apart."""

    pad: str = SPECIALS[0]
    unk: str | None = SPECIALS[1]  # None where every text can be spelt
    cls: str = SPECIALS[2]
    sep: str = SPECIALS[3]
    mask: str = SPECIALS[4]
    separators: int = 1  # between the two texts of a pair
    second: int = 1  # segment of the second text and of the [SEP] after it

    @property
    def names(self) -> dict[str, str]:
        """The tokens under the keys of Hugging Face's files: ``pad_token`` and so on."""
        found = {f"{part}_token": getattr(self, part) for part in PARTS}
        return {key: token for key, token in found.items() if token is not None}


BERT_SPECIALS = Specials()


def find_specials(backend: tokenizers.Tokenizer, configs: Sequence[Mapping[str, Any]], where: object) -> Specials:
    """Return the special tokens of ``backend``; ``configs`` are JSON objects that may name them, the first one that does counts.

    Raises ValueError, beginning with ``where``, for a missing token and for a layout that tofro has not.
    """
    named = {part: _named(f"{part}_token", configs) for part in PARTS}
    found: dict[str, str | None] = {}
    for part, usual in _USUAL.items():
        tokens = [token for token in (named[part], *usual) if token is not None]
        found[part] = next((token for token in tokens if backend.token_to_id(token) is not None), None)
    try:
        around = _around(backend)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # how the library fails where a layout names a token that it does not list
            raise
        raise ValueError(f"{where}: the post-processor of tokenizer.json is damaged ({error})") from None
    if around is None:
        separators, second = (1, 1) if found["sep"] == SPECIALS[3] else (2, 0)  # BERT's layout, or RoBERTa's
    else:
        found["cls"], separators, found["sep"], second = around
        if separators not in (1, 2):
            raise ValueError(f"{where}: {_strange(backend)}")
        differing = next((part for part in ("cls", "sep") if named[part] not in (None, found[part])), None)
        if differing:
            raise ValueError(
                f"{where}: tokenizer.json puts {found[differing]} where tokenizer_config.json names {named[differing]} as "
                f"{differing}_token; save the tokenizer again with transformers, which makes them agree"
            )
    missing = [_USUAL[part][0] for part in PARTS if found[part] is None and part != "unk"]
    if missing:
        raise ValueError(
            f"{where}: the vocabulary lacks {', '.join(missing)}; tofro needs tokens for padding, masks, and the beginning and "
            "end of a text, as the tokenizers of BERT, RoBERTa and their kin have them"
        )
    return Specials(**found, separators=separators, second=second)  # type: ignore[arg-type]


def _named(key: str, configs: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the token that the first of ``configs`` to have ``key`` gives it: a string, or an object with ``content``."""
    given = (config.get(key) for config in configs)
    tokens = (token.get("content") if isinstance(token, Mapping) else token for token in given)
    return next((token for token in tokens if isinstance(token, str)), None)


def _around(backend: tokenizers.Tokenizer) -> tuple[str | None, int, str | None, int] | None:
    """Return what the post-processor puts around texts: first token, how many between two texts, last token, last segment.

    None where it adds nothing; no separators where it is not [CLS] A [SEP] with separators alike.
    """
    if backend.post_processor is None:
        return None
    alone, pair = backend.encode(""), backend.encode("", "")
    if not pair.ids:
        return None
    fits = len(alone.tokens) == 2 and pair.tokens[:1] == alone.tokens[:1]
    fits = fits and all(token == alone.tokens[-1] for token in pair.tokens[1:])
    if not fits:
        return None, 0, None, 0
    return alone.tokens[0], len(pair.tokens) - 2, alone.tokens[-1], pair.type_ids[-1]


def _strange(backend: tokenizers.Tokenizer) -> str:
    alone, pair = backend.encode(""), backend.encode("", "")
    return (
        f"its post-processor puts {' '.join(alone.tokens)} around a text and {' '.join(pair.tokens)} around two; tofro has "
        "[CLS] A [SEP], and one or two [SEP] between two texts"
    )
