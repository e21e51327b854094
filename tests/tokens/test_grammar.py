from __future__ import annotations

import pytest

from tofro.tokens.grammar import expand

PATTERNS = ["{text_a} <lead> [MASK]<end>", "[MASK]: {text_a}", "{text_a}? [MASK], {text_b}"]
SLOTS = {"lead": ["It was", ""], "end": [".", "!"]}


def test_a_pattern_becomes_every_filling_of_its_slots() -> None:
    first, second = expand(PATTERNS, SLOTS, pair=False)
    assert first == ["{text_a} It was [MASK].", "{text_a} It was [MASK]!", "{text_a} [MASK].", "{text_a} [MASK]!"]
    assert second == ["[MASK]: {text_a}"]


def test_pairs_have_the_patterns_with_both_texts() -> None:
    assert expand(PATTERNS, SLOTS, pair=True) == [["{text_a}? [MASK], {text_b}"]]


def test_what_can_t_be_filled_is_refused_by_its_key() -> None:
    with pytest.raises(ValueError, match=r"prompt.patterns\[0\]: <lead>.*prompt.slots.lead"):
        expand(PATTERNS, {"end": ["."]}, pair=False)
    with pytest.raises(ValueError, match=r"prompt.patterns: none is for pairs"):
        expand(PATTERNS[:1], SLOTS, pair=True)
