"""A model that is opened answers as the run that made it did, as transformers does, and in the order of the texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import tofro
from tests.runs.conftest import Chain
from tofro.encoders.folder import save_model
from tofro.encoders.model import build_model
from tofro.encoders.settings import EncoderSettings
from tofro.runs.loaded import Loaded
from tofro.text.settings import TaskSettings
from tofro.text.task import read_task
from tofro.tokens.tokenizer import Tokenizer

TEXTS = ["The bright river finds the bridge.", "", "A cold engine leaves the market near the gloomy harbour, again.", "Station?"]
SMALL = EncoderSettings(layers=2, width=32, heads=2, intermediate=64, max_positions=64)


@pytest.fixture(scope="module")
def full(chain: Chain) -> Loaded:
    return tofro.load(chain.runs["full"].folder)


@pytest.fixture(scope="module")
def pre(chain: Chain) -> Loaded:
    return tofro.load(chain.runs["pretrain"].folder)


def make(folder: Path, tokenizer: Tokenizer, labels: tuple[str, ...] | None, **head: bool) -> Loaded:
    """Return a model with random weights and a task head, written and opened again."""
    classes = len(labels) if labels else None
    model = build_model(SMALL, tokenizer.vocabulary, (), seed=3, classes=classes, **head)
    save_model(folder, model, tokenizer, labels)
    return tofro.load(folder)


def test_predictions_give_the_runs_own_score(chain: Chain, full: Loaded, world: Path) -> None:
    task = read_task(TaskSettings(name="file", path=str(world / "task.jsonl"), max_length=32))
    rows = task.splits["test"]
    found = full.predict([row.text_a for row in rows])
    right = sum(answer.label == row.label for answer, row in zip(found, rows, strict=True))
    assert right / len(rows) == pytest.approx(chain.runs["full"].metrics["test/accuracy_ft"], abs=1e-6)
    assert full.max_length == 32  # as in the run
    assert full.kind == "classification"
    for answer in found:
        assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert answer.probability == max(answer.probabilities.values()) == answer.probabilities[str(answer.label)]


def test_vectors_are_those_of_each_text_alone(full: Loaded) -> None:
    for pooling in ("mean", "cls"):
        together = full.encode(TEXTS, pooling)
        alone = np.concatenate([full.encode([text], pooling) for text in TEXTS])
        assert together.shape == (4, 32)
        assert together.dtype == np.float32
        np.testing.assert_allclose(together, alone, atol=1e-5)
        np.testing.assert_allclose(full.encode(TEXTS[::-1], pooling), together[::-1], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(full.encode(TEXTS, normalize=True), axis=1), 1, atol=1e-6)
    assert full.encode([]).shape == (0, 32)


def test_vectors_and_answers_are_those_of_transformers(full: Loaded) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(full.folder)
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(full.folder).eval()
    with torch.no_grad():
        states = model.bert(**inputs).last_hidden_state
        chances = model(**inputs).logits.softmax(-1)
    mask = inputs["attention_mask"][..., None]
    np.testing.assert_allclose(full.encode(TEXTS), ((states * mask).sum(1) / mask.sum(1)).numpy(), atol=1e-5)
    np.testing.assert_allclose(full.encode(TEXTS, "cls"), states[:, 0].numpy(), atol=1e-5)
    found = full.predict(TEXTS)
    np.testing.assert_allclose([list(each.probabilities.values()) for each in found], chances.numpy(), atol=1e-5)
    assert [each.label for each in found] == [model.config.id2label[int(best)] for best in chances.argmax(-1)]
    pairs = list(zip(TEXTS[2:], TEXTS[:2], strict=True))
    with torch.no_grad():
        chances = model(**tokenizer(*map(list, zip(*pairs, strict=True)), padding=True, return_tensors="pt")).logits.softmax(-1)
    np.testing.assert_allclose([list(each.probabilities.values()) for each in full.predict(pairs)], chances.numpy(), atol=1e-5)


def test_similarity_is_the_cosine(full: Loaded) -> None:
    cosines = full.similarity(TEXTS, TEXTS[:2])
    assert cosines.shape == (4, 2)
    np.testing.assert_allclose(np.diag(cosines), 1, atol=1e-5)
    vectors = full.encode(TEXTS)
    np.testing.assert_allclose(full.similarity(vectors, vectors[:2]), cosines, atol=1e-5)
    one, other = vectors[2], vectors[1]
    assert cosines[2, 1] == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other), abs=1e-5)


def test_a_mask_is_filled_as_transformers_fills_it(pre: Loaded) -> None:
    transformers = pytest.importorskip("transformers")
    text = "The [MASK] river finds the [MASK]."
    found = pre.fill_mask(text, k=4)
    assert [len(each) for each in found] == [4, 4]
    tokenizer = transformers.AutoTokenizer.from_pretrained(pre.folder)
    model = transformers.AutoModelForPreTraining.from_pretrained(pre.folder).eval()
    inputs = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).prediction_logits[0]
    chances, tokens = logits[inputs["input_ids"][0] == tokenizer.mask_token_id].softmax(-1).topk(4)
    np.testing.assert_allclose([[fill.probability for fill in each] for each in found], chances.numpy(), atol=1e-5)
    assert [[fill.token for fill in each] for each in found] == [tokenizer.convert_ids_to_tokens(row) for row in tokens.tolist()]
    first, second = found[0][0], found[1][0]
    assert first.text == f"The {first.token.removeprefix('##')} river finds the [MASK]."
    assert second.text == f"The [MASK] river finds the {second.token.removeprefix('##')}."


def test_a_regression_answers_with_a_score(tmp_path: Path, full: Loaded) -> None:
    loaded = make(tmp_path / "model", full.tokenizer, None, regression=True)
    assert loaded.kind == "regression"
    pairs = [("The river.", "The bridge."), ("A cold engine finds the station.", "No.")]
    found = loaded.predict(pairs)
    assert all(isinstance(answer.label, float) and answer.probability is None and not answer.probabilities for answer in found)
    assert [loaded.predict([pair])[0].label for pair in pairs] == pytest.approx([answer.label for answer in found], abs=1e-5)
    assert found[0].label != loaded.predict([pairs[0][::-1]])[0].label


def test_words_are_tagged_one_by_one(tmp_path: Path, full: Loaded) -> None:
    labels = ("B-place", "I-place", "O")
    loaded = make(tmp_path / "model", full.tokenizer, labels, words=True)
    assert loaded.kind == "tags"
    rows = [("The", "river", "finds", "\u200b", "bridge"), ("station",) * 80]
    found = loaded.predict(rows)
    assert [len(answer.label) for answer in found] == [5, 80]
    assert found[0].words == rows[0]
    assert found[0].label[3] == "O"  # no token, so it is not seen
    assert [chance is None for chance in found[0].probability] == [False, False, False, True, False]
    assert found[1].probability[-1] is None  # beyond the longest text
    assert found[1].label[-1] == "O"
    text = loaded.predict(["The river finds the bridge, twice."])[0]
    assert text.words == ("The", "river", "finds", "the", "bridge", ",", "twice", ".")


def test_texts_by_the_thousand_keep_their_order(full: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    from tofro.runs import loaded

    texts = [f"The {'bright ' * (number % 7)}river {number}." for number in range(50)]
    whole = full.encode(texts)
    monkeypatch.setattr(loaded, "BLOCK", 7)
    monkeypatch.setattr(loaded, "BATCH_TOKENS", {"cpu": 20, "cuda": 20})
    np.testing.assert_allclose(full.encode(texts), whole, atol=1e-5)
    assert [answer.label for answer in full.predict(texts)] == [full.predict([text])[0].label for text in texts]


def test_mistakes_are_named(chain: Chain, full: Loaded, pre: Loaded, tmp_path: Path) -> None:
    headless = make(tmp_path / "headless", full.tokenizer, None, regression=True)
    cases = [
        (lambda: tofro.load(tmp_path / "gone"), "no such folder"),
        (lambda: tofro.load(tmp_path), "config.json"),
        (lambda: tofro.load(chain.runs["prompt"].folder), "keeps no model"),
        (lambda: tofro.load(full.folder, max_length=4000), "max_length=4000: this model reads from 8 to 64 tokens"),
        (lambda: tofro.load(full.folder, device="tpu"), "device=tpu"),
        (lambda: pre.predict(["x"]), "has no task head.*tofro run method=full"),
        (lambda: headless.fill_mask("The [MASK]."), "no head for masked words; it has the heads pooler, task"),
        (lambda: pre.fill_mask("no mask"), r"has no mask; write \[MASK\]"),
        (lambda: pre.fill_mask("[MASK] " + "river " * 200), "shorten it"),
        (lambda: full.encode("a single text"), r"write \[text\]"),
        (lambda: full.encode([1]), "it holds int"),
        (lambda: full.encode(["x"], "max"), "use folder, mean or cls"),
        (lambda: full.predict([("a", "b", "c")]), "neither a text nor a pair"),
        (lambda: full.predict(["a", ("a", "b")]), "can't be mixed"),
    ]
    for act, said in cases:
        with pytest.raises(ValueError, match=said):
            act()
    unfinished = tmp_path / "run"
    unfinished.mkdir()
    (unfinished / "config.yaml").write_text("seed: 0\n")
    with pytest.raises(ValueError, match="is not finished"):
        tofro.load(unfinished)
