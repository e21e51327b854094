"""Selections of parameters: what is frozen stays bit-identical and gets no gradient, and nothing selected is an error."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
import torch

from tofro.encoders.model import Model, build_model
from tofro.encoders.settings import LoraSettings, TopKSettings, TuningSettings
from tofro.encoders.tuning import (
    assert_frozen,
    reinitialise,
    train_all,
    train_bias,
    train_head,
    train_lora,
    train_norm,
    train_top_k,
    trainable_names,
)

from .conftest import SMALL, VOCABULARY, make_batch

PLAIN = TuningSettings()
MODERN = dataclasses.replace(SMALL, family="modernbert")


@pytest.fixture
def model() -> Model:
    return build_model(SMALL, VOCABULARY, classes=3)


def start_of(model: Model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def step(model: Model) -> None:
    """One step of AdamW with a decay that would show on anything it touches."""
    batch = make_batch([6, 9, 4])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.5)
    torch.nn.functional.cross_entropy(model.task_logits(model.encoder(batch), batch), torch.tensor([0, 1, 2])).backward()
    optimizer.step()


TASK = r"heads\.(pooler|task)\."
SELECTIONS = [
    (train_all, PLAIN, ""),
    (train_head, PLAIN, TASK),
    (train_top_k, TopKSettings(k=1), rf"{TASK}|encoder\.layers\.2\."),
    (train_top_k, TopKSettings(k=3), rf"{TASK}|encoder\.layers\."),
    (train_bias, PLAIN, rf"{TASK}|encoder\..*\.bias$"),
    (train_norm, PLAIN, rf"{TASK}|encoder\.(.*\.)?norm\.(weight|bias)$"),
    (train_lora, LoraSettings(rank=2), rf"{TASK}|encoder\.layers\.\d\.attention\.qkv\.lora_[ab]$"),
    (
        train_lora,
        LoraSettings(rank=2, targets=["up", "down"]),
        rf"{TASK}|encoder\.layers\.\d\.feed_forward\.(up|down)\.lora_[ab]$",
    ),
]


@pytest.mark.parametrize(("tune", "settings", "pattern"), SELECTIONS)
def test_exactly_the_selection_trains(tune: Any, settings: Any, pattern: str, model: Model) -> None:
    train_head(PLAIN, model, 0)  # an earlier selection leaves no trace
    tune(settings, model, 0)
    expected = tuple(name for name, _ in model.named_parameters() if re.match(pattern, name))
    assert trainable_names(model) == expected
    assert len(expected) > 4 or tune is train_head
    start = start_of(model)
    step(model)
    for name, parameter in model.named_parameters():
        if name not in expected:
            assert parameter.grad is None, name
            assert torch.equal(parameter, start[name]), name
        elif not name.startswith(("heads.mlm", "heads.pair")) and not name.endswith("lora_a"):  # B is 0, so A has no gradient yet
            assert not torch.equal(parameter, start[name]), name
    assert_frozen(model, start)


def test_the_norm_above_the_layers_goes_with_the_highest() -> None:
    model = build_model(MODERN, VOCABULARY, classes=3)
    train_top_k(TopKSettings(k=1), model, 0)
    names = trainable_names(model)
    assert {name.rpartition(".")[0] for name in names if name.startswith("encoder.")} == {
        "encoder.norm",
        *(f"encoder.layers.2.attention.{part}" for part in ("qkv", "output", "norm")),
        *(f"encoder.layers.2.feed_forward.{part}" for part in ("up", "down", "norm")),
    }
    assert model.encoder.frozen_depth == 3


def test_all_norms_of_a_modernbert_train_and_it_has_no_biases_to() -> None:
    model = build_model(MODERN, VOCABULARY, classes=3)
    train_norm(PLAIN, model, 0)
    norms = {name for name, part in model.encoder.named_modules() if isinstance(part, torch.nn.LayerNorm)}
    assert {name for name in trainable_names(model) if name.startswith("encoder.")} == {
        f"encoder.{name}.weight" for name in norms
    }
    with pytest.raises(ValueError, match=r"tuning=bias: this encoder, of family modernbert, has no biases"):
        train_bias(PLAIN, model, 0)


def test_a_moved_frozen_parameter_is_found(model: Model) -> None:
    train_head(PLAIN, model, 0)
    start = start_of(model)
    with torch.no_grad():
        model.encoder.layers[1].attention.norm.bias[0] += 1e-7
    with pytest.raises(AssertionError, match=r"layers\.1\.attention\.norm\.bias"):
        assert_frozen(model, start)


@pytest.mark.parametrize("k", [0, 4])
def test_more_layers_than_there_are_name_the_key(k: int, model: Model) -> None:
    with pytest.raises(ValueError, match=r"tuning\.k: .* encoder has 3"):
        train_top_k(TopKSettings(k=k), model, 0)


def test_a_head_that_is_not_there_cannot_be_trained() -> None:
    with pytest.raises(ValueError, match="tuning=head"):
        train_head(PLAIN, build_model(SMALL, VOCABULARY, ("pair",)), 0)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
@pytest.mark.parametrize("layers", [1, 3])
def test_exactly_the_highest_layers_and_the_pooler_are_drawn_anew(family: str, layers: int) -> None:
    model = build_model(dataclasses.replace(SMALL, family=family), VOCABULARY, classes=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.25  # trained, so that biases and norms show too
    start = start_of(model)
    reinitialise(model, layers, seed=0)
    highest = "|".join(map(str, range(3 - layers, 3)))
    for name, value in model.state_dict().items():
        anew = re.match(rf"encoder\.layers\.({highest})\.|encoder\.norm\.|heads\.pooler\.", name)
        assert torch.equal(value, start[name]) is not bool(anew), name


def test_the_new_draw_depends_on_the_seed_alone_and_is_not_that_of_pretraining(model: Model) -> None:
    fresh = start_of(model)  # drawn from seed 0, as a pretraining with seed 0 begins
    drawn = []
    for seed, global_state in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(global_state)
        reinitialise(model, 1, seed)
        drawn.append(start_of(model))
    weight = "encoder.layers.2.feed_forward.up.weight"
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in fresh)
    assert not torch.equal(drawn[0][weight], drawn[2][weight])
    assert not torch.equal(drawn[0][weight], fresh[weight])
    assert drawn[0][weight].std() == pytest.approx(SMALL.init_std, rel=0.1)


def test_no_layer_drawn_anew_changes_nothing_and_too_many_name_the_key(model: Model) -> None:
    start = start_of(model)
    reinitialise(model, 0, seed=0)
    assert all(torch.equal(value, start[name]) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match=r"tuning\.reinitialise: 4 layers asked for, but the encoder has 3"):
        reinitialise(model, 4, seed=0)
