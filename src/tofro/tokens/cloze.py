"""Cloze questions: templates and label words become token sequences with masks. Torch-free.

In: a template such as ``"{text_a} It was [MASK]."``, label words, the texts of examples. Out: per example and per number of
masks k one sequence of token ids, without [CLS] and [SEP], and where its masks stand. Texts are cut to fit, the template and
masks never. Leaves out the model: ``modules/prompting.py`` scores the sequences. Every error names the config key that causes
it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tofro.tokens.tokenizer import Tokenizer

MASK = "[MASK]"
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}|(\[MASK\])")


@dataclass(frozen=True)
class Piece:
    """A stretch of a template: literal token ids, a text to fill in (``field``), or a mask (neither)."""

    field: str | None = None
    ids: np.ndarray | None = None
    spaced: bool | None = None  # whether a space stands before what is filled in; None at the template's beginning

    @property
    def is_mask(self) -> bool:
        """Whether this piece is the [MASK]."""
        return self.field is None and self.ids is None


@dataclass(frozen=True)
class LabelWord:
    """A word that stands for a label: class index, the word, its token ids (k,), the config key it comes from."""

    label: int
    word: str
    ids: np.ndarray
    where: str = ""


@dataclass(frozen=True)
class Cloze:
    """One sequence: token ids (n,) without [CLS] and [SEP], and the indices in it of its k masks (k,)."""

    tokens: np.ndarray
    masks: np.ndarray


def choose_template(templates: Sequence[str], index: int | None) -> str:
    """Return ``templates[index]``; ValueError where there is none, or where ``index`` leaves it open."""
    if index is None:
        raise ValueError("prompt.template=null means all templates, and here one is needed; set prompt.template to its number")
    return choose_templates(templates, index)[index]


def choose_templates(templates: Sequence[str], index: int | None) -> dict[int, str]:
    """Return number -> template: ``templates[index]``, or all of them where ``index`` is None.

    ValueError where there is none, or where one stands twice among all, which would give it two votes.
    """
    if not templates:
        raise ValueError("prompt.templates is empty: give at least one, such as '{text_a} It was [MASK].'")
    if index is not None and not 0 <= index < len(templates):
        raise ValueError(f"prompt.template={index} is out of range: prompt.templates has {len(templates)}, counted from 0")
    if index is not None:
        return {index: templates[index]}
    for number, template in enumerate(templates):
        first = templates.index(template)
        if first != number:
            raise ValueError(f"prompt.templates[{number}] repeats prompt.templates[{first}]; leave one of them out")
    return dict(enumerate(templates))


def parse_template(template: str, fields: Sequence[str], tokenizer: Tokenizer, where: str) -> list[Piece]:
    """Split a template into its pieces; literal stretches are tokenised once, here.

    ``fields`` are the placeholders the task can fill, ``where`` the config key for errors. Because the stretches are tokenised
    apart, a placeholder or mask should stand beside a space or punctuation mark, as it does in any sentence. Raises ValueError
    for an unknown placeholder.
    """
    pieces: list[Piece] = []
    end = 0
    for match in _PLACEHOLDER.finditer(template):
        pieces += _literal(template, end, match.start(), tokenizer)
        end, spaced = match.end(), _spaced(template, match.start())
        if match[2]:
            pieces.append(Piece(spaced=spaced))
        elif match[1] in fields:
            pieces.append(Piece(field=match[1], spaced=spaced))
        else:
            known = ", ".join(f"{{{name}}}" for name in fields)
            raise ValueError(f"{where}: {match[0]} is not a placeholder of this task; it can hold {known} and {MASK}")
    if re.search("[{}]", _PLACEHOLDER.sub("", template)):
        raise ValueError(f"{where}: a brace stands alone in {template!r}; placeholders are written like {{{fields[0]}}}")
    return pieces + _literal(template, end, len(template), tokenizer)


def _literal(template: str, start: int, end: int, tokenizer: Tokenizer) -> list[Piece]:
    text = template[start:end]
    if not text.strip():
        return []
    first = end - len(text.lstrip())
    return [Piece(ids=tokenizer.encode_inside([text], _spaced(template, first))[0].ids)]


def _spaced(template: str, place: int) -> bool | None:
    """Say whether a space stands before a place of a template; None where nothing else does."""
    before = template[:place]
    return before[-1].isspace() if before.strip() else None


def place_of(template: str, blank: str) -> bool | None:
    """Say the same of the first ``blank`` of a template, [MASK] or {word}, which label words fill; None where it has none."""
    return _spaced(template, max(template.find(blank), 0))


def read_words(
    words: Mapping[str, Sequence[str]], labels: Sequence[str], tokenizer: Tokenizer, spaced: bool | None = None
) -> list[LabelWord]:
    """Return the label words in the order of ``labels`` (sorted label names of the task).

    ``spaced`` says whether a space stands before them, which some tokenizers write into the word (Tokenizer.encode_inside).
    Raises ValueError for labels that are not the task's, a label without a word, a word that becomes [UNK] or nothing, and one
    word, as the tokenizer sees it, that stands for two labels or twice.
    """
    check_labels(words, labels)
    result: list[LabelWord] = []
    seen: dict[bytes, LabelWord] = {}
    for index, label in enumerate(labels):
        for place, word in enumerate(words[label]):
            where = f"prompt.words.{label}[{place}]"
            ids = tokenizer.encode_inside([word], spaced)[0].ids
            if len(ids) == 0 or tokenizer.unk_id in ids:
                raise ValueError(f"{where}: the tokenizer does not know the word {word!r}; choose one that it can spell")
            read = LabelWord(index, word, ids, where)
            other = seen.setdefault(ids.tobytes(), read)
            if other is not read:
                raise ValueError(f"{where}: {word!r} is the same word as {other.word!r} under {other.where}")
            result.append(read)
    return result


def check_labels(words: Mapping[str, Sequence[str]], labels: Sequence[str]) -> None:
    """Raise ValueError unless ``words`` has at least one entry for each of the task's labels and for nothing else."""
    if not labels:
        raise ValueError("prompt.words: a prompt chooses among labels, and this task has none; use a classification task")
    unknown = [label for label in words if label not in labels]
    if unknown:
        raise ValueError(f"prompt.words.{unknown[0]}: the task has no such label; its labels are {', '.join(labels)}")
    for label in labels:
        if not words.get(label):
            raise ValueError(f"prompt.words.{label}: the label has no word; every label of the task needs one")


class ClozeTemplate:
    """A parsed cloze template that turns texts into sequences.

    A template with one [MASK] grows to k masks for words of k tokens. A template with several takes words of exactly that many
    tokens, one per mask in order. ``max_length`` counts [CLS] and [SEP].
    """

    def __init__(self, template: str, fields: Sequence[str], tokenizer: Tokenizer, max_length: int, where: str) -> None:
        self.pieces = parse_template(template, fields, tokenizer, where)
        self.mask_id, self.max_length, self.where = tokenizer.mask_id, max_length, where
        self.masks = sum(piece.is_mask for piece in self.pieces)
        self.fields = [piece.field for piece in self.pieces if piece.field is not None]
        self.fixed = 2 + sum(len(piece.ids) for piece in self.pieces if piece.ids is not None)
        if self.masks == 0:
            raise ValueError(f"{where}: a cloze template needs a {MASK} for the label word")
        if not self.fields:
            raise ValueError(f"{where}: the template holds no text of the example; put {{text_a}} into it")

    def place(self, field: str) -> bool | None:
        """Return whether a space stands before a text where it first occurs; None where nothing does."""
        return next((piece.spaced for piece in self.pieces if piece.field == field), None)

    def check(self, words: Sequence[LabelWord], labels: Sequence[str]) -> None:
        """Raise ValueError for a word whose number of tokens the masks can't take, or that leaves no room for text."""
        for word in words:
            if self.masks > 1 and len(word.ids) != self.masks:
                where = word.where or f"prompt.words.{labels[word.label]}"
                raise ValueError(
                    f"{where}: {word.word!r} has {len(word.ids)} tokens and the {self.masks} masks of {self.where} take exactly "
                    f"{self.masks}; use one {MASK}, which grows with the word"
                )
            if self._room(len(word.ids)) < 1:
                raise ValueError(
                    f"{self.where}: the template alone fills task.max_length={self.max_length} and leaves no room for the text; "
                    "shorten the one or raise the other"
                )

    def fill(self, texts: Sequence[Mapping[str, np.ndarray]], k: int) -> list[Cloze]:
        """Return one sequence with k masks per example; each of ``texts`` maps a field to its token ids."""
        mask = np.full(k if self.masks == 1 else 1, self.mask_id, np.int64)
        return [self._fill_one(text, mask, self._room(k)) for text in texts]

    def _fill_one(self, text: Mapping[str, np.ndarray], mask: np.ndarray, room: int) -> Cloze:
        times = {name: self.fields.count(name) for name in self.fields}
        keep = share_room({name: len(text[name]) for name in times}, times, room)
        parts: list[np.ndarray] = []
        masks: list[np.ndarray] = []
        length = 0
        for piece in self.pieces:
            if piece.is_mask:
                masks.append(np.arange(length, length + len(mask)))
            part = mask if piece.is_mask else text[piece.field][: keep[piece.field]] if piece.field is not None else piece.ids
            assert part is not None
            parts.append(part)
            length += len(part)
        return Cloze(np.concatenate(parts), np.concatenate(masks))

    def _room(self, k: int) -> int:
        return self.max_length - self.fixed - (k if self.masks == 1 else self.masks)


def share_room(lengths: Mapping[str, int], times: Mapping[str, int], room: int) -> dict[str, int]:
    """Return how many tokens of each text to keep, where text f occurs ``times[f]`` times and all must fit into ``room``.

    Cut symmetrically: the longest texts lose tokens first, down to a common length.
    """
    keep = dict(lengths)
    if sum(times[name] * keep[name] for name in keep) <= room:
        return keep
    left, occurrences = room, sum(times[name] for name in keep)
    for name in sorted(keep, key=lambda name: keep[name]):
        keep[name] = min(keep[name], left // occurrences)
        left -= times[name] * keep[name]
        occurrences -= times[name]
    return keep
