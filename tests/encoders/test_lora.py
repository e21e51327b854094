"""Adapters: nothing at first, what `peft` computes after that, and gone without a trace once merged."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from tofro.encoders import lora
from tofro.encoders.model import Model, build_model
from tofro.encoders.settings import LoraSettings
from tofro.encoders.tuning import settle, train_lora

from .conftest import SMALL, VOCABULARY, make_batch, randomise

EVERY = ["attention.qkv", "attention.output", "feed_forward.up", "feed_forward.down"]
BATCH = make_batch([6, 9, 4])


@pytest.fixture
def model() -> Model:
    built = build_model(SMALL, VOCABULARY, classes=3)
    randomise(built)
    return built.eval()


def adapters(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.named_parameters() if name.endswith(("lora_a", "lora_b"))}


def fill_in(model: Model) -> None:
    """Give the differences values, as training would."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in adapters(model).values():
            value.normal_(0.0, 0.1, generator=generator)


def logits(model: Model) -> torch.Tensor:
    with torch.no_grad():
        return model.task_logits(model.encoder(BATCH), BATCH)


def test_fresh_adapters_add_nothing_and_keep_names_and_memory(model: Model) -> None:
    names, memory = list(model.state_dict()), {name: value.data_ptr() for name, value in model.named_parameters()}
    before = logits(model)
    train_lora(LoraSettings(targets=EVERY), model, 0)
    assert torch.equal(logits(model), before)
    assert [name for name in model.state_dict() if "lora" not in name] == names
    assert {name: value.data_ptr() for name, value in model.named_parameters() if name in memory} == memory
    assert len(adapters(model)) == 2 * len(EVERY) * SMALL.layers


def test_the_formula_on_one_map() -> None:
    linear = torch.nn.Linear(5, 7)
    adapted = lora.Adapted(linear, rank=2, alpha=6.0, dropout=0.0, stream=1)
    torch.nn.init.normal_(adapted.lora_b)
    states = torch.randn(4, 5)
    expected = states @ (linear.weight + 3.0 * adapted.lora_b @ adapted.lora_a).T + linear.bias
    torch.testing.assert_close(adapted(states), expected)


def test_the_same_numbers_as_peft(model: Model) -> None:
    """Logits and gradients of every adapter, with the same A and B."""
    peft = pytest.importorskip("peft")
    theirs = copy.deepcopy(model)
    config = peft.LoraConfig(r=4, lora_alpha=12, target_modules=EVERY, lora_dropout=0.0)
    peft.inject_adapter_in_model(config, theirs.encoder)
    train_lora(LoraSettings(rank=4, alpha=12.0, targets=EVERY), model, 0)
    fill_in(model)
    pairs = {}
    names = dict(theirs.named_parameters())
    for name, value in adapters(model).items():
        other = names[name.replace("lora_a", "lora_A.default.weight").replace("lora_b", "lora_B.default.weight")]
        other.data.copy_(value.data)
        pairs[name] = (value, other)
    for each in (model, theirs):
        each.task_logits(each.encoder(BATCH), BATCH).square().sum().backward()
    torch.testing.assert_close(logits(model), logits(theirs))
    for name, (ours, other) in pairs.items():
        torch.testing.assert_close(ours.grad, other.grad, msg=name)


def test_merging_changes_no_logit_and_leaves_an_ordinary_model(model: Model) -> None:
    plain = copy.deepcopy(model)
    train_lora(LoraSettings(rank=4, targets=EVERY), model, 0)
    fill_in(model)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    apart = logits(model)
    assert not torch.allclose(apart, logits(plain), atol=1e-3)
    settle(model, start)
    assert float((logits(model) - apart).abs().max()) <= 1e-5
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [type(part) for part in model.modules()] == [type(part) for part in plain.modules()]
    assert [tuple(value.shape) for value in model.parameters()] == [tuple(value.shape) for value in plain.parameters()]


def test_a_base_weight_that_moved_is_found_before_merging(model: Model) -> None:
    train_lora(LoraSettings(rank=4), model, 0)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        model.encoder.layers[0].attention.qkv.weight[0, 0] += 1e-6
    with pytest.raises(AssertionError, match=r"layers\.0\.attention\.qkv\.weight"):
        settle(model, start)


def test_first_weights_depend_on_seed_and_name_alone(model: Model) -> None:
    made: list[dict[str, Any]] = []
    for seed, targets, state in ((0, EVERY, 1), (0, ["attention.qkv"], 2), (1, EVERY, 1)):
        torch.manual_seed(state)
        twin = copy.deepcopy(model)
        train_lora(LoraSettings(targets=targets), twin, seed)
        made.append(adapters(twin))
    name, other = (f"encoder.layers.{index}.attention.qkv.lora_a" for index in (0, 1))
    assert torch.equal(made[0][name], made[1][name])
    assert not torch.equal(made[0][name], made[2][name])
    assert not torch.equal(made[0][name], made[0][other])
    assert float(made[0][name].detach().abs().max()) <= SMALL.width**-0.5


def test_dropout_acts_in_training_alone_and_draws_from_torchs_generator(model: Model) -> None:
    train_lora(LoraSettings(rank=4, dropout=0.5), model, 0)
    fill_in(model)
    assert torch.equal(logits(model), logits(model))
    model.train()
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(logits(model))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize(
    ("targets", "said"), [(["attention.key"], "no linear map of a layer is called attention.key"), ([], "names no")]
)
def test_targets_that_are_not_there_name_the_key_and_those_that_are(targets: list[str], said: str, model: Model) -> None:
    with pytest.raises(ValueError, match=rf"tuning\.targets: {said}.*attention\.output, attention\.qkv, feed_forward\.down"):
        train_lora(LoraSettings(targets=targets), model, 0)
