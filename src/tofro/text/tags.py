"""Tags of words: what a row of them must be, which entities they spell, and how a tagging is scored.

In: words and tags of one text, or predicted and true tags. Out: a problem in words, entities, counts whose sums over any division
of the texts give one score. Entities are read by the rules of the CoNLL-2000 evaluation script (Tjong Kim Sang and Buchholz
2000), which are the default of the package seqeval. Left out: tokens, of which a word may have several (batches/tags.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tofro.text.reader import unfit

OUTSIDE = "O"
METRICS = ("entity_f1", "accuracy", "macro_f1")
_PLACES = {"B": "B", "I": "I", "E": "E", "S": "S", "M": "I", "L": "E", "U": "S"}  # BIO, IOBES, BMES and BILOU

Entity = tuple[str, int, int]  # type, first word, word after the last
Counts = list[list[int]]  # rows of right, predicted and true


def tagging_problem(words: object, tags: object, tags_name: str) -> str | None:
    """Say what is wrong with the words of a row, and with its tags where it has any, or None."""
    if not isinstance(words, list) or not words:
        return "an empty list" if words == [] else f"{type(words).__name__}, a list of words was expected"
    for place, word in enumerate(words, 1):
        if not isinstance(word, str):
            return f"a list whose word {place} is {type(word).__name__}, a string was expected"
        if problem := unfit(word):
            return f"a list whose word {place} holds {problem}"
    if not any(word.strip() for word in words):
        return "a list of blank words"
    if tags is None:
        return None
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag.strip() for tag in tags):
        return f"sound, but {tags_name!r} is no list of tags, which are strings"
    return None if len(tags) == len(words) else f"a list of {len(words)} words, but {tags_name!r} has {len(tags)} tags"


def spell_entities(labels: Iterable[str]) -> bool:
    """Say whether tags mark entities, as B-person, I-person, O do; word classes such as NOUN do not."""
    return all(tag == OUTSIDE or _place(tag) is not None for tag in labels)


def entities(tags: Sequence[str]) -> list[Entity]:
    """Return the entities that the tags of one text spell.

    One begins at B and S, and at I or E after O, after the end of another, or where the type changes; it ends before O and before
    the next. A tag without a place, such as NOUN, counts as I: a run of equal ones is an entity.
    """
    found: list[Entity] = []
    begin, last_place, last_type = 0, OUTSIDE, ""
    for number, tag in enumerate([*tags, OUTSIDE]):
        place, kind = _split(tag)
        new = place in "BS" or last_place in "OES" or kind != last_type
        if last_place != OUTSIDE and (place == OUTSIDE or new):
            found.append((last_type, begin, number))
        if new:
            begin = number
        last_place, last_type = place, kind
    return found


def count_tags(metric: str, labels: Sequence[str], predicted: Sequence[Sequence[str]], true: Sequence[Sequence[str]]) -> Counts:
    """Return what :func:`score_counts` needs of the ``predicted`` and ``true`` tags of some texts; rows of several calls add up.

    One row for entity_f1 (entities) and accuracy (words), one for each of ``labels`` for macro_f1.
    """
    assert metric in METRICS, metric
    pairs = [pair for one, other in zip(predicted, true, strict=True) for pair in zip(one, other, strict=True)]
    if metric == "accuracy":
        return [[sum(one == other for one, other in pairs), len(pairs), len(pairs)]]
    if metric == "macro_f1":
        rows = {label: [0, 0, 0] for label in labels}
        for one, other in pairs:
            for place, tag, counted in ((0, one, one == other), (1, one, True), (2, other, True)):
                if tag in rows:  # O, which stands for words that no model saw, may be none of the labels
                    rows[tag][place] += counted
        return list(rows.values())
    found = [(set(entities(one)), set(entities(other))) for one, other in zip(predicted, true, strict=True)]
    return [[sum(len(mine & theirs) for mine, theirs in found), *(sum(map(len, side)) for side in zip(*found, strict=True))]]


def score_counts(counts: Sequence[Sequence[float]]) -> float:
    """Return the mean over rows of F1 = 2 · right / (predicted + true), rows that occur in neither left out; 0 without any.

    Accuracy is the case in which every word is predicted and true once.
    """
    scores = [2 * right / (predicted + true) for right, predicted, true in counts if predicted + true]
    return sum(scores) / len(scores) if scores else 0.0


def _place(tag: str) -> str | None:
    return _PLACES.get(tag[0]) if len(tag) == 1 or tag[1] == "-" else None


def _split(tag: str) -> tuple[str, str]:
    """Return (one of B, I, E, S, O; type) of a tag."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    place = _place(tag)
    return ("I", tag) if place is None else (place, tag[2:])
