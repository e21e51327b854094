"""Where whole words can be found, and what is said where they can't."""

from __future__ import annotations

import warnings

import pytest

from tofro.text.corpus import Corpus
from tofro.text.settings import CorpusSettings, word_source
from tofro.tokens import segmenter
from tofro.tokens.languages import find_words, spaceless_share, warn_of_rate

ENGLISH = "The river runs by the old mill, and 中国 is named once."
CHINESE = "这条河流过老磨坊，English 只出现一次。"
JAPANESE = "この川は古い水車小屋のそばを流れています。"
THAI = "แม่น้ำไหลผ่านโรงสีเก่า"
KOREAN = "강은 오래된 방앗간 옆을 흐른다."


def look(text: str, unit: str = "word", **keys: str) -> str:
    settings = CorpusSettings(name="toy", **keys)
    corpus = Corpus("toy", "f", {"train": [[text], [text]]}, words=word_source(settings.words, settings.language))
    return find_words(corpus, settings, unit)


@pytest.fixture
def no_segmenter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmenter, "LIBRARY", "a_library_that_is_not_there")
    segmenter._segmenter.cache_clear()


@pytest.mark.parametrize("unit", ["word", "span", "token"])
def test_words_come_from_where_the_language_shows_them(unit: str) -> None:
    assert look(ENGLISH, unit) == "tokenizer"
    assert look(KOREAN, unit, language="ko") == "tokenizer"
    assert look("12 . 34", unit) == "tokenizer"
    for language in ("zh", "zh-CN", "zh_Hant"):
        assert look(CHINESE, unit, language=language) == "segmenter"
    assert look(CHINESE, unit, language="zh", words="tokenizer") == "tokenizer"


@pytest.mark.parametrize("unit", ["word", "span"])
@pytest.mark.parametrize(("text", "language"), [(JAPANESE, "ja"), (THAI, "th"), ("", "lo"), ("", "km"), ("", "my")])
def test_a_language_without_spaces_is_refused(text: str, language: str, unit: str) -> None:
    ways_out = rf"corpus.language={language}: .* set corpus.words=tokenizer .* or objective.mask_unit=token"
    with pytest.raises(ValueError, match=ways_out):
        look(text, unit, language=language)
    assert look(text, unit, language=language, words="tokenizer") == "tokenizer"
    assert look(text, "token", language=language) == "tokenizer"


@pytest.mark.parametrize("text", [CHINESE, JAPANESE, THAI])
def test_text_that_is_not_what_it_is_declared_to_be_is_refused(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"corpus toy: corpus.language=en, but .* \(zh for Chinese\).* objective.mask_unit=token"
    ):
        look(text)
    assert look(text, words="tokenizer") == "tokenizer"
    assert look(text, "token") == "tokenizer"


def test_only_the_beginning_of_a_corpus_is_read() -> None:
    def documents():  # type: ignore[no-untyped-def]
        yield [CHINESE] * 2000
        raise AssertionError("read too far")

    assert spaceless_share(Corpus("toy", "f", {"train": documents()})) > 0.5
    assert spaceless_share(Corpus("toy", "f", {"train": [[ENGLISH]]})) < 0.1


@pytest.mark.parametrize("unit", ["word", "span"])
@pytest.mark.usefixtures("no_segmenter")
def test_a_missing_segmenter_is_refused(unit: str) -> None:
    with pytest.raises(
        ValueError, match=r"pip install 'tofro\[zh\]', or set corpus.words=tokenizer .* objective.mask_unit=token"
    ):
        look(CHINESE, unit, language="zh")


@pytest.mark.usefixtures("no_segmenter")
def test_tokens_need_no_segmenter_but_evaluation_would() -> None:
    with pytest.warns(UserWarning, match="held-out masks hide characters"):
        assert look(CHINESE, "token", language="zh") == "tokenizer"


def test_chinese_words_at_an_english_rate_warn() -> None:
    with pytest.warns(UserWarning, match=r"objective.mask_rate=0.15: .* roberta_zh used 0.1"):
        warn_of_rate("segmenter", "word", 0.15)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_rate("segmenter", "word", 0.1)
        warn_of_rate("segmenter", "token", 0.15)
        warn_of_rate("tokenizer", "word", 0.15)
