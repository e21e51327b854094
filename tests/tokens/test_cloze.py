from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tofro.tokens.cloze import ClozeTemplate, choose_template, choose_templates, read_words, share_room
from tofro.tokens.statements import StatementTemplate
from tofro.tokens.tokenizer import SPECIALS, Tokenizer, bert_backend

ENTRIES = "it was good bad movie a the . ? , yes no un ##believ ##able 好 坏 评 价"
TOKENIZER = Tokenizer(bert_backend({word: index for index, word in enumerate([*SPECIALS, *ENTRIES.split()])}, lowercase=True))


def ids(*words: str) -> list[int]:
    return [TOKENIZER.id(word) for word in words]


def texts(**columns: list[str]) -> list[dict[str, np.ndarray]]:
    encoded = {field: [text.ids for text in TOKENIZER.encode(column)] for field, column in columns.items()}
    return [dict(zip(encoded, row, strict=True)) for row in zip(*encoded.values(), strict=True)]


def cloze(template: str, max_length: int = 32, fields: tuple[str, ...] = ("text_a",)) -> ClozeTemplate:
    return ClozeTemplate(template, fields, TOKENIZER, max_length, "prompt.templates[0]")


def test_a_template_becomes_its_tokens_with_the_mask_marked():
    (filled,) = cloze("{text_a} . It was [MASK] .").fill(texts(text_a=["a good movie"]), 1)
    assert filled.tokens.tolist() == ids("a", "good", "movie", ".", "it", "was", "[MASK]", ".")
    assert filled.masks.tolist() == [6]


def test_one_mask_grows_to_the_tokens_of_the_word():
    (filled,) = cloze("it was [MASK]. {text_a}").fill(texts(text_a=["bad"]), 3)
    assert filled.tokens.tolist() == [*ids("it", "was"), *[TOKENIZER.mask_id] * 3, *ids(".", "bad")]
    assert filled.masks.tolist() == [2, 3, 4]


def test_several_masks_stay_several_wherever_they_stand():
    (filled,) = cloze("[MASK] {text_a} [MASK]").fill(texts(text_a=["a movie"]), 2)
    assert filled.masks.tolist() == [0, 3]


def test_chinese_needs_no_spaces():
    (filled,) = cloze("{text_a}评价[MASK]").fill(texts(text_a=["好价"]), 1)
    assert filled.tokens.tolist() == ids("好", "价", "评", "价", "[MASK]")


def test_characters_that_spell_a_mask_in_a_text_are_not_one():
    (filled,) = cloze("{text_a} was [MASK]").fill(texts(text_a=["a [MASK] movie {text_a}"]), 1)
    assert (filled.tokens == TOKENIZER.mask_id).sum() == 1


@given(st.integers(0, 40), st.integers(0, 40), st.integers(9, 30), st.integers(1, 3))
def test_texts_are_cut_to_fit_and_template_and_masks_never(first: int, second: int, max_length: int, k: int):
    template = cloze("{text_a}? [MASK], {text_b}.", max_length, ("text_a", "text_b"))
    pair = [{"text_a": np.full(first, ids("good")[0]), "text_b": np.full(second, ids("bad")[0])}]
    (filled,) = template.fill(pair, k)
    room = max_length - 2 - 3 - k
    kept = [(filled.tokens == ids(word)[0]).sum() for word in ("good", "bad")]
    assert len(filled.tokens) + 2 <= max_length
    assert filled.tokens[filled.masks].tolist() == [TOKENIZER.mask_id] * k
    assert [token for token in filled.tokens if token in ids("?", ",", ".")] == ids("?", ",", ".")
    assert sum(kept) == min(room, first + second)  # nothing is cut without need
    assert abs(kept[0] - kept[1]) <= max(1, abs(first - second))
    if kept[0] < first and kept[1] < second:
        assert abs(kept[0] - kept[1]) <= 1  # cut symmetrically


def test_a_text_that_stands_twice_is_cut_twice():
    assert share_room({"text_a": 10, "text_b": 3}, {"text_a": 2, "text_b": 1}, 11) == {"text_a": 4, "text_b": 3}
    assert share_room({"text_a": 3, "text_b": 20}, {"text_a": 2, "text_b": 1}, 15) == {"text_a": 3, "text_b": 9}
    assert share_room({"text_a": 10, "text_b": 3}, {"text_a": 1, "text_b": 1}, 13) == {"text_a": 10, "text_b": 3}


def test_words_come_in_the_order_of_the_labels_with_their_pieces():
    words = read_words({"pos": ["good", "unbelievable"], "neg": ["Bad"]}, ("neg", "pos"), TOKENIZER)
    assert [(word.label, word.word, word.ids.tolist()) for word in words] == [
        (0, "Bad", ids("bad")),
        (1, "good", ids("good")),
        (1, "unbelievable", ids("un", "##believ", "##able")),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"pos": ["good"]}, r"prompt\.words\.neg: the label has no word"),
        ({"pos": ["good"], "neg": []}, r"prompt\.words\.neg: the label has no word"),
        ({"pos": ["good"], "neg": ["horrid"]}, r"prompt\.words\.neg\[0\]: .*does not know the word 'horrid'"),
        ({"pos": ["good"], "neg": [" "]}, r"prompt\.words\.neg\[0\]: .*does not know"),
        ({"pos": ["good", "horrid"], "neg": ["bad"]}, r"prompt\.words\.pos\[1\]: .*does not know the word 'horrid'"),
        ({"pos": ["good"], "neg": ["GOOD"]}, r"pos\[0\]: 'good' is the same word as 'GOOD' under prompt\.words\.neg\[0\]"),
        ({"pos": ["good", "good"], "neg": ["bad"]}, r"pos\[1\]: 'good' is the same word as 'good' under prompt\.words\.pos\[0\]"),
        ({"pos": ["good"], "neg": ["bad"], "neutral": ["a"]}, r"prompt\.words\.neutral: .*its labels are neg, pos"),
    ],
)
def test_words_that_can_not_work_are_refused_by_key(words: dict[str, list[str]], message: str):
    with pytest.raises(ValueError, match=message):
        read_words(words, ("neg", "pos"), TOKENIZER)


def test_a_task_without_labels_is_refused():
    with pytest.raises(ValueError, match="classification task"):
        read_words({}, (), TOKENIZER)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{text_a} was good", r"prompt\.templates\[0\]: a cloze template needs a \[MASK\]"),
        ("it was [MASK]", r"prompt\.templates\[0\]: the template holds no text"),
        ("{text} was [MASK]", r"prompt\.templates\[0\]: \{text\} is not a placeholder .* it can hold \{text_a\} and \[MASK\]"),
        ("{text_a} {text_b} [MASK]", r"\{text_b\} is not a placeholder"),
        ("{text_a} {text_b was [MASK]", r"prompt\.templates\[0\]: a brace stands alone .* like \{text_a\}"),
    ],
)
def test_templates_that_can_not_work_are_refused_by_key(template: str, message: str):
    with pytest.raises(ValueError, match=message):
        cloze(template)


def test_a_template_that_fills_the_length_is_refused():
    words = read_words({"pos": ["unbelievable"], "neg": ["bad"]}, ("neg", "pos"), TOKENIZER)
    cloze("{text_a} it was [MASK]", 8).check(words, ("neg", "pos"))
    with pytest.raises(ValueError, match=r"prompt\.templates\[0\].*task\.max_length=7 and leaves no room"):
        cloze("{text_a} it was [MASK]", 7).check(words, ("neg", "pos"))


def test_two_masks_refuse_words_of_another_length():
    words = read_words({"pos": ["好评"], "neg": ["坏"]}, ("neg", "pos"), TOKENIZER)
    with pytest.raises(ValueError, match=r"prompt\.words\.neg\[0\]: '坏' has 1 tokens and the 2 masks"):
        cloze("{text_a}[MASK][MASK]").check(words, ("neg", "pos"))


def test_choosing_a_template_that_is_not_there_is_refused():
    assert choose_template(["a", "b"], 1) == "b"
    with pytest.raises(ValueError, match=r"prompt\.template=2 is out of range: prompt\.templates has 2"):
        choose_template(["a", "b"], 2)
    with pytest.raises(ValueError, match=r"prompt\.templates is empty"):
        choose_template([], 0)


def test_all_templates_are_chosen_with_their_numbers_and_none_twice():
    assert choose_templates(["a", "b"], None) == {0: "a", 1: "b"}
    assert choose_templates(["a", "a"], 1) == {1: "a"}
    with pytest.raises(ValueError, match=r"prompt\.templates\[2\] repeats prompt\.templates\[0\]"):
        choose_templates(["a", "b", "a"], None)
    with pytest.raises(ValueError, match=r"prompt\.templates is empty"):
        choose_templates([], None)
    with pytest.raises(ValueError, match=r"prompt\.template=null .* set prompt\.template to its number"):
        choose_template(["a", "b"], None)


def statement(template: str, max_length: int = 32, pair: bool = False) -> StatementTemplate:
    return StatementTemplate(template, pair, TOKENIZER, max_length, "prompt.templates[0]")


LABEL_WORDS = read_words({"neg": ["bad"], "pos": ["unbelievable"]}, ("neg", "pos"), TOKENIZER)


def test_statements_come_one_per_word_beside_the_text():
    filled = statement("it was {word}.").fill(texts(text_a=["a movie", "no"]), LABEL_WORDS)
    assert [pair.text.tolist() for pair in filled] == [ids("a", "movie")] * 2 + [ids("no")] * 2
    assert filled[2].statement.tolist() == ids("it", "was", "bad", ".")
    assert filled[3].statement.tolist() == ids("it", "was", "un", "##believ", "##able", ".")


def test_statements_of_pair_tasks_hold_the_second_text_and_only_texts_are_cut():
    (bad, _) = statement("{word}, {text_b}.", 12, pair=True).fill(
        [{"text_a": np.full(9, ids("good")[0]), "text_b": np.full(9, ids("no")[0])}], LABEL_WORDS
    )
    assert len(bad.text) + len(bad.statement) + 3 == 12
    assert bad.statement.tolist()[:2] == ids("bad", ",")
    assert bad.statement.tolist()[-1:] == ids(".")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("it was good", r"the same for every label; write \{word\}"),
        ("it was [MASK] {word}", r"holds no \[MASK\]"),
        ("{text_b} {word}", r"\{text_b\} is not a placeholder"),
    ],
)
def test_statements_that_can_not_work_are_refused(template: str, message: str):
    with pytest.raises(ValueError, match=message):
        statement(template)


def test_a_statement_that_fills_the_length_is_refused():
    with pytest.raises(ValueError, match=r"'unbelievable' fills task\.max_length=8"):
        statement("it was {word}", 8).check(LABEL_WORDS)
