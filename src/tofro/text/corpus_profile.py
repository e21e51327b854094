"""What a corpus looks like: documents, lines, characters, scripts, the longest line, repeated documents.

In: text files, documents between blank lines. Out: plain numbers that JSON holds. A line is in memory at a time, and eight bytes
of a document are kept.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tofro.text.documents import LONGEST_LINE
from tofro.text.lines import Tell, read_lines

BLOCK = 1 << 20  # characters whose tokens are counted at a time
LANGUAGES = {  # what is mostly written in a script; of several languages, no more can be said from letters alone
    "LATIN": "a language in Latin letters (English, German, Spanish, ...)",
    "CYRILLIC": "a language in Cyrillic letters (Russian, Ukrainian, Bulgarian, ...)",
    "ARABIC": "a language in Arabic letters (Arabic, Persian, Urdu, ...)",
    "DEVANAGARI": "a language in Devanagari (Hindi, Marathi, Nepali, ...)",
    "GREEK": "Greek",
    "HEBREW": "Hebrew",
    "HANGUL": "Korean",
    "THAI": "Thai",
    "HAN": "Chinese",
}
KANA = ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA")
JAPANESE = 0.05  # share of kana from which Han characters are taken for Japanese


@dataclass
class CorpusProfile:
    """What was met in the files of one split."""

    count_tokens: Callable[[list[str]], int] | None = None
    documents: array[int] = field(default_factory=lambda: array("q"))  # a hash of each
    lines: int = 0
    characters: Counter[str] = field(default_factory=Counter)
    longest: int = 0  # characters of the longest line
    longest_at: str = ""
    nul: list[str] = field(default_factory=list)
    tokens: int = 0
    _waiting: list[str] = field(default_factory=list)
    _waits: int = 0

    def add_file(self, path: Path, tell: Tell | None = None) -> None:
        """Count the documents of a file."""
        document, latest, length = 0, 0, 0
        for number, line in read_lines(path, tell, LONGEST_LINE):
            length = length + len(line) if number == latest else len(line)
            if length > self.longest:
                self.longest, self.longest_at = length, f"{path.name}:{number}"
            if "\0" in line and len(self.nul) < 5:
                self.nul.append(f"{path.name}:{number}")
            self.characters.update(line)
            text = line.strip()
            if text:
                self.lines += number != latest
                document = hash((document, text)) or 1
                self._count(text)
            elif number != latest and document:
                self.documents.append(document)
                document = 0
            latest = number
        if document:
            self.documents.append(document)

    def _count(self, text: str) -> None:
        if self.count_tokens is None:
            return
        self._waiting.append(text)
        self._waits += len(text)
        if self._waits >= BLOCK:
            self.settle()

    def settle(self) -> None:
        """Count the tokens that are owed."""
        if self.count_tokens is not None and self._waiting:
            self.tokens += self.count_tokens(self._waiting)
        self._waiting, self._waits = [], 0

    def numbers(self) -> dict[str, Any]:
        """Return everything as JSON holds it."""
        self.settle()
        scripts = scripts_of(self.characters.items())
        found: dict[str, Any] = {
            "documents": len(self.documents),
            "repeated_documents": len(self.documents) - len(np.unique(np.asarray(self.documents))),
            "lines": self.lines,
            "characters": sum(self.characters.values()),
            "different_characters": len(self.characters),
            "scripts": scripts,
            "language": guess_language(scripts),
            "longest_line": {"characters": self.longest, "at": self.longest_at},
            "nul_characters_at": self.nul,
        }
        return found | ({} if self.count_tokens is None else {"tokens": self.tokens})


def scripts_of(counts: Iterable[tuple[str, int]]) -> dict[str, float]:
    """Return the share of each script among the letters, the largest first; shares below a thousandth are left out."""
    letters: Counter[str] = Counter()
    for character, count in counts:
        if character.isalpha():
            script = unicodedata.name(character, "OTHER").partition(" ")[0]
            letters["HAN" if script == "CJK" else script] += count
    total = sum(letters.values())
    return {script: round(count / total, 4) for script, count in letters.most_common() if count >= total / 1000}


def guess_language(scripts: dict[str, float]) -> str:
    """Say which language a text may be in, as far as its letters tell."""
    if not scripts:
        return "unknown: it has no letters"
    if sum(scripts.get(script, 0.0) for script in KANA) >= JAPANESE:
        return "Japanese, by its kana"
    script, share = next(iter(scripts.items()))
    said = LANGUAGES.get(script, f"a language in the script {script.title()}")
    return said if share > 0.5 else f"mixed; most letters are of {said}"
