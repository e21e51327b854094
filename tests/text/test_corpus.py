from __future__ import annotations

import gzip
import tracemalloc

import pytest

from tofro.text.corpus import read_corpus
from tofro.text.sentences import split_sentences
from tofro.text.settings import CorpusSettings


def settings_for(path, **changes):
    return CorpusSettings(name="text", path=str(path), **changes)


def lines_of(documents):
    return "\n\n".join("\n".join(document) for document in documents) + "\n"


def some_documents(count):
    return [[f"Document {number} begins.", f"It says {number * 7}."] for number in range(count)]


def test_a_file_is_carved_by_content_and_nothing_is_lost(tmp_path):
    documents = some_documents(400)
    path = tmp_path / "novels.txt"
    path.write_text(lines_of(documents))
    corpus = read_corpus(settings_for(path, validation_share=0.1))
    train, validation = list(corpus.documents("train")), list(corpus.documents("validation"))
    assert corpus.name == "novels"
    assert sorted(train + validation) == sorted(documents)
    assert 20 <= len(validation) <= 60
    assert list(corpus.documents("train")) == train  # every pass reads the same

    path.write_text(lines_of(reversed(documents)))
    again = read_corpus(settings_for(path, validation_share=0.1))
    assert sorted(again.documents("validation")) == sorted(validation)  # content decides, not the place
    assert again.fingerprint != corpus.fingerprint


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 0.999])
def test_neither_side_of_a_small_corpus_is_empty(tmp_path, count, share):
    path = tmp_path / "small.txt.gz"
    path.write_bytes(gzip.compress(lines_of(some_documents(count)).encode()))
    corpus = read_corpus(settings_for(path, validation_share=share))
    sizes = [len(list(corpus.documents(split))) for split in ("train", "validation")]
    assert min(sizes) > 0
    assert sum(sizes) == count
    if share in (0.001, 0.999):  # nearly all on one side, as asked
        assert sorted(sizes) == [1, count - 1]
        assert (sizes[1] == 1) == (share < 0.5 or count == 2)


def test_equal_documents_stay_on_one_side(tmp_path):
    path = tmp_path / "c.txt"
    path.write_text(lines_of(some_documents(50) * 2))
    corpus = read_corpus(settings_for(path, validation_share=0.3))
    train, validation = (list(corpus.documents(split)) for split in ("train", "validation"))
    assert not [document for document in validation if document in train]


def test_a_folder_with_both_files_is_taken_as_it_is(tmp_path):
    (tmp_path / "train.txt.gz").write_bytes(gzip.compress(b"One.\n \nTwo.\nThree.\n"))
    (tmp_path / "dev.txt").write_bytes(b"\xef\xbb\xbf\r\nFour.\r\n")
    corpus = read_corpus(settings_for(tmp_path))
    assert list(corpus.documents("train")) == [["One."], ["Two.", "Three."]]
    assert list(corpus.documents("validation")) == [["Four."]]
    assert corpus.name == tmp_path.name


def test_a_folder_with_only_train_is_carved(tmp_path):
    (tmp_path / "train.txt").write_text(lines_of(some_documents(30)))
    corpus = read_corpus(settings_for(tmp_path, validation_share=0.2))
    assert list(corpus.documents("validation"))


def test_paragraphs_are_split_by_language(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("Dr. Smith left, e.g. by train. He slept.\n\nTwo. Three!\n", encoding="utf-8")
    documents = [
        d for split in ("train", "validation") for d in read_corpus(settings_for(path, unit="paragraph")).documents(split)
    ]
    assert sorted(documents) == [["Dr. Smith left, e.g. by train.", "He slept."], ["Two.", "Three!"]]
    assert split_sentences("今天天气很好。我们去公园吧！你呢？", "zh") == ["今天天气很好。", "我们去公园吧！", "你呢？"]
    with pytest.raises(ValueError, match=r"corpus\.language=English"):
        split_sentences("a", "English")
    prints = {read_corpus(settings_for(path, unit=unit)).fingerprint for unit in ("sentence", "paragraph")}
    assert len(prints) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.txt", b"", r"c\.txt: the corpus is empty"),
        ("c.txt", b"\n \n", r"c\.txt: the corpus is empty"),
        ("c.txt", b"One.\n\nTwo \xe9\n", r"c\.txt:3: not UTF-8"),
        ("c.txt", b"One.\n\nTwo \0\n", r"c\.txt:3: a NUL"),
        ("c.txt", b"One.\nTwo.\n", r"c\.txt: a single document"),
        ("c.txt.gz", b"One.\n", r"c\.txt\.gz:1: not readable as gzip"),
        ("c.pdf", b"One.\n", r"corpus\.path: .*c\.pdf ends in none of \.txt"),
    ],
)
def test_a_corpus_that_cannot_be_used_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_corpus(settings_for(tmp_path / name))


def test_paths_that_name_nothing_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"corpus\.path is not set"):
        read_corpus(CorpusSettings(name="text"))
    with pytest.raises(ValueError, match=r"corpus\.path: .*gone\.txt does not exist"):
        read_corpus(settings_for(tmp_path / "gone.txt"))
    with pytest.raises(ValueError, match=r"has no train file .* it holds nothing"):
        read_corpus(settings_for(tmp_path))
    (tmp_path / "train.txt").write_text("One.\n")
    (tmp_path / "train.txt.gz").write_bytes(gzip.compress(b"One.\n"))
    with pytest.raises(ValueError, match=r"has both train\.txt and train\.txt\.gz"):
        read_corpus(settings_for(tmp_path))


def test_one_document_at_a_time_is_in_memory(tmp_path):
    path = tmp_path / "big.txt"
    path.write_text(lines_of([[f"Document {n} " + "word " * 100] for n in range(4000)]))
    assert path.stat().st_size > 2_000_000
    tracemalloc.start()
    corpus = read_corpus(settings_for(path))
    assert sum(1 for split in ("train", "validation") for _ in corpus.documents(split)) == 4000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(("name", "documents"), [("enwiki_sample", 232), ("zhwiki_sample", 117), ("eltec_eng_novels", 108)])
def test_real_corpora_open(shared, name, documents):
    corpus = read_corpus(settings_for(shared / "corpora" / name))
    assert sum(1 for _ in corpus.documents("validation")) == documents
    assert next(corpus.documents("train"))
