"""Paragraphs into sentences, by the rules of a language.

In: a text and an ISO 639-1 code. Out: its sentences, stripped, in order, none empty. The rules (abbreviations, quotes, the
Chinese full stop) are those of the ``sentencex`` library.
"""

from __future__ import annotations

import re
from importlib.metadata import version

from sentencex import segment


def split_sentences(text: str, language: str) -> list[str]:
    """Return the sentences of a text; line breaks inside it count as spaces. Raises ValueError for a code of the wrong form."""
    if not re.fullmatch(r"[a-z]{2,3}", language):
        raise ValueError(f"corpus.language={language}: an ISO 639-1 code such as en or zh was expected")
    stripped = (sentence.strip() for sentence in segment(language, text.replace("\n", " ")))
    return [sentence for sentence in stripped if sentence]


def splitter_version() -> str:
    """Return the name and version of the splitter, for fingerprints of what was split by it."""
    return f"sentencex {version('sentencex')}"
