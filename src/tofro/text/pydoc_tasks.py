"""Three labelled tasks made from documentation strings, with labels that nobody had to write.

In: the modules that ``pydoc_extract`` returns. Out: examples by split. A module, with all its strings, belongs to one split,
and a text occurs once in a task, so that nothing of the test is seen in training. Sizes and classes are evened out by content
hash: the same rows come out for every seed. Left out: settings, metrics, fingerprints.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

from tofro.text.fingerprint import share_of
from tofro.text.pydoc_extract import STDLIB, Entry, Module
from tofro.text.task import Example

SIZES = {"train": 6000, "validation": 1000, "test": 1500}  # rows at most
_SHARES = {"test": 0.25, "validation": 0.4}  # modules up to these hash shares; the rest train
KINDS = ("class", "function", "method", "module")
LIBRARIES = 8
_LEADING_WORDS = 60
_ALIASES = {
    "np",
    "sp",
    "plt",
    "mpl",
    "nx",
    "pl",
    "pytorch",
    "lightning",
    "scikit",
    "cpython",
    "python",
    "numpydoc",
    "weights",
    "biases",
}
_MASK = "_"
_NAME = re.compile(r"[^\W\d]\w*(?:\.\w+)*")


class Candidate(NamedTuple):
    """A row before the choice: its split is its module's."""

    split: str
    group: str  # rows are evened out over groups
    text_a: str
    text_b: str | None
    label: str


def split_of(module: str) -> str:
    """Return the split of a module, by the hash of its dotted path."""
    position = share_of("pydoc", module)
    return next((split for split, share in _SHARES.items() if position < share), "train")


def leading_text(entry: Entry) -> str:
    """Return the first sentences of a string's prose, up to about 60 words and always one."""
    chosen: list[str] = []
    words = 0
    for sentence in (sentence for paragraph in entry.paragraphs for sentence in paragraph):
        words += sentence.count(" ") + 1
        if chosen and words > _LEADING_WORDS:
            break
        chosen.append(sentence)
    return " ".join(chosen)


def build_kind(modules: Sequence[Module]) -> dict[str, list[Example]]:
    """Does the string belong to a module, a class, a method or a function?"""
    candidates = [
        Candidate(split_of(module.name), entry.kind, leading_text(entry), None, entry.kind)
        for module in modules
        for entry in module.entries
        if entry.kind in KINDS and entry.paragraphs
    ]
    return _choose(_unique(candidates))


def build_package(modules: Sequence[Module]) -> dict[str, list[Example]]:
    """Which of the eight libraries with most strings? Names that give one of them away are masked, in all texts alike."""
    counts = Counter(module.package for module in modules for entry in module.entries if entry.paragraphs)
    libraries = sorted(sorted(counts, key=lambda package: (-counts[package], package))[:LIBRARIES])
    kept = [module for module in modules if module.package in libraries]
    candidates = [
        Candidate(split_of(module.name), module.package, leading_text(entry), None, module.package)
        for module in kept
        for entry in module.entries
        if entry.paragraphs
    ]
    hidden = _telling_words(candidates, kept, libraries)
    masked = [candidate._replace(text_a=mask_words(candidate.text_a, hidden)) for candidate in candidates]
    return _choose(_unique(masked))


def build_match(modules: Sequence[Module]) -> dict[str, list[Example]]:
    """Does this signature belong to this string? In a mismatch the string is that of another name in the same package and split.

    Every name occurs once in a package, and the rows of a package and split are split evenly, so the classes balance exactly.
    """
    seen: set[tuple[str, str]] = set()
    groups: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
    for candidate in _unique(_signed(modules)):
        name = candidate.text_a.partition("(")[0]
        if (candidate.group, name) not in seen:
            seen.add((candidate.group, name))
            groups[candidate.split, candidate.group].append(candidate)
    made: list[Candidate] = []
    for rows in groups.values():
        rows.sort(key=_position)
        half = len(rows) // 2
        mismatched = rows[:half] if half > 1 else []  # a shift of fewer than two rows would be the identity
        shifted = [*mismatched[1:], *mismatched[:1]]
        made += [row._replace(text_b=other.text_b, label="mismatch") for row, other in zip(mismatched, shifted, strict=True)]
        made += rows[half : half + len(mismatched)]
    return _choose([candidate._replace(group=candidate.label) for candidate in made])


def mask_words(text: str, hidden: Container[str]) -> str:
    """Return the text with every word or dotted path that is in ``hidden`` replaced by ``_``."""
    return _NAME.sub(lambda match: _MASK if match[0] in hidden else match[0], text)


def _parts(dotted: str) -> list[str]:
    return [part.strip("_") for part in dotted.lower().split(".")]


def _telling_words(candidates: Sequence[Candidate], modules: Iterable[Module], libraries: Sequence[str]) -> set[str]:
    """Return the words and dotted paths to mask: those with a part that is a library's name or alias or tells of one library.

    A part of a module name tells where one library makes more than half of its use, counted as rates, for libraries differ in
    size. Words that are everybody's (``string``, ``data``) tell nothing, and masking them would spoil the text.
    """
    names = {part for module in modules if not module.name.startswith("pydoc_data") for part in _parts(module.name)}
    found: dict[str, Counter[str]] = {library: Counter() for library in libraries}
    for candidate in candidates:
        found[candidate.label].update(_NAME.findall(candidate.text_a))
    parts = {word: [part for part in _parts(word) if len(part) > 1] for counts in found.values() for word in counts}
    rates: dict[str, dict[str, float]] = {library: defaultdict(float) for library in libraries}
    for library, counts in found.items():
        total = counts.total()
        for word, count in counts.items():
            for part in parts[word]:
                if part in names:
                    rates[library][part] += count / total
    telling = {*libraries, *_ALIASES, STDLIB}
    for name in names:
        uses = [rates[library][name] for library in libraries]
        if max(uses) > sum(uses) / 2:
            telling.add(name)
    return {word for word, own in parts.items() if telling.intersection(own)}


def _signed(modules: Iterable[Module]) -> list[Candidate]:
    """Return a candidate for every function and method that takes an argument and is not a special method."""
    return [
        Candidate(split_of(module.name), module.package, entry.signature, leading_text(entry), "match")
        for module in modules
        for entry in module.entries
        if entry.paragraphs and entry.signature and not entry.signature.endswith("()") and not entry.name.startswith("__")
    ]


def _unique(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Keep the first row of every text (the prose of a pair) and none of a text that occurs with two labels."""
    first: dict[str, Candidate] = {}
    labels: dict[str, set[str]] = defaultdict(set)
    for candidate in candidates:
        key = (candidate.text_b or candidate.text_a).casefold()
        first.setdefault(key, candidate)
        labels[key].add(candidate.label)
    return [candidate for key, candidate in first.items() if len(labels[key]) == 1]


def _choose(candidates: Sequence[Candidate]) -> dict[str, list[Example]]:
    """Return each split's rows: at most its size, groups as even as their numbers allow, in the order of their hashes."""
    splits = {}
    for split, size in SIZES.items():
        groups: dict[str, list[Candidate]] = defaultdict(list)
        for candidate in candidates:
            if candidate.split == split:
                groups[candidate.group].append(candidate)
        chosen: list[Candidate] = []
        for place, group in enumerate(sorted(groups, key=lambda group: (len(groups[group]), group))):
            quota = (size - len(chosen)) // (len(groups) - place)  # a small group leaves its room to the larger ones
            if len(groups) > 2 and place == len(groups) - 1:
                quota = min(quota, 2 * len(chosen) // 3)  # no label makes up more than 40%
            chosen += sorted(groups[group], key=_position)[:quota]
        splits[split] = [Example(row.text_a, row.text_b, row.label) for row in sorted(chosen, key=_position)]
    return splits


def _position(candidate: Candidate) -> float:
    return share_of("pydoc row", candidate.text_a, candidate.text_b)
