"""ModernBERT: hidden states and logits equal those of transformers, from its folders and into them, in and out of the window."""

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

HEADS = {
    "cls": {"num_labels": 3},
    "mean": {"num_labels": 3},
    "regression": {"num_labels": 1, "problem_type": "regression"},
    "tags": {"num_labels": 5},
}
KINDS = ["ModernBertModel", "ModernBertForMaskedLM", *HEADS]
LENGTHS = [40, 9, 31, 1, 23]  # shorter and longer than the window, and two that attention pads together
TINY = EncoderSettings(
    family="modernbert",
    layers=4,
    width=64,
    heads=2,
    intermediate=96,
    max_positions=64,
    norm_eps=1e-5,
    local_window=12,
    rotary_base_global=20_000.0,
    rotary_base_local=300.0,
)


def make_hf(hf: Any, kind: str, settings: EncoderSettings, attention: str = "sdpa") -> Any:
    """A model of transformers with random weights, norms too."""
    config = hf.ModernBertConfig(
        vocab_size=VOCABULARY,
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.intermediate,
        max_position_embeddings=settings.max_positions,
        global_attn_every_n_layers=settings.global_every,
        local_attention=settings.local_window,
        global_rope_theta=settings.rotary_base_global,
        local_rope_theta=settings.rotary_base_local,
        classifier_pooling="mean" if kind == "mean" else "cls",
        pad_token_id=0,
        **dict.fromkeys(("bos_token_id", "cls_token_id"), 2),
        **dict.fromkeys(("eos_token_id", "sep_token_id"), 3),
        **HEADS.get(kind, {}),
    )
    config._attn_implementation = attention
    model = getattr(hf, class_of(kind))(config).eval()
    randomise(model)
    return model


def class_of(kind: str) -> str:
    if kind == "tags":
        return "ModernBertForTokenClassification"
    return "ModernBertForSequenceClassification" if kind in HEADS else kind


def hf_outputs_of(model: Any, kind: str, lengths: list[int] = LENGTHS) -> dict[str, torch.Tensor]:
    """What a model of transformers, which pads, says about a batch."""
    batch = make_batch(lengths)
    inputs = {name: grid for name, grid in padded(batch).items() if name != "token_type_ids"}
    with torch.no_grad():
        said = model(**inputs, output_hidden_states=True)
    result = {f"layer {index}": unpad(states, batch) for index, states in enumerate(said.hidden_states)}
    if kind == "ModernBertForMaskedLM":
        result["mlm"] = unpad(said.logits, batch)
    if kind == "tags":
        result["task"] = unpad(said.logits, batch)
    elif kind in HEADS:
        result["task"] = said.logits.squeeze(-1) if kind == "regression" else said.logits
    return result


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", KINDS)
def test_reads_what_transformers_writes(hf: Any, kind: str, attention: str, tmp_path: Path) -> None:
    theirs = make_hf(hf, kind, TINY, attention)
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path).model
    assert dataclasses.replace(ours.settings, head_pooling="cls") == TINY
    for lengths in (LENGTHS, [30, 30]):
        expected = hf_outputs_of(theirs, kind, lengths)
        assert f"layer {TINY.layers}" in expected
        assert_equal(outputs_of(ours, make_batch(lengths)), expected)


def check_writing(hf: Any, kind: str, settings: EncoderSettings, folder: Path, lengths: list[int], std: float = 0.05) -> None:
    heads = ["mlm"] if kind == "ModernBertForMaskedLM" else []
    settings = dataclasses.replace(settings, head_pooling="mean" if kind == "mean" else "cls")
    classes = None if kind == "regression" else HEADS.get(kind, {}).get("num_labels")
    ours = build_model(settings, VOCABULARY, heads, 0.0, 0, classes, regression=kind == "regression", words=kind == "tags")
    randomise(ours, std=std)
    save_model(folder, ours, StandInTokenizer())
    open_as = getattr(hf, "AutoModelForTokenClassification" if kind == "tags" else class_of(kind))
    theirs, report = open_as.from_pretrained(folder, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert_equal(outputs_of(ours, make_batch(lengths)), hf_outputs_of(theirs.eval(), kind, lengths))
    assert load_model(folder).model.settings == settings


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_reads_what_is_written(hf: Any, kind: str, tmp_path: Path) -> None:
    check_writing(hf, kind, TINY, tmp_path / "model", LENGTHS)


@pytest.mark.slow
@pytest.mark.parametrize(("layers", "width"), [(2, 128), (4, 256), (7, 512), (22, 768)])
def test_every_size_agrees(hf: Any, layers: int, width: int, tmp_path: Path) -> None:
    settings = EncoderSettings(
        family="modernbert",
        layers=layers,
        width=width,
        heads=width // 64,
        intermediate=width * 3 // 2,
        max_positions=512,
        norm_eps=1e-5,
    )
    std = 0.02  # without a norm between layers the states grow with the weights, and their rounding with them
    lengths = [200, 70, 3]  # the default window reaches 64 to each side
    for kind in KINDS:
        theirs = make_hf(hf, kind, settings)
        randomise(theirs, std=std)
        theirs.save_pretrained(tmp_path / "in")
        expected = hf_outputs_of(theirs, kind, lengths)
        assert_equal(outputs_of(load_model(tmp_path / "in").model, make_batch(lengths)), expected)
        check_writing(hf, kind, settings, tmp_path / "out", lengths, std)


def test_gradients_agree(hf: Any, tmp_path: Path) -> None:
    theirs = make_hf(hf, "ModernBertForMaskedLM", TINY)
    theirs.save_pretrained(tmp_path)
    ours, batch = load_model(tmp_path).model, make_batch(LENGTHS)
    weight = torch.randn(batch.tokens.numel(), VOCABULARY, generator=torch.Generator().manual_seed(0))
    inputs = {name: grid for name, grid in padded(batch).items() if name != "token_type_ids"}
    (unpad(theirs(**inputs).logits, batch) * weight).mean().backward()
    (ours.mlm_logits(ours.encoder(batch), torch.arange(batch.tokens.numel())) * weight).mean().backward()
    pairs = [
        (ours.encoder.embeddings.tokens, theirs.model.embeddings.tok_embeddings),
        (ours.encoder.layers[1].attention.qkv, theirs.model.layers[1].attn.Wqkv),
        (ours.encoder.layers[0].feed_forward.up, theirs.model.layers[0].mlp.Wi),
    ]
    for mine, other in pairs:
        torch.testing.assert_close(mine.weight.grad, other.weight.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_goes_through_bit_by_bit(hf: Any, kind: str, tmp_path: Path) -> None:
    make_hf(hf, kind, TINY).save_pretrained(tmp_path / "in")
    read = load_model(tmp_path / "in")
    save_model(tmp_path / "out", read.model, StandInTokenizer(), read.labels)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("in", "out"))
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    ours, theirs = (hf.ModernBertConfig.from_pretrained(tmp_path / name) for name in ("out", "in"))
    same = {key: value for key, value in theirs.to_dict().items() if key not in ("problem_type", "dtype", "transformers_version")}
    assert {key: ours.to_dict().get(key) for key in same} == same


def test_all_heads_survive_together(hf: Any, tmp_path: Path) -> None:
    """The heads of two classes, both of which call theirs `head`, and the pair head, which has no class."""
    for classes in (None, 3):
        folder = tmp_path / str(classes)
        ours = build_model(TINY, VOCABULARY, ("mlm", "pair"), classes=classes)
        randomise(ours)
        save_model(folder, ours, StandInTokenizer())
        again = load_model(folder).model.state_dict()
        assert again.keys() == ours.state_dict().keys()
        assert all(torch.equal(tensor, again[name]) for name, tensor in ours.state_dict().items())
        kind = "ModernBertForMaskedLM" if classes is None else "cls"
        open_as = hf.ModernBertForMaskedLM if classes is None else hf.ModernBertForSequenceClassification
        assert_equal(outputs_of(ours, make_batch(LENGTHS)), hf_outputs_of(open_as.from_pretrained(folder).eval(), kind))


def test_first_folders_are_read(hf: Any, tmp_path: Path) -> None:
    """The keys of the first ModernBERT folders, and an output matrix written out beside the embedding."""
    theirs = make_hf(hf, "ModernBertForMaskedLM", TINY)
    theirs.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for key in ("layer_types", "rope_parameters"):
        del config[key]
    config |= {
        "global_attn_every_n_layers": 2,
        "global_rope_theta": 20_000.0,
        "local_rope_theta": 300.0,
        "position_embedding_type": "absolute",
        "layer_norm_eps": 1e-05,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["decoder.weight"] = tensors["model.embeddings.tok_embeddings.weight"].clone()
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    read = load_model(tmp_path).model
    assert read.settings == dataclasses.replace(TINY, global_every=2)
    expected = hf_outputs_of(hf.ModernBertForMaskedLM.from_pretrained(tmp_path).eval(), "ModernBertForMaskedLM")
    assert_equal(outputs_of(read, make_batch(LENGTHS)), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_activation": "relu"}, "hidden_activation"),
        ({"attention_bias": True}, "attention_bias"),
        ({"decoder_bias": False}, "decoder_bias"),
        ({"classifier_pooling": "max"}, "classifier_pooling"),
        ({"local_attention": 13}, "local_attention"),
        ({"layer_types": ["sliding_attention"] * 4}, "layer_types must"),
        ({"layer_types": "odd"}, "layer_types must"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "rope_parameters of full_attention"),
        ({"rope_parameters": {"sliding_attention": 3}}, "rope_parameters of sliding_attention"),
        ({"global_rope_theta": None}, "global_rope_theta"),
        ({"rope_scaling": {"factor": 2}}, "rope_scaling"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ({"architectures": ["ModernBertForQuestionAnswering"]}, "ModernBertForQuestionAnswering"),
        ({"num_hidden_layers": 3}, "3 layers"),
        ({"num_attention_heads": 64}, "even"),
    ],
)
def test_configs_that_do_not_fit_are_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    save_model(tmp_path / "model", build_model(TINY, VOCABULARY, ("mlm",)), StandInTokenizer())
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path / "model")


def test_a_local_layer_sees_its_window_and_no_further() -> None:
    model = build_model(dataclasses.replace(TINY, layers=2, global_every=2), VOCABULARY, ())
    randomise(model)
    batch = make_batch([40, 30])
    with torch.no_grad():  # layer 0 is global: make it add nothing, so that only layer 1 mixes tokens
        model.encoder.layers[0].attention.output.weight.zero_()
        before = model.encoder(batch)
        batch.tokens[20] += 1
        changed = (model.encoder(batch) - before).abs().amax(1) > 1e-7
    assert changed.nonzero().flatten().tolist() == list(range(14, 27))


def test_initial_weights_are_modernberts(hf: Any) -> None:
    """Standard deviations as transformers draws them, cut off at two, and small where a block adds to the residual."""
    settings = dataclasses.replace(TINY, width=256, heads=4, intermediate=384, layers=3)
    ours = build_model(settings, VOCABULARY, ("mlm",), classes=300)
    theirs = {}
    for kind in ("ModernBertForMaskedLM", "cls"):
        config = make_hf(hf, kind, settings).config
        config.num_labels = 300
        name = "ModernBertForSequenceClassification" if kind == "cls" else kind
        theirs[kind] = getattr(hf, name)(config).state_dict()
    masked = theirs["ModernBertForMaskedLM"]
    expected = {
        "encoder.embeddings.tokens": masked["model.embeddings.tok_embeddings.weight"],
        "encoder.layers.1.attention.qkv": masked["model.layers.1.attn.Wqkv.weight"],
        "encoder.layers.1.attention.output": masked["model.layers.1.attn.Wo.weight"],
        "encoder.layers.2.feed_forward.up": masked["model.layers.2.mlp.Wi.weight"],
        "encoder.layers.2.feed_forward.down": masked["model.layers.2.mlp.Wo.weight"],
        "heads.mlm.dense": masked["head.dense.weight"],
        "heads.pooler.dense": theirs["cls"]["head.dense.weight"],
        "heads.task.linear": theirs["cls"]["classifier.weight"],
    }
    state = ours.state_dict()
    for name, reference in expected.items():
        mine = state[f"{name}.weight"]
        assert abs(mine.std() / reference.std() - 1) < 0.03, name
        assert abs(mine.abs().max() / reference.abs().max() - 1) < 0.03, name
