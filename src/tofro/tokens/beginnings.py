"""The part of a long text that a model can see, so that the rest need not be tokenised.

In: a text and how many of its tokens fit. Out: a beginning of it that has these tokens and some more. A text of fifty million
characters of which 126 tokens are read costs no more than a page.
"""

from __future__ import annotations

from tofro.tokens.tokenizer import Tokenizer

PER_TOKEN = 64  # characters that are enough for a token, mostly; where they are not, more are looked at
SLACK = 64  # further tokens, so that what is cut through at the end is none of those that count
MOST = 1 << 20  # characters looked at; of a text with fewer tokens than fit in so many, the rest is left out


def beginning(text: str, room: int, tokenizer: Tokenizer) -> str:
    """Return ``text``, or a beginning of it with the same first ``room`` tokens, and more than that in all."""
    size = PER_TOKEN * (room + SLACK)
    while size < min(len(text), MOST):
        if len(tokenizer.encode_flat([text[:size]]).ids) >= room + SLACK:
            return text[:size]
        size *= 4
    return text[:MOST]
