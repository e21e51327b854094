"""Tokenizers of published folders: byte-level BPE and SentencePiece beside WordPiece, against transformers and the text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from tests.kinds import KINDS, TEXTS, byte_level, template, unigram, write
from tofro.batches.packing import pack
from tofro.batches.tags import tokenise_words
from tofro.tokens.cloze import ClozeTemplate, read_words
from tofro.tokens.opening import open_folder
from tofro.tokens.pieces import Encoder
from tofro.tokens.tokenizer import Tokenizer
from tofro.tokens.workers import Workers

OTHERS = [name for name in KINDS if name != "WordPiece"]
HARD = [*"aé1\u0301,.'’中字狐 \t\u3000½ß#[]🙂", "the", "quick", " fox", "doesn't", " dogs", "\u2026", "e-mail", "  "]
TEXT = st.lists(st.sampled_from(HARD), max_size=12).map("".join)
LONG = "The quick-brown fox doesn't believe the dogs, naïve 狐狸跳过了狗。 🙂"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each kind."""
    whole = tmp_path_factory.mktemp("kinds")
    return {kind: write(whole / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def kinds(folders: dict[str, Path]) -> dict[str, Tokenizer]:
    return {kind: Tokenizer.load(folder) for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def peers(folders: dict[str, Path]) -> dict[str, Any]:
    """The same folders as transformers opens them."""
    transformers = pytest.importorskip("transformers")
    return {kind: transformers.AutoTokenizer.from_pretrained(folder) for kind, folder in folders.items()}


def packed(tokenizer: Tokenizer, *texts: str) -> Any:
    flat = tokenizer.encode_flat(texts)
    starts, lengths = flat.offsets[None, :-1], np.diff(flat.offsets)[None]
    return pack(flat.ids, flat.word_starts, starts, lengths, tokenizer)


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_are_those_of_transformers(kind: str, kinds: dict[str, Tokenizer], peers: dict[str, Any]) -> None:
    tokenizer, peer = kinds[kind], peers[kind]
    for texts in ((LONG,), (LONG, "it isn't"), ("a", "狗")):
        expected = peer(*texts, return_token_type_ids=True)
        found = packed(tokenizer, *texts)
        assert found.tokens.tolist() == expected["input_ids"]
        assert found.segments.tolist() == expected["token_type_ids"]
        assert len(found.tokens) == tokenizer.added(len(texts)) + len(tokenizer.encode_flat(texts).ids)
    named = {part: getattr(peer, f"{part}_token_id") for part in ("pad", "unk", "cls", "sep", "mask")}
    assert named == {part: getattr(tokenizer, f"{part}_id") for part in named}
    assert tokenizer.special[list(named.values())].all()


@settings(deadline=None, max_examples=80)
@given(text=TEXT)
@pytest.mark.parametrize("kind", OTHERS)
def test_words_are_berts_as_far_as_tokens_end_there(kind: str, kinds: dict[str, Tokenizer], text: str) -> None:
    tokenizer = kinds[kind]
    flat, places = tokenizer.encode_placed([text])
    cuts = {start for _, (start, _) in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text)}
    cuts |= {place + after for place, character in enumerate(text) if character in "中字狐" for after in (0, 1)}
    seen: set[int] = set()
    for place, starts in zip(places.tolist(), flat.word_starts.tolist(), strict=True):
        if place < len(text) and not text[place].isspace():
            assert starts == (place not in seen and (place in cuts or not seen)), (text, place)
            seen.add(place)


@pytest.mark.parametrize("kind", OTHERS)
def test_the_tokens_of_one_character_are_one_word(kind: str, kinds: dict[str, Tokenizer]) -> None:
    encoded = kinds[kind].encode(["🙂 狐狸, 🙂"])[0]
    assert encoded.word_ids[-1] + 1 == len(["🙂", "狐", "狸", ",", "🙂"])
    if kind != "XLM-R":
        assert len(encoded.ids) > encoded.word_ids[-1] + 1


@pytest.mark.parametrize("kind", OTHERS)
def test_chinese_words_have_a_segmenter(kind: str, kinds: dict[str, Tokenizer]) -> None:
    pytest.importorskip("rjieba", reason="needs the extra zh")
    _, places = kinds[kind].encode_placed(["我们去北京大学 fox."])
    words = kinds[kind].encode_flat(["我们去北京大学 fox."], "segmenter").word_starts
    starts = {place for place, begins in zip(places.tolist(), words.tolist(), strict=True) if begins}
    assert starts <= {0, 2, 3, 8, 11}
    assert {0, 8} <= starts


@pytest.mark.parametrize("kind", KINDS)
def test_running_text_gives_the_tokens_of_every_sentence(kind: str, kinds: dict[str, Tokenizer]) -> None:
    sentences = [*TEXTS[:4], "", LONG]
    encoder, flat = Encoder(kinds[kind]), kinds[kind].encode_flat(sentences)
    assert encoder.by_pieces == (kind == "WordPiece")
    found = encoder.encode("".join(f"{sentence}\n" for sentence in sentences))
    assert np.array_equal(found.ids, flat.ids)
    assert np.array_equal(found.word_starts, flat.word_starts)
    assert found.lengths.tolist() == np.diff(flat.offsets).tolist()


def test_a_worker_has_the_whole_tokenizer(kinds: dict[str, Tokenizer]) -> None:
    text = "".join(f"{sentence}\n" for sentence in TEXTS[:4])
    with Workers(kinds["RoBERTa"], "tokenizer", 1) as workers:
        workers.send(0, text)
        found = workers.receive(0)
    assert np.array_equal(found.ids, Encoder(kinds["RoBERTa"]).encode(text).ids)


@settings(deadline=None, max_examples=60)
@given(text=TEXT)
@pytest.mark.parametrize("kind", ["RoBERTa", "ModernBERT"])
def test_tokens_of_bytes_count_each_character_once(kind: str, kinds: dict[str, Tokenizer], text: str) -> None:
    tokenizer = kinds[kind]
    ids = tokenizer.encode([text])[0].ids
    plain = tokenizer.backend.normalizer.normalize_str(text) if tokenizer.backend.normalizer else text
    ascii_blank = " \t\n\r\x0b\x0c"
    assert tokenizer.characters[ids].sum() == sum(character not in ascii_blank for character in plain)


def test_what_tokens_write(kinds: dict[str, Tokenizer]) -> None:
    for kind, tokenizer in kinds.items():
        ids = tokenizer.encode(["the dog , ?"])[0].ids
        assert "".join(tokenizer.written[token] for token in ids) == "thedog,?", kind
        assert tokenizer.punctuation[ids].tolist() == [tokenizer.written[token] in (",", "?") for token in ids], kind
        assert not tokenizer.punctuation[tokenizer.special_ids].any(), kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_goes_through(kind: str, kinds: dict[str, Tokenizer], peers: dict[str, Any], tmp_path: Path) -> None:
    import transformers

    kinds[kind].save(tmp_path, segments=False, longest=77)
    assert Tokenizer.load(tmp_path).fingerprint == kinds[kind].fingerprint
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    mask = again.mask_token
    for text in (LONG, f"The {mask} fox", f"{mask}."):
        assert again(text)["input_ids"] == peers[kind](text)["input_ids"]
    assert again.model_max_length == 77
    assert set(again("a", "b")) == {"input_ids", "attention_mask"}
    assert again.decode(again("the dog")["input_ids"], skip_special_tokens=True).strip() == "the dog"


@pytest.mark.parametrize("kind", KINDS)
def test_inside_a_text_tokens_are_those_of_the_text(kind: str, kinds: dict[str, Tokenizer]) -> None:
    tokenizer = kinds[kind]
    for before, spaced, text in (
        ("It was", True, "quick."),
        ("It was quick", False, "."),
        ("(", False, "see"),
        ("a", True, "狐"),
    ):
        whole = tokenizer.encode([f"{before}{' ' * spaced}{text}"])[0].ids.tolist()
        inside = tokenizer.encode_inside([text], spaced)[0].ids.tolist()
        assert whole == tokenizer.encode([before])[0].ids.tolist() + inside, (before, text)
    assert tokenizer.encode_inside(["", " "], True)[0].ids.tolist() == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_filled_prompt_is_the_text_it_spells(kind: str, kinds: dict[str, Tokenizer], peers: dict[str, Any]) -> None:
    """With the label word in place of the mask, and with the mask, as transformers reads the same text."""
    tokenizer, peer = kinds[kind], peers[kind]
    (word,) = read_words({"yes": ["quick"]}, ("yes",), tokenizer, True)
    cloze = ClozeTemplate("{text_a} It is [MASK], not {text_b}.", ("text_a", "text_b"), tokenizer, 64, "prompt.templates[0]")
    places = {field: cloze.place(field) for field in ("text_a", "text_b")}
    assert places == {"text_a": None, "text_b": True}
    texts = {
        field: tokenizer.encode_inside([text], places[field])[0].ids
        for field, text in (("text_a", "The fox."), ("text_b", "lazy"))
    }
    (filled,) = cloze.fill([texts], len(word.ids))
    tokens = filled.tokens.copy()
    tokens[filled.masks] = word.ids
    assert tokens.tolist() == tokenizer.encode(["The fox. It is quick, not lazy."])[0].ids.tolist()
    if len(word.ids) == 1 and kind != "XLM-R":  # to whose tokenizer in transformers a text begins anew after each mask
        assert (
            filled.tokens.tolist() == peer(f"The fox. It is {peer.mask_token}, not lazy.", add_special_tokens=False)["input_ids"]
        )


@pytest.mark.parametrize("kind", ["RoBERTa", "XLM-R"])
def test_tagged_words_are_cut_as_transformers_cuts_them(kind: str, folders: dict[str, Path], kinds: dict[str, Tokenizer]) -> None:
    import transformers

    words = ["The", "quick", "狐狸", "doesn't", "fox"]
    peer = transformers.AutoTokenizer.from_pretrained(folders[kind])
    if kind == "RoBERTa":
        peer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    expected = peer(words, is_split_into_words=True, add_special_tokens=False)
    found = tokenise_words([words], kinds[kind])
    assert found.ids.tolist() == expected["input_ids"]
    assert np.repeat(np.arange(len(words)), found.lengths).tolist() == expected.word_ids()


def test_older_files_make_the_same_tokenizer(folders: dict[str, Path], kinds: dict[str, Tokenizer], tmp_path: Path) -> None:
    layout = json.loads((folders["RoBERTa"] / "tokenizer.json").read_text())
    (tmp_path / "vocab.json").write_text(json.dumps(layout["model"]["vocab"]))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in layout["model"]["merges"]]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    opened = Tokenizer.load(tmp_path)
    assert opened.specials == kinds["RoBERTa"].specials
    assert opened.encode([LONG])[0].ids.tolist() == kinds["RoBERTa"].encode([LONG])[0].ids.tolist()
    assert (opened.specials.separators, opened.specials.second) == (2, 0)
    (tmp_path / "merges.txt").write_text("no such merge")
    with pytest.raises(ValueError, match=r"vocab\.json: not a vocabulary that goes with"):
        Tokenizer.load(tmp_path)


def test_names_come_from_either_file_and_from_the_usual_ones(tmp_path: Path) -> None:
    backend = byte_level()
    backend.save(str(tmp_path / "tokenizer.json"))
    assert open_folder(tmp_path).specials.cls == "<s>"  # from the post-processor and the usual names alone
    names = {"mask_token": {"content": "<unk>", "lstrip": True}, "cls_token": "<s>"}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(names))
    assert open_folder(tmp_path).specials.mask == "<unk>"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"mask_token": "<mask>"}))
    assert open_folder(tmp_path).specials.mask == "<mask>"


def no_layout(backend: tokenizers.Tokenizer) -> None:
    backend.post_processor = template(backend, "<s>", "</s>", "<s> $A </s> $B <s>")


def no_mask(backend: tokenizers.Tokenizer) -> None:
    layout = json.loads(backend.to_str())
    del layout["model"]["vocab"]["<mask>"]
    layout["added_tokens"] = [token for token in layout["added_tokens"] if token["content"] != "<mask>"]
    backend.__setstate__(json.dumps(layout).encode())


def other_cut(backend: tokenizers.Tokenizer) -> None:
    backend.pre_tokenizer = pre_tokenizers.Whitespace()


@pytest.mark.parametrize(
    ("change", "names", "message"),
    [
        (lambda backend: None, {"cls_token": "<pad>"}, r"puts <s> where .* names <pad> as cls_token"),
        (no_layout, {}, r"puts <s> </s> around a text and <s> </s> <s> around two"),
        (no_mask, {}, r"lacks \[MASK\]"),
        (other_cut, {}, r"a tokenizer of type BPE"),
        (None, {}, r"post-processor of tokenizer.json is damaged"),
    ],
)
def test_what_does_not_fit_is_refused(change: Any, names: dict[str, str], message: str, tmp_path: Path) -> None:
    backend = byte_level(modern=change is None)
    if change is not None:
        change(backend)
    backend.save(str(tmp_path / "tokenizer.json"))
    if change is None:  # on which the library panics
        layout = json.loads((tmp_path / "tokenizer.json").read_text())
        del layout["post_processor"]["special_tokens"]["[SEP]"]
        (tmp_path / "tokenizer.json").write_text(json.dumps(layout))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(names))
    with pytest.raises(ValueError, match=message):
        Tokenizer.load(tmp_path)


def test_sentencepieces_own_file_is_refused_with_the_way_to_convert(tmp_path: Path) -> None:
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"\x00")
    with pytest.raises(ValueError, match=r"sentencepiece\.bpe\.model.*AutoTokenizer.*save_pretrained"):
        Tokenizer.load(tmp_path)


def test_two_tokenizers_that_lay_out_pairs_differently_are_two() -> None:
    backend = unigram()
    first = Tokenizer(tokenizers.Tokenizer.from_str(backend.to_str()), False, open_specials(backend))
    backend.post_processor = template(backend, "<s>", "</s>", "<s> $A </s> $B </s>")
    assert Tokenizer(backend, False, open_specials(backend)).fingerprint != first.fingerprint


def open_specials(backend: tokenizers.Tokenizer) -> Any:
    from tofro.tokens.specials import find_specials

    return find_specials(backend, [], "here")
