"""Documentation strings into plain English sentences.

In: one raw docstring (reST, numpydoc, Google style or plain). Out: its paragraphs, each a list of sentences, with code,
doctests, tables, formulas, references and inline mark-up gone, and apart from them the sentences that explain parameters and
results, whose names and types are gone too. A sentence that can't be freed of these is dropped whole: half a sentence teaches
nothing. Left out: sorting the strings into documents and tasks.
"""

from __future__ import annotations

import re

from tofro.text.sentences import split_sentences

_GONE = "\x00"  # marks what can't be kept; the sentence around it is dropped

_DROPPED_SECTIONS = {
    "see also",
    "references",
    "reference",
    "bibliography",
    "example",
    "examples",
    "usage",
    "shape",
    "example usage",
    "members",
    "citation",
    "contents",
    "signature",
}
_DETAIL_SECTIONS = {
    "parameters",
    "other parameters",
    "params",
    "args",
    "arguments",
    "keyword arguments",
    "keyword args",
    "kwargs",
    "returns",
    "return",
    "return value",
    "yields",
    "yield",
    "receives",
    "raises",
    "raise",
    "warns",
    "throws",
    "attributes",
    "methods",
    "inputs",
    "input",
    "outputs",
    "output",
    "keyword parameters",
    "return type",
    "keyword",
}
_KEPT_DIRECTIVES = {
    "note",
    "warning",
    "tip",
    "important",
    "hint",
    "caution",
    "attention",
    "admonition",
    "versionadded",
    "versionchanged",
}

_UNDERLINE = re.compile(r"([-=~^\"'`#*+.:_])\1{2,}\Z")
_TABLE = re.compile(r"\s*(\+[-=+]+\+|\|.*\||[=-]{2,}(\s+[=-]{2,})+)\s*\Z")
_DIRECTIVE = re.compile(r"\.\.\s+(?:\w+:)?([\w-]+)::\s*(.*)\Z")
_FIELD = re.compile(r":[\w ,.*\\-]+:(\s|\Z)|@\w+\b")
_BULLET = re.compile(r"([-*+•]|\(?\w{1,2}[.)])\s+")
_NAMED = re.compile(r"[*`\w][\w.,*` /-]{0,40}(\([^)]*\))?\s*:(\s+|\Z)")  # ``name (type): `` before an explanation
_SIGNATURE = re.compile(r"[\w.]+\s*\(.*\)?(\s*->.*)?\Z")

# (what a paragraph must hold for the pattern to be worth trying, pattern, what stands in its place)
_INLINE = [
    ("``", re.compile(r"``(.+?)``"), r"\1"),
    ("`", re.compile(r":math:`[^`]*`"), _GONE),
    ("$", re.compile(r"\$\$?[^$]+\$\$?"), _GONE),
    ("|", re.compile(r"\|[\w ]+\|_?"), _GONE),
    ("]_", re.compile(r"\s*\[(?:\d+|#\w*|\w+\d+)\]_"), ""),
    ("`", re.compile(r":[\w:+.-]+:`([^`<]*?)\s*<[^`]*>`"), r"\1"),
    ("`", re.compile(r":[\w:+.-]+:`[~!]?(?:[\w.]*\.)?([^`]*)`"), r"\1"),
    ("`", re.compile(r"`([^`<]*?)\s*<[^`]*>`_*"), r"\1"),
    ("`", re.compile(r"`([^`]*)`_*"), r"\1"),
    ("](", re.compile(r"\[([^\]]+)\]\([^)]*\)"), r"\1"),
    ("://", re.compile(r"\w+://\S+"), _GONE),
    ("**", re.compile(r"\*\*(\S(?:[^*]*\S)?)\*\*"), r"\1"),
    ("*", re.compile(r"(?<![\w*])\*(\S(?:[^*]*\S)?)\*(?![\w*])"), r"\1"),
]
_CODE = re.compile(r"[=<>{}\\|@#$^~*`\[\]\x00]|::|->|\.\.\.|\w\(\S*,|\b(?:www\.|doi:|arXiv:)")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


Paragraphs = list[list[str]]


def clean_docstring(raw: str) -> tuple[Paragraphs, Paragraphs]:
    """Return (paragraphs, details): the prose of a docstring, and what it says of parameters and results; either may be empty."""
    walk = _Walk(raw)
    walk.collect()
    return _split(walk.prose), _split(walk.details)


def _split(paragraphs: list[str]) -> Paragraphs:
    split = []
    for paragraph in paragraphs:
        for sign, pattern, instead in _INLINE:
            if sign in paragraph:
                paragraph = pattern.sub(instead, paragraph)
        sentences = [sentence for sentence in split_sentences(" ".join(paragraph.split()), "en") if is_prose(sentence)]
        if sentences:
            split.append(sentences)
    return split


def is_prose(sentence: str) -> bool:
    """Tell whether a sentence reads as English: 4 to 80 words, mostly letters, begun and ended as one, with no sign of code."""
    words = sentence.count(" ") + 1
    if not 4 <= words <= 80 or sentence[-1] in ":;,-(" or not (sentence[0].isalpha() or sentence[0] in "\"'("):
        return False
    if _CODE.search(sentence):
        return False
    plain = _WORD.findall(sentence)
    return len(plain) >= 0.75 * words and sum(map(len, plain)) >= 0.72 * len(sentence)


class _Walk:
    """Goes over the lines of one docstring once and sorts them into ``prose``, ``details`` and what is dropped."""

    def __init__(self, raw: str) -> None:
        self.lines = _dedent(raw)
        self.at = 0
        self.prose: list[str] = []
        self.details: list[str] = []
        self.open: list[str] = []
        self.section = ""  # "numpy" or "google" inside a section of parameters or results
        self.margin = 0  # of that section's heading
        self.body = 0  # of its first entry

    def collect(self) -> None:
        """Sort all lines."""
        while self.at < len(self.lines):
            line = self.lines[self.at]
            text = line.strip()
            if text and self.section == "google" and _indent(line) <= self.margin:
                self._enter("")
            if not text:
                self._close()
                self.at += 1
            elif not self._drop_block(line, text):
                self._take(line, text)
        self._close()

    def _close(self) -> None:
        if self.open:
            (self.details if self.section else self.prose).append(" ".join(self.open))
        self.open = []

    def _enter(self, section: str, margin: int = 0) -> None:
        self._close()
        self.section, self.margin = section, margin
        following = next((line for line in self.lines[self.at :] if line.strip()), "")
        self.body = _indent(following)

    def _take(self, line: str, text: str) -> None:
        """Keep a line of prose; a bullet or an entry opens a paragraph, a closing ``::`` announces code."""
        self.at += 1
        if self.section == "numpy" and _indent(line) <= self.margin:
            self._close()  # a name with its type
            return
        if self.section == "google" and _indent(line) == self.body:
            self._close()
            text = _NAMED.sub("", text)
        bullet = _BULLET.match(text)
        if bullet:
            self._close()
            text = text[bullet.end() :]
        if not self.open and _SIGNATURE.match(text):
            return
        self.open.append(text)
        if text.endswith("::"):
            self._close()
            self.at -= 1
            self._skip_deeper(_indent(line))

    def _drop_block(self, line: str, text: str) -> bool:
        """Step over what is not prose; return whether anything was stepped over."""
        following = self.lines[self.at + 1].strip() if self.at + 1 < len(self.lines) else ""
        title = text.rstrip(":").strip("*").lower()
        if text.startswith((">>>", "In [", "$ ", "% ")):
            self._skip_paragraph()
        elif text.startswith(("```", "~~~")):
            self._skip_fence(text[:3])
        elif len(following) >= 3 and _UNDERLINE.match(following) and len(text) <= 80:
            self._heading(title, _indent(line))
        elif _UNDERLINE.match(text) or _TABLE.match(text):
            self._close()
            self.at += 1
        elif text.endswith(":") and title in _DROPPED_SECTIONS:
            self._skip_deeper(_indent(line))
        elif text.endswith(":") and title in _DETAIL_SECTIONS:
            self.at += 1
            self._enter("google", _indent(line))
        elif text.startswith(".."):
            self._directive(line, text)
        elif not self.open and _FIELD.match(text):
            self._skip_deeper(_indent(line))
        else:
            return False
        return True

    def _skip_paragraph(self) -> None:
        self._close()
        while self.at < len(self.lines) and self.lines[self.at].strip():
            self.at += 1

    def _skip_fence(self, fence: str) -> None:
        self._close()
        self.at += 1
        while self.at < len(self.lines) and not self.lines[self.at].strip().startswith(fence):
            self.at += 1
        self.at += 1

    def _heading(self, title: str, margin: int) -> None:
        """Step over a heading with its underline, and over the whole section where it is one that holds no prose."""
        self._close()
        self.at += 2
        self._enter("numpy" if title in _DETAIL_SECTIONS else "", margin)
        while title in _DROPPED_SECTIONS and self.at < len(self.lines):
            following = self.lines[self.at + 1].strip() if self.at + 1 < len(self.lines) else ""
            if self.lines[self.at].strip() and len(following) >= 3 and _UNDERLINE.match(following):
                return
            self.at += 1

    def _directive(self, line: str, text: str) -> None:
        """Keep the body of notes and warnings; drop other directives, comments, targets and footnotes with theirs."""
        self._close()
        match = _DIRECTIVE.match(text)
        if match and match[1].lower() in _KEPT_DIRECTIVES:
            self.at += 1
            if match[2] and not match[1].startswith("version"):
                self.open.append(match[2])
        else:
            self._skip_deeper(_indent(line))

    def _skip_deeper(self, indent: int) -> None:
        """Step over this line and the lines below it that are blank or deeper than ``indent``."""
        self._close()
        self.at += 1
        while self.at < len(self.lines) and (not self.lines[self.at].strip() or _indent(self.lines[self.at]) > indent):
            self.at += 1


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _dedent(raw: str) -> list[str]:
    """Split into lines less the indentation that all but the first have in common."""
    lines = raw.expandtabs().split("\n")
    margin = min((_indent(line) for line in lines[1:] if line.strip()), default=0)
    return [lines[0].lstrip(), *(line[margin:].rstrip() for line in lines[1:])]
