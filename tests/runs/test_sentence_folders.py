"""Vectors follow the rule of a sentence-transformers folder: pooling, length, case, and whether they are scaled to length 1."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tofro
from tests.encoders.test_published import PLACE, sentences
from tests.kinds import write
from tofro.encoders.folder import save_model
from tofro.encoders.model import build_model
from tofro.encoders.settings import EncoderSettings
from tofro.tokens.tokenizer import Tokenizer

TEXTS = ["The Quick brown Fox, unbelievably.", "", "Foxes jump. " * 12, "中文和英文 Café"]
SIZES = EncoderSettings("roberta", 2, 32, 2, 64, max_positions=62, segments=1, first_position=2, norm_eps=1e-5)
PARTS = "sentence_transformers.models"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RoBERTa with random weights, whose tokenizer tells capital letters apart."""
    tokenizer = Tokenizer.load(write(tmp_path_factory.mktemp("tokenizer"), "RoBERTa"))
    model = build_model(SIZES, tokenizer.vocabulary, ("pooler",), seed=1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    folder = tmp_path_factory.mktemp("plain") / "model"
    save_model(folder, model, tokenizer)
    return folder


def make(
    plain: Path, folder: Path, parts: list[str], pooling: dict[str, Any], sentence: dict[str, Any], inside: str = ""
) -> Path:
    """A folder as sentence-transformers lays it out; with ``inside`` the encoder lies in a folder of its own.

    Of the keys of ``sentence`` the one that newer folders have in the tokenizer's config goes there too.
    """
    folder.mkdir()
    modules = [{"idx": 0, "name": "0", "path": inside, "type": f"{PARTS}.Transformer"}]
    modules += [
        {"idx": at, "name": str(at), "path": f"{at}_{kind}", "type": f"{PARTS}.{kind}"} for at, kind in enumerate(parts, 1)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **pooling}))
    (folder / inside).mkdir(exist_ok=True)
    for file in plain.iterdir():
        if file.is_file() and file.name != "modules.json":
            shutil.copy(file, folder / inside / file.name)
    (folder / inside / "sentence_bert_config.json").write_text(json.dumps(sentence))
    if "model_max_length" in sentence:
        path = folder / inside / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | sentence))
    return folder


def by_the_rule(folder: Path, cls: bool, normalize: bool, lower: bool, length: int) -> np.ndarray:
    """The same by transformers, the rule written out."""
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [text.lower() for text in TEXTS] if lower else TEXTS
    given = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
    with torch.no_grad():
        states = transformers.AutoModel.from_pretrained(folder).eval()(**given).last_hidden_state
    inside = given["attention_mask"][..., None]
    vectors = states[:, 0] if cls else (states * inside).sum(1) / inside.sum(1)
    return np.asarray(torch.nn.functional.normalize(vectors) if normalize else vectors)


MEAN, CLS = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, {"pooling_mode_cls_token": True}
RULES = [
    (["Pooling", "Normalize"], MEAN, {"max_seq_length": 16, "do_lower_case": False}, "", (False, True, False, 16)),
    (["Pooling"], CLS, {"max_seq_length": 24, "do_lower_case": True}, "0_Transformer", (True, False, True, 24)),
    (["Pooling", "Normalize"], {"pooling_mode": "cls"}, {"max_seq_length": None}, "", (True, True, False, 62)),
    (["Pooling"], {"pooling_mode": "mean"}, {"model_max_length": 20}, "", (False, False, False, 20)),
    (["Pooling"], MEAN, {"max_seq_length": 1000}, "", (False, False, False, 62)),
]


@pytest.mark.parametrize(("parts", "pooling", "sentence", "inside", "rule"), RULES)
def test_vectors_are_what_the_folder_says(
    parts: list[str],
    pooling: dict[str, Any],
    sentence: dict[str, Any],
    inside: str,
    rule: tuple[bool, bool, bool, int],
    plain: Path,
    tmp_path: Path,
) -> None:
    folder = make(plain, tmp_path / "model", parts, pooling, sentence, inside)
    loaded = tofro.load(folder)
    expected = by_the_rule(folder / inside, *rule)
    assert loaded.max_length == rule[3]
    np.testing.assert_allclose(loaded.encode(TEXTS), expected, atol=1e-5)
    np.testing.assert_array_equal(loaded.encode(TEXTS, "folder"), loaded.encode(TEXTS))
    assert expected.std() > 0.1
    cosines = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(loaded.similarity(TEXTS, TEXTS[:2]), cosines @ cosines[:2].T, atol=1e-5)


@pytest.mark.parametrize("rule", RULES[:-1])  # at the last one, more than the model has positions, the package itself fails
def test_vectors_are_those_of_sentence_transformers(rule: tuple[Any, ...], plain: Path, tmp_path: Path) -> None:
    package = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    folder = make(plain, tmp_path / "model", *rule[:4])
    theirs = package.SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(tofro.load(folder).encode(TEXTS), theirs, atol=1e-5)


def test_what_is_asked_for_comes_before_what_the_folder_says(plain: Path, tmp_path: Path) -> None:
    folder = make(plain, tmp_path / "model", ["Pooling", "Normalize"], CLS, {"do_lower_case": True})
    loaded, bare = tofro.load(folder), tofro.load(plain)
    np.testing.assert_allclose(loaded.encode(TEXTS, "mean"), bare.encode(TEXTS), atol=1e-6)
    np.testing.assert_allclose(loaded.encode(TEXTS, "cls", normalize=False), bare.encode(TEXTS, "cls"), atol=1e-6)
    assert np.linalg.norm(loaded.encode(TEXTS, normalize=False), axis=1).min() > 1.5
    np.testing.assert_allclose(np.linalg.norm(bare.encode(TEXTS, normalize=True), axis=1), 1, atol=1e-6)
    assert tofro.load(folder, max_length=9).max_length == 9
    (plain_inside := tmp_path / "bare").mkdir()
    for file in plain.iterdir():
        if file.is_file() and file.name != "modules.json":
            shutil.copy(file, plain_inside)
    np.testing.assert_allclose(tofro.load(plain_inside).encode(TEXTS), bare.encode(TEXTS, "mean"), atol=1e-6)  # asks for nothing


@pytest.mark.parametrize(
    ("parts", "pooling", "said"),
    [
        (["Pooling", "Dense"], MEAN, "Dense"),
        (["Pooling"], {"pooling_mode_max_tokens": True}, "max_tokens"),
        (
            ["Pooling", "Normalize"],
            {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True},
            r"mean\+max_tokens|max_tokens\+mean",
        ),
        (["Pooling", "evil.Part"], {"pooling_mode": "weightedmean"}, "Part, weightedmean"),
    ],
)
def test_rules_that_tofro_has_not_are_refused_by_name(
    parts: list[str], pooling: dict[str, Any], said: str, plain: Path, tmp_path: Path
) -> None:
    loaded = tofro.load(make(plain, tmp_path / "model", parts, pooling, {}))
    with pytest.raises(ValueError, match=rf"its vectors are made with ({said}), which tofro has not; set pooling to mean or cls"):
        loaded.encode(TEXTS)
    assert loaded.encode(TEXTS, "mean").shape == (4, 32)  # what is asked for by name is given


@pytest.mark.skipif(PLACE is None, reason="TOFRO_PUBLISHED_MODEL names no published folder")
def test_a_published_folder_gives_the_vectors_of_sentence_transformers() -> None:
    package = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    texts = [*sentences()[::10], "long " * 600]
    ours, theirs = tofro.load(str(PLACE)).encode(texts), package.SentenceTransformer(PLACE, device="cpu").encode(texts)
    print(f"{PLACE}: {len(texts)} texts, largest difference of their vectors {abs(ours - theirs).max():.1e}")
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
