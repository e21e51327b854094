"""Model folders are written whole or not at all, and read strictly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import tofro.encoders.folder as folder_module
from tofro.encoders.folder import find_transformer, load_model, save_model
from tofro.encoders.model import Model, build_model
from tofro.encoders.sentence import read_pooling

from .conftest import SMALL, VOCABULARY, StandInTokenizer, randomise


@pytest.fixture
def model() -> Model:
    built = build_model(SMALL, VOCABULARY)
    randomise(built)
    return built


@pytest.fixture
def written(model: Model, tokenizer: StandInTokenizer, tmp_path: Path) -> Path:
    """A folder of a pretrained model."""
    save_model(tmp_path / "model", model, tokenizer)
    return tmp_path / "model"


def edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    config.update(changes)
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value != "DROP"}))


def edit_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", metadata={"format": "pt"})


def assert_same(first: Model, second: Model) -> None:
    one, two = first.state_dict(), second.state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


@pytest.mark.parametrize("heads", [(), ("mlm",), ("pair",), ("pooler",), ("mlm", "pooler"), ("mlm", "pair")])
@pytest.mark.parametrize(("classes", "regression"), [(None, False), (4, False), (None, True)])
def test_every_set_of_heads_comes_back(heads: tuple[str, ...], classes: int | None, regression: bool, tmp_path: Path) -> None:
    model = build_model(SMALL, VOCABULARY, heads, classes=classes, regression=regression)
    randomise(model)
    save_model(tmp_path / "model", model, StandInTokenizer())
    read = load_model(tmp_path / "model")
    assert_same(read.model, model)
    assert read.made_anew == ()
    assert read.labels == (() if regression else None if classes is None else ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"))


@pytest.mark.parametrize("failing", ["tokenizer", "flush", "rename"])
@pytest.mark.parametrize("before", ["nothing", "a model"])
def test_a_failure_leaves_what_was_there(
    failing: str, before: str, model: Model, tokenizer: StandInTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model"
    if before == "a model":
        save_model(target, model, tokenizer)
    other = build_model(SMALL, VOCABULARY, seed=9)

    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    rename = folder_module.os.rename

    def fail_to_target(source: Path, destination: Path) -> None:
        if Path(destination) == target and not Path(source).name.endswith(".old"):
            fail()
        rename(source, destination)

    if failing == "tokenizer":
        monkeypatch.setattr(tokenizer, "save", fail)
    elif failing == "flush":
        monkeypatch.setattr(folder_module.os, "fsync", fail)
    else:
        monkeypatch.setattr(folder_module.os, "rename", fail_to_target)
    with pytest.raises(OSError, match="no space"):
        save_model(target, other, tokenizer)
    assert list(tmp_path.iterdir()) == ([target] if before == "a model" else [])
    if before == "a model":
        assert_same(load_model(target).model, model)


def test_writing_again_replaces_a_model_and_nothing_else(written: Path, tokenizer: StandInTokenizer, tmp_path: Path) -> None:
    other = build_model(SMALL, VOCABULARY, ("mlm",), seed=9)
    save_model(written, other, tokenizer)
    assert_same(load_model(written).model, other)
    assert list(tmp_path.iterdir()) == [written]
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="not a model folder"):
        save_model(tmp_path / "notes", other, tokenizer)
    assert (tmp_path / "notes" / "thesis.txt").exists()


def test_missing_heads_are_made_anew_where_that_is_allowed(tokenizer: StandInTokenizer, tmp_path: Path) -> None:
    bare = build_model(SMALL, VOCABULARY, ())
    save_model(tmp_path / "model", bare, tokenizer)
    assert list(load_model(tmp_path / "model").model.heads) == []
    read = load_model(tmp_path / "model", heads_may_be_missing=("mlm", "pair"), seed=5)
    assert read.made_anew == ("mlm", "pooler", "pair")
    fresh = build_model(SMALL, VOCABULARY, ("mlm", "pair"), seed=5)
    assert all(torch.equal(tensor, read.model.heads.state_dict()[name]) for name, tensor in fresh.heads.state_dict().items())
    assert torch.equal(read.model.encoder.layers[0].attention.qkv.weight, bare.encoder.layers[0].attention.qkv.weight)


def test_promised_heads_must_be_there(written: Path, model: Model) -> None:
    edit_tensors(written, lambda tensors: {name: t for name, t in tensors.items() if not name.startswith("cls.predictions")})
    with pytest.raises(ValueError, match="heads mlm"):
        load_model(written)
    assert load_model(written, heads_may_be_missing=("mlm",)).made_anew == ("mlm",)


def old_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    result = {}
    for name, tensor in tensors.items():
        for new, old in renamed.items():
            name = name.replace(new, old)
        result[name] = tensor
    return result


def copies(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return tensors | {
        "cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"].clone(),
        "cls.predictions.decoder.bias": tensors["cls.predictions.bias"].clone(),
        "bert.embeddings.position_ids": torch.arange(40)[None],
    }


@pytest.mark.parametrize("change", [old_names, copies, lambda tensors: old_names(copies(tensors))])
def test_older_ways_of_writing_are_read(change: Callable[..., Any], written: Path, model: Model) -> None:
    edit_tensors(written, change)
    assert_same(load_model(written).model, model)


def test_half_precision_weights_are_widened(written: Path, model: Model) -> None:
    edit_tensors(written, lambda tensors: {name: tensor.half() for name, tensor in tensors.items()})
    read = load_model(written).model.state_dict()
    assert all(torch.equal(tensor.half().float(), read[name]) for name, tensor in model.state_dict().items())


def without(name: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("bert.embeddings.LayerNorm.bias"), r"bert\.embeddings\.LayerNorm\.bias is missing"),
        (without("bert.pooler.dense.bias"), r"bert\.pooler\.dense\.bias is missing"),
        (lambda tensors: tensors | {"bert.extra": torch.zeros(1)}, r"bert\.extra is left over"),
        (lambda tensors: tensors | {"cls.predictions.bias": torch.zeros(3)}, r"predictions\.bias has shape \[3\], not \[512\]"),
        (lambda tensors: tensors | {"cls.predictions.decoder.weight": torch.zeros(VOCABULARY, 32)}, "differs from"),
        (lambda tensors: tensors | {"cls.predictions.bias": torch.zeros(VOCABULARY, dtype=torch.int8)}, "quantised"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change: Callable[..., Any], message: str, written: Path) -> None:
    edit_tensors(written, change)
    with pytest.raises(ValueError, match=message):
        load_model(written)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ({"model_type": "gpt2"}, "model_type is 'gpt2'"),
        ({"model_type": "DROP"}, "model_type is None"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"is_decoder": True}, "is_decoder"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings"),
        ({"architectures": ["BertForQuestionAnswering"]}, "BertForQuestionAnswering"),
        ({"architectures": [["BertModel"]]}, "architecture"),
        ({"num_hidden_layers": 1_000_000_000}, "1000000000 layers"),
        ({"hidden_size": "wide"}, "hidden_size must be"),
        ({"hidden_size": "DROP"}, "hidden_size must be"),
        ({"hidden_size": 2**60, "num_attention_heads": 4}, "config.json"),
        ({"hidden_size": 2**70, "num_attention_heads": 4}, "config.json"),
        ({"num_attention_heads": 5}, "config.json.*heads"),
        ({"layer_norm_eps": -1}, "layer_norm_eps"),
        ({"vocab_size": 100}, "100"),
        ({"problem_type": "multi_label_classification"}, "problem_type"),
        ({"id2label": {"1": "a", "5": "b"}}, "id2label"),
        ({"attention_probs_dropout_prob": "some"}, "attention_probs_dropout_prob"),
    ],
)
def test_configs_that_do_not_fit_are_named(change: dict[str, Any], message: str, written: Path) -> None:
    edit_config(written, **change)
    with pytest.raises(ValueError, match=message):
        load_model(written)


def test_pickles_are_refused_with_the_way_out(written: Path) -> None:
    (written / "model.safetensors").rename(written / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pickle.*save_pretrained"):
        load_model(written)


def test_damaged_and_missing_files_are_named(written: Path, tmp_path: Path) -> None:
    weights = (written / "model.safetensors").read_bytes()
    for damaged in (weights[:-100], b"", b"\xff" * 16, (2**40).to_bytes(8, "little") + weights[8:]):
        (written / "model.safetensors").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model\.safetensors: is damaged"):
            load_model(written)
    (written / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="no weights"):
        load_model(written)
    (written / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: is not JSON"):
        load_model(written)
    (written / "config.json").unlink()
    with pytest.raises(ValueError, match=r"config\.json: not found"):
        load_model(written)
    with pytest.raises(ValueError, match="no such model folder"):
        load_model(tmp_path / "elsewhere")


def test_a_tokenizer_of_another_model_is_named(model: Model, tmp_path: Path) -> None:
    save_model(tmp_path / "model", model, StandInTokenizer(entries=VOCABULARY + 1))
    with pytest.raises(ValueError, match=r"vocab\.txt: the tokenizer has 513 entries.*512"):
        load_model(tmp_path / "model")


def test_a_folder_of_parts_says_where_its_encoder_lies(written: Path, tmp_path: Path) -> None:
    assert find_transformer(written) == written
    whole = tmp_path / "whole"
    whole.mkdir()
    assert find_transformer(whole) == whole  # nothing to go by: opening it tells what is missing
    modules = [{"path": "1_Pooling", "type": "a.Pooling"}, {"path": "0_Transformer", "type": "a.Transformer"}]
    (whole / "modules.json").write_text(json.dumps(modules))
    assert find_transformer(whole) == whole / "0_Transformer"
    for text in ("[]", '[{"path": "x"}]', "3"):
        (whole / "modules.json").write_text(text)
        with pytest.raises(ValueError, match=r"modules\.json: names no Transformer"):
            find_transformer(whole)
    (whole / "modules.json").write_text("{")
    with pytest.raises(ValueError, match=r"modules\.json: is not JSON"):
        find_transformer(whole)
    (whole / "modules.json").write_text('[{"path": "../written", "type": "a.Transformer"}]')
    with pytest.raises(ValueError, match="outside the folder"):
        load_model(whole)
    (whole / "modules.json").write_text(json.dumps(modules))
    written.rename(whole / "0_Transformer")
    assert load_model(whole).folder == whole / "0_Transformer"


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_sentence_transformers_is_told_how_to_pool(
    pooling: str, model: Model, tokenizer: StandInTokenizer, tmp_path: Path
) -> None:
    save_model(tmp_path / "model", model, tokenizer, pooling=pooling)
    assert read_pooling(tmp_path / "model") == pooling
    modules = json.loads((tmp_path / "model" / "modules.json").read_text())
    assert [(part["path"], part["type"]) for part in modules] == [
        ("", "sentence_transformers.models.Transformer"),
        ("1_Pooling", "sentence_transformers.models.Pooling"),
    ]
    config = json.loads((tmp_path / "model" / "1_Pooling" / "config.json").read_text())
    assert config["word_embedding_dimension"] == SMALL.width
    assert [name for name, value in config.items() if value is True] == [
        {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}[pooling]
    ]
    save_model(tmp_path / "model", model, tokenizer)  # replaces the folder with its part


def test_poolings_that_tofro_has_not_are_told_by_their_names(written: Path) -> None:
    path = written / "1_Pooling" / "config.json"
    for config, expected in (
        ({"pooling_mode_max_tokens": True}, "max_tokens"),
        ({"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True}, "max_tokens+mean"),
        ({"pooling_mode": "cls"}, "cls"),
        ({}, None),
    ):
        path.write_text(json.dumps(config))
        assert read_pooling(written) == expected
    path.write_text("[]")
    with pytest.raises(ValueError, match="must hold a JSON object"):
        read_pooling(written)
    path.unlink()
    assert read_pooling(written) is None
