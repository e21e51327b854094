"""RoBERTa, XLM-R and DistilBERT: hidden states and logits equal those of transformers, from its folders and into them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tofro.encoders.folder import load_model, save_model
from tofro.encoders.model import build_model
from tofro.encoders.settings import EncoderSettings

from .conftest import VOCABULARY, StandInTokenizer, assert_equal, make_batch, outputs_of, padded, randomise, unpad

PREFIX = {"roberta": "Roberta", "xlm-roberta": "XLMRoberta", "distilbert": "DistilBert"}
HEADS = {
    "classification": {"num_labels": 3},
    "regression": {"num_labels": 1, "problem_type": "regression"},
    "tags": {"num_labels": 5},
}
DIFFERENT = ["roberta", "distilbert", pytest.param("xlm-roberta", marks=pytest.mark.slow)]  # the last differs by its names alone
OURS = ("layers", "width", "heads", "intermediate")
KINDS = ["Model", "ForMaskedLM", *HEADS]
LENGTHS = [24, 9, 1, 17]
SIZES = {"tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "medium": (8, 512), "base": (12, 768)}


def settings_of(family: str, size: str = "tiny") -> EncoderSettings:
    layers, width = SIZES[size]
    plain = EncoderSettings(family, layers, width, width // 64, 4 * width, max_positions=62)
    return plain if family == "distilbert" else dataclasses.replace(plain, segments=1, first_position=2, norm_eps=1e-5)


def make_hf(hf: Any, kind: str, settings: EncoderSettings) -> Any:
    """A model of transformers with random weights, biases and norms too."""
    names = dict(zip(OURS, ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size"), strict=True))
    others: dict[str, Any] = {
        "max_position_embeddings": settings.max_positions + settings.unused_positions,
        "attention_probs_dropout_prob": 0.0,
        "type_vocab_size": settings.segments,
        "layer_norm_eps": settings.norm_eps,
    }
    if settings.family == "distilbert":
        names = dict(zip(OURS, ("n_layers", "dim", "n_heads", "hidden_dim"), strict=True))
        others = {"max_position_embeddings": settings.max_positions, "attention_dropout": 0.0}
    sizes = {theirs: getattr(settings, ours) for ours, theirs in names.items()}
    config = getattr(hf, f"{PREFIX[settings.family]}Config")(vocab_size=VOCABULARY, **sizes, **others, **HEADS.get(kind, {}))
    model = getattr(hf, class_of(settings.family, kind))(config).eval()
    randomise(model)
    return model


def class_of(family: str, kind: str) -> str:
    classes = {
        "tags": "ForTokenClassification",
        "classification": "ForSequenceClassification",
        "regression": "ForSequenceClassification",
    }
    return PREFIX[family] + classes.get(kind, kind)


def hf_outputs_of(model: Any, kind: str, segments: bool = False) -> dict[str, torch.Tensor]:
    """What a model of transformers, which pads, says about a batch."""
    batch = make_batch(LENGTHS)
    inputs = padded(batch, model.config.pad_token_id)
    if not segments:
        del inputs["token_type_ids"]
    with torch.no_grad():
        said = model(**inputs, output_hidden_states=True)
    result = {f"layer {index}": unpad(states, batch) for index, states in enumerate(said.hidden_states)}
    if kind == "ForMaskedLM":
        result["mlm"] = unpad(said.logits, batch)
    elif kind == "tags":
        result["task"] = unpad(said.logits, batch)
    elif kind in HEADS:
        result["task"] = said.logits.squeeze(-1) if kind == "regression" else said.logits
    return result


def make_ours(kind: str, settings: EncoderSettings, heads: tuple[str, ...] = ()) -> Any:
    wanted = heads or {"ForMaskedLM": ("mlm",), "Model": () if settings.family == "distilbert" else ("pooler",)}.get(kind, ())
    classes = {"classification": 3, "tags": 5}.get(kind)
    ours = build_model(settings, VOCABULARY, wanted, 0.0, 0, classes, regression=kind == "regression", words=kind == "tags")
    randomise(ours)
    return ours


def open_in(hf: Any, family: str, kind: str, folder: Path) -> Any:
    """The folder as transformers opens it, nothing missing and nothing left over."""
    theirs, report = getattr(hf, class_of(family, kind)).from_pretrained(folder, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return theirs.eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", PREFIX)
def test_reads_what_transformers_writes(hf: Any, family: str, kind: str, tmp_path: Path) -> None:
    theirs = make_hf(hf, kind, settings_of(family))
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path).model
    assert ours.settings == settings_of(family)
    assert_equal(outputs_of(ours, make_batch(LENGTHS)), hf_outputs_of(theirs, kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", PREFIX)
def test_transformers_reads_what_is_written(hf: Any, family: str, kind: str, tmp_path: Path) -> None:
    ours = make_ours(kind, settings_of(family))
    save_model(tmp_path / "model", ours, StandInTokenizer())
    theirs = open_in(hf, family, kind, tmp_path / "model")
    assert_equal(outputs_of(ours, make_batch(LENGTHS)), hf_outputs_of(theirs, kind))
    assert load_model(tmp_path / "model").model.settings == settings_of(family)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["mini", "small", "medium", "base"])
@pytest.mark.parametrize("family", PREFIX)
def test_every_size_agrees(hf: Any, family: str, size: str, tmp_path: Path) -> None:
    for kind in KINDS:
        theirs = make_hf(hf, kind, settings_of(family, size))
        theirs.save_pretrained(tmp_path / "in")
        assert_equal(outputs_of(load_model(tmp_path / "in").model, make_batch(LENGTHS)), hf_outputs_of(theirs, kind))
        ours = make_ours(kind, settings_of(family, size))
        save_model(tmp_path / "out", ours, StandInTokenizer())
        theirs = open_in(hf, family, kind, tmp_path / "out")
        assert_equal(outputs_of(ours, make_batch(LENGTHS)), hf_outputs_of(theirs, kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", PREFIX)
def test_a_folder_goes_through_bit_by_bit(hf: Any, family: str, kind: str, tmp_path: Path) -> None:
    theirs = make_hf(hf, kind, settings_of(family))
    theirs.save_pretrained(tmp_path / "in")
    read = load_model(tmp_path / "in")
    save_model(tmp_path / "out", read.model, StandInTokenizer(), read.labels)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("in", "out"))
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    config = getattr(hf, f"{PREFIX[family]}Config")
    ours, expected = (config.from_pretrained(tmp_path / name).to_dict() for name in ("out", "in"))
    differing = {key for key, value in expected.items() if ours.get(key) != value}
    guessed = {"problem_type", "dtype", "transformers_version", "bos_token_id", "eos_token_id", "pad_token_id"}
    dropouts = {key for key in expected if "dropout" in key}
    assert differing <= guessed | dropouts


@pytest.mark.parametrize("family", DIFFERENT)
@pytest.mark.parametrize("words", [False, True])
def test_all_heads_survive_together(hf: Any, family: str, words: bool, tmp_path: Path) -> None:
    """The pair head has no class in these families, and a class that answers a task has no other head."""
    for classes in (None, 3):
        folder = tmp_path / str(classes)
        ours = build_model(settings_of(family), VOCABULARY, ("mlm", "pair"), classes=classes, words=words)
        randomise(ours)
        save_model(folder, ours, StandInTokenizer())
        again = load_model(folder).model.state_dict()
        assert again.keys() == ours.state_dict().keys()
        assert all(torch.equal(tensor, again[name]) for name, tensor in ours.state_dict().items())
        kind = "ForMaskedLM" if classes is None else "tags" if words else "classification"
        assert_equal(outputs_of(ours, make_batch(LENGTHS)), hf_outputs_of(open_in(hf, family, kind, folder), kind))


@pytest.mark.parametrize("family", DIFFERENT)
def test_missing_heads_are_listed_and_made_anew(hf: Any, family: str, tmp_path: Path) -> None:
    make_hf(hf, "ForMaskedLM", settings_of(family)).save_pretrained(tmp_path)
    read = load_model(tmp_path, heads_may_be_missing=("mlm", "pair"), seed=3)
    assert read.made_anew == ("pooler", "pair")
    fresh = build_model(settings_of(family), VOCABULARY, ("mlm", "pair"), seed=3)
    for head in read.made_anew:
        assert torch.equal(next(read.model.heads[head].parameters()), next(fresh.heads[head].parameters()))


@pytest.mark.parametrize("family", DIFFERENT)
def test_gradients_agree(hf: Any, family: str, tmp_path: Path) -> None:
    theirs = make_hf(hf, "ForMaskedLM", settings_of(family))
    theirs.save_pretrained(tmp_path)
    ours, batch = load_model(tmp_path).model, make_batch(LENGTHS)
    weight = torch.randn(batch.tokens.numel(), VOCABULARY, generator=torch.Generator().manual_seed(0))
    inputs = {name: grid for name, grid in padded(batch, theirs.config.pad_token_id).items() if name != "token_type_ids"}
    (unpad(theirs(**inputs).logits, batch) * weight).mean().backward()
    (ours.mlm_logits(ours.encoder(batch), torch.arange(batch.tokens.numel())) * weight).mean().backward()
    base = theirs.distilbert if family == "distilbert" else theirs.roberta
    found, expected = ours.encoder.embeddings, base.embeddings
    skip = 2  # rows of special tokens, of which transformers leaves padding out
    torch.testing.assert_close(found.tokens.weight.grad[skip:], expected.word_embeddings.weight.grad[skip:], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found.positions.weight.grad, expected.position_embeddings.weight.grad, atol=1e-6, rtol=1e-4)
    if found.segments is not None:
        torch.testing.assert_close(found.segments.weight.grad, expected.token_type_embeddings.weight.grad, atol=1e-6, rtol=1e-4)


def test_a_roberta_with_segments_uses_them(hf: Any, tmp_path: Path) -> None:
    settings = dataclasses.replace(settings_of("roberta"), segments=2)
    theirs = make_hf(hf, "ForMaskedLM", settings)
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path).model
    assert ours.settings.tells_segments
    assert_equal(outputs_of(ours, make_batch(LENGTHS)), hf_outputs_of(theirs, "ForMaskedLM", segments=True))


def test_older_ways_of_writing_are_read(hf: Any, tmp_path: Path) -> None:
    """Copies of tied tensors, position indices, and a pooler that the class has no use for, as roberta-large-mnli has them."""
    theirs = make_hf(hf, "ForMaskedLM", settings_of("roberta"))
    theirs.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.decoder.weight"] = tensors["roberta.embeddings.word_embeddings.weight"].clone()
    tensors["lm_head.decoder.bias"] = tensors["lm_head.bias"].clone()
    tensors["roberta.embeddings.position_ids"] = torch.arange(64)[None]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert_equal(outputs_of(load_model(tmp_path).model, make_batch(LENGTHS)), hf_outputs_of(theirs, "ForMaskedLM"))
    theirs = make_hf(hf, "classification", settings_of("roberta"))
    theirs.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors |= {f"roberta.pooler.dense.{kind}": tensors[f"classifier.dense.{kind}"] * 2 for kind in ("weight", "bias")}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(UserWarning, match=r"roberta\.pooler\.dense\.bias.*not read"):
        ours = load_model(tmp_path).model
    assert_equal(outputs_of(ours, make_batch(LENGTHS)), hf_outputs_of(theirs, "classification"))


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("roberta", {"pad_token_id": None}, "pad_token_id is None"),
        ("roberta", {"pad_token_id": 64}, "pad_token_id is 64"),
        ("roberta", {"hidden_act": "relu"}, "hidden_act"),
        ("roberta", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("roberta", {"architectures": ["RobertaForQuestionAnswering"]}, "RobertaForQuestionAnswering"),
        ("xlm-roberta", {"architectures": ["RobertaForMaskedLM"]}, "known are XLMRobertaForSequenceClassification"),
        ("xlm-roberta", {"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ("distilbert", {"activation": "relu"}, "activation"),
        ("distilbert", {"n_layers": 3}, "3 layers"),
        ("distilbert", {"dim": None}, "dim must be"),
        ("distilbert", {"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
    ],
)
def test_configs_that_do_not_fit_are_named(family: str, change: dict[str, Any], message: str, tmp_path: Path) -> None:
    save_model(tmp_path / "model", make_ours("ForMaskedLM", settings_of(family)), StandInTokenizer())
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(ValueError, match=message):
        load_model(tmp_path / "model")


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("roberta", "lm_head.layer_norm.bias"),
        ("distilbert", "vocab_transform.weight"),
        ("distilbert", "distilbert.embeddings.LayerNorm.bias"),
    ],
)
def test_tensors_that_do_not_fit_are_named(family: str, name: str, tmp_path: Path) -> None:
    save_model(tmp_path / "model", make_ours("ForMaskedLM", settings_of(family)), StandInTokenizer())
    path = tmp_path / "model" / "model.safetensors"
    tensors = load_file(path)
    save_file({key: tensor for key, tensor in tensors.items() if key != name}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"{name} is missing".replace(".", r"\.")):
        load_model(tmp_path / "model")
    save_file(tensors | {"extra": torch.zeros(1)}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="extra is left over"):
        load_model(tmp_path / "model")


def test_weights_of_padding_start_at_zero() -> None:
    ours = build_model(dataclasses.replace(settings_of("roberta"), first_position=4), VOCABULARY, ())
    assert (ours.encoder.embeddings.tokens.weight == 0).all(1).nonzero().flatten().tolist() == [3]
