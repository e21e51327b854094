"""Hidden states and logits equal those of transformers' BERT, from its folders and into them."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tofro.encoders.folder import load_model, save_model
from tofro.encoders.model import build_model
from tofro.encoders.settings import EncoderSettings

from .conftest import VOCABULARY, StandInTokenizer, assert_equal, make_batch, outputs_of, padded, randomise, unpad

SIZES = {"tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "medium": (8, 512), "base": (12, 768)}
SLOW = pytest.mark.slow
EVERY_SIZE = [pytest.param(name, marks=SLOW if name in ("small", "medium", "base") else ()) for name in SIZES]
TASKS = {
    "classification": {"num_labels": 3},
    "regression": {"num_labels": 1, "problem_type": "regression"},
    "tags": {"num_labels": 5},
}
CLASSES = ["BertModel", "BertForMaskedLM", "BertForPreTraining", "BertForNextSentencePrediction", *TASKS]
LENGTHS = [24, 9, 1, 17]


def settings_of(size: str) -> EncoderSettings:
    layers, width = SIZES[size]
    return EncoderSettings(layers=layers, width=width, heads=width // 64, intermediate=4 * width, max_positions=64)


def make_hf(hf: Any, kind: str, settings: EncoderSettings) -> Any:
    """A model of transformers with random weights, biases and norms too."""
    config = hf.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.intermediate,
        max_position_embeddings=settings.max_positions,
        attention_probs_dropout_prob=0.0,
        **TASKS.get(kind, {}),
    )
    model = getattr(hf, class_of(kind))(config).eval()
    randomise(model)
    return model


def class_of(kind: str) -> str:
    if kind == "tags":
        return "BertForTokenClassification"
    return "BertForSequenceClassification" if kind in TASKS else kind


def hf_outputs_of(model: Any, kind: str) -> dict[str, torch.Tensor]:
    """The same from a model of transformers, which pads."""
    batch = make_batch(LENGTHS)
    with torch.no_grad():
        said = model(**padded(batch), output_hidden_states=True)
    result = {f"layer {index}": unpad(states, batch) for index, states in enumerate(said.hidden_states)}
    if kind == "BertForPreTraining":
        return result | {"mlm": unpad(said.prediction_logits, batch), "pair": said.seq_relationship_logits}
    if kind == "BertForMaskedLM":
        return result | {"mlm": unpad(said.logits, batch)}
    if kind == "BertForNextSentencePrediction":
        return result | {"pair": said.logits}
    if kind == "tags":
        return result | {"task": unpad(said.logits, batch)}
    if kind in TASKS:
        return result | {"task": said.logits.squeeze(-1) if kind == "regression" else said.logits}
    return result


def check_reading(hf: Any, kind: str, settings: EncoderSettings, folder: Path) -> None:
    theirs = make_hf(hf, kind, settings)
    theirs.save_pretrained(folder)
    ours = load_model(folder).model
    assert_equal(outputs_of(ours, make_batch(LENGTHS)), hf_outputs_of(theirs, kind))


def check_writing(hf: Any, kind: str, settings: EncoderSettings, folder: Path) -> None:
    heads = {"BertForMaskedLM": ["mlm"], "BertForPreTraining": ["mlm", "pair"], "BertForNextSentencePrediction": ["pair"]}
    classes = {"classification": 3, "tags": 5}.get(kind)
    wanted = [] if kind == "tags" else heads.get(kind, ["pooler"])
    ours = build_model(settings, VOCABULARY, wanted, 0.0, 0, classes, regression=kind == "regression", words=kind == "tags")
    randomise(ours)
    save_model(folder, ours, StandInTokenizer())
    automatic = {"BertModel": "AutoModel", "tags": "AutoModelForTokenClassification"}
    open_as = getattr(hf, automatic.get(kind, class_of(kind)))
    theirs, report = open_as.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    assert_equal(outputs_of(ours, make_batch(LENGTHS)), hf_outputs_of(theirs.eval(), kind))


@pytest.mark.parametrize("kind", CLASSES)
def test_reads_what_transformers_writes(hf: Any, kind: str, tmp_path: Path) -> None:
    check_reading(hf, kind, settings_of("tiny"), tmp_path)


@pytest.mark.parametrize("kind", CLASSES)
def test_transformers_reads_what_is_written(hf: Any, kind: str, tmp_path: Path) -> None:
    check_writing(hf, kind, settings_of("tiny"), tmp_path / "model")


@pytest.mark.parametrize("size", EVERY_SIZE[1:])
def test_every_size_agrees(hf: Any, size: str, tmp_path: Path) -> None:
    for kind in CLASSES:
        check_reading(hf, kind, settings_of(size), tmp_path / "in")
        check_writing(hf, kind, settings_of(size), tmp_path / "out")


@pytest.mark.parametrize("kind", CLASSES)
def test_a_folder_goes_through_bit_by_bit(hf: Any, kind: str, tmp_path: Path) -> None:
    theirs = make_hf(hf, kind, settings_of("tiny"))
    theirs.save_pretrained(tmp_path / "in")
    read = load_model(tmp_path / "in")
    save_model(tmp_path / "out", read.model, StandInTokenizer(), read.labels)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("in", "out"))
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    opened = type(theirs).from_pretrained(tmp_path / "out").config
    for key in ("architectures", "hidden_size", "layer_norm_eps", "initializer_range", "problem_type", "vocab_size"):
        if (key, kind) != ("problem_type", "classification"):  # which transformers leaves to be guessed
            assert getattr(opened, key) == getattr(theirs.config, key), key
    if kind in TASKS:
        assert opened.id2label == theirs.config.id2label


def test_gradients_agree(hf: Any, tmp_path: Path) -> None:
    theirs = make_hf(hf, "BertForPreTraining", settings_of("tiny"))
    theirs.save_pretrained(tmp_path)
    ours, batch = load_model(tmp_path).model, make_batch(LENGTHS)
    said = theirs(**padded(batch))
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(batch.tokens.numel(), VOCABULARY, generator=generator)
    (unpad(said.prediction_logits, batch) * weight).mean().backward()
    (ours.mlm_logits(ours.encoder(batch), torch.arange(batch.tokens.numel())) * weight).mean().backward()
    embedding = theirs.bert.embeddings.word_embeddings.weight.grad
    torch.testing.assert_close(ours.encoder.embeddings.tokens.weight.grad, embedding, atol=1e-6, rtol=1e-4)
    attention = theirs.bert.encoder.layer[0].attention.self
    qkv = torch.cat([getattr(attention, name).weight.grad for name in ("query", "key", "value")])
    torch.testing.assert_close(ours.encoder.layers[0].attention.qkv.weight.grad, qkv, atol=1e-6, rtol=1e-4)


def test_heads_without_a_class_survive_and_transformers_ignores_them(hf: Any, tmp_path: Path) -> None:
    ours = build_model(settings_of("tiny"), VOCABULARY, classes=3)
    randomise(ours)
    save_model(tmp_path / "model", ours, StandInTokenizer(), ("bad", "fair", "good"))
    again = load_model(tmp_path / "model")
    assert again.labels == ("bad", "fair", "good")
    assert all(torch.equal(tensor, again.model.state_dict()[name]) for name, tensor in ours.state_dict().items())
    theirs, report = hf.BertForSequenceClassification.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert theirs.config.id2label == {0: "bad", 1: "fair", 2: "good"}
    assert_equal(outputs_of(again.model, make_batch(LENGTHS)), hf_outputs_of(theirs.eval(), "classification"))


@pytest.mark.parametrize("heads", [(), ("mlm", "pair")])
def test_tags_keep_their_names_and_the_heads_beside_them(hf: Any, tmp_path: Path, heads: tuple[str, ...]) -> None:
    names = ("B-person", "I-person", "O")
    ours = build_model(settings_of("tiny"), VOCABULARY, heads, classes=3, words=True)
    assert ours.task_heads == ("task",)
    randomise(ours)
    save_model(tmp_path / "model", ours, StandInTokenizer(), names)
    again = load_model(tmp_path / "model")
    assert (again.labels, again.model.tags_words, again.made_anew) == (names, True, ())
    assert again.model.state_dict().keys() == ours.state_dict().keys()
    assert all(torch.equal(tensor, again.model.state_dict()[name]) for name, tensor in ours.state_dict().items())
    theirs, report = hf.AutoModelForTokenClassification.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert theirs.config.id2label == dict(enumerate(names))
    assert_equal(outputs_of(again.model, make_batch(LENGTHS)), hf_outputs_of(theirs.eval(), "tags"))


def test_attention_dropout_is_named_and_not_kept(hf: Any, tmp_path: Path) -> None:
    theirs = make_hf(hf, "BertModel", settings_of("tiny"))
    theirs.config.attention_probs_dropout_prob = 0.1
    theirs.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="attention dropout is 0"):
        read = load_model(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_model(tmp_path / "out", read.model, StandInTokenizer())
        load_model(tmp_path / "out")


def test_norm_epsilon_and_positions_come_from_the_config(hf: Any, tmp_path: Path) -> None:
    settings = dataclasses.replace(settings_of("tiny"), norm_eps=1e-2, max_positions=80)
    ours = build_model(settings, VOCABULARY, ["pooler"])
    save_model(tmp_path / "model", ours, StandInTokenizer())
    assert load_model(tmp_path / "model").model.settings == settings
    theirs = hf.BertModel.from_pretrained(tmp_path / "model").eval()
    assert_equal(outputs_of(ours, make_batch(LENGTHS)), hf_outputs_of(theirs, "BertModel"))
