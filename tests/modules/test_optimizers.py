"""Parameter groups against hand-computed ones: who decays, at what rate, layer by layer; and each encoder's own clip."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.modules.conftest import Bench
from tofro.encoders.model import Model, build_model
from tofro.encoders.settings import EncoderSettings, LoraSettings, TuningSettings
from tofro.encoders.tuning import train_head, train_lora
from tofro.modules import base
from tofro.modules.optimizers import adamw, clip_per_encoder, parameter_groups
from tofro.modules.settings import BudgetSettings, OptimizerSettings

SETTINGS = EncoderSettings(layers=2, width=16, heads=2, intermediate=32, max_positions=32)
LAYER = ("attention.qkv", "attention.output", "attention.norm", "feed_forward.up", "feed_forward.down", "feed_forward.norm")


def model(family: str = "bert", classes: int | None = 3) -> Model:
    return build_model(dataclasses.replace(SETTINGS, family=family), 64, ("mlm", "pair"), classes=classes)


def named(models: dict[str, Model], settings: OptimizerSettings) -> dict[str, tuple[set[str], float, float]]:
    """Return group -> names of its parameters, rate, decay; every trainable parameter is in one group."""
    names = {id(value): name for each in models.values() for name, value in each.named_parameters()}
    groups = parameter_groups(models, settings)
    found = [id(value) for group in groups for value in group["params"]]
    trained = [id(value) for each in models.values() for value in each.parameters() if value.requires_grad]
    assert sorted(found) == sorted(trained)
    assert len({group["name"] for group in groups}) == len(groups)
    return {group["name"]: ({names[id(p)] for p in group["params"]}, group["lr"], group["weight_decay"]) for group in groups}


def test_without_layer_decay_an_encoder_has_a_body_and_a_head() -> None:
    groups = named({"ft": model()}, OptimizerSettings(lr=1e-3, lr_head=5e-3, weight_decay=0.1))
    assert list(groups) == ["ft/body/decay", "ft/body/plain", "ft/head/decay", "ft/head/plain"]
    assert {name: numbers[1:] for name, numbers in groups.items()} == {
        "ft/body/decay": (1e-3, 0.1),
        "ft/body/plain": (1e-3, 0.0),
        "ft/head/decay": (5e-3, 0.1),
        "ft/head/plain": (5e-3, 0.0),
    }


def test_rates_fall_by_the_layer_from_the_heads_down() -> None:
    groups = named({"ft": model()}, OptimizerSettings(lr=8.0, lr_head=3.0, layer_decay=0.5, weight_decay=0.1))
    rates = {"ft/top": 8.0, "ft/layer_1": 4.0, "ft/layer_0": 2.0, "ft/embeddings": 1.0, "ft/head": 3.0}
    assert list(dict.fromkeys(name.rpartition("/")[0] for name in groups)) == list(rates)  # the first one's rate is logged
    for name, (_, rate, decay) in groups.items():
        assert rate == rates[name.rpartition("/")[0]], name
        assert decay == (0.1 if name.endswith("/decay") else 0.0), name
    for index in (0, 1):
        norms = {f"encoder.layers.{index}.{part}.{kind}" for part in LAYER for kind in ("weight", "bias") if "norm" in part}
        biases = {f"encoder.layers.{index}.{part}.bias" for part in LAYER}
        weights = {f"encoder.layers.{index}.{part}.weight" for part in LAYER if "norm" not in part}
        assert groups[f"ft/layer_{index}/plain"][0] == norms | biases
        assert groups[f"ft/layer_{index}/decay"][0] == weights
    assert groups["ft/embeddings/decay"][0] == {
        f"encoder.embeddings.{part}.weight" for part in ("tokens", "positions", "segments")
    }
    assert groups["ft/embeddings/plain"][0] == {"encoder.embeddings.norm.weight", "encoder.embeddings.norm.bias"}
    assert groups["ft/head/decay"][0] == {"heads.task.linear.weight"}
    assert all(name.startswith(("heads.mlm.", "heads.pooler.", "heads.pair.")) for name in groups["ft/top/decay"][0])


def test_the_norm_above_a_modernberts_layers_goes_with_the_highest() -> None:
    groups = named({"ft": model("modernbert")}, OptimizerSettings(lr=8.0, layer_decay=0.5))
    assert "encoder.norm.weight" in groups["ft/layer_1/plain"][0]
    assert groups["ft/layer_1/plain"][1] == 4.0


def test_both_encoders_have_their_rates_decay_and_layers() -> None:
    settings = OptimizerSettings(lr=8.0, lr_pre=4.0, weight_decay=0.1, weight_decay_pre=0.3, layer_decay=0.5)
    groups = named({"ft": model(), "pre": model(classes=None)}, settings)
    assert {name: groups[name][1:] for name in ("ft/layer_0/decay", "pre/layer_0/decay", "pre/embeddings/plain")} == {
        "ft/layer_0/decay": (2.0, 0.1),
        "pre/layer_0/decay": (1.0, 0.3),
        "pre/embeddings/plain": (0.5, 0.0),
    }
    assert named({"pre": model(classes=None)}, OptimizerSettings(weight_decay_pre=0.0))["pre/body/decay"][2] == 0.0


def test_projectors_are_no_layers_and_keep_the_whole_rate() -> None:
    models = {"projectors": torch.nn.ModuleDict({"pre": torch.nn.Linear(4, 4)})}
    groups = named(models, OptimizerSettings(lr=8.0, layer_decay=0.5))  # type: ignore[arg-type]
    assert {name: rate for name, (_, rate, _) in groups.items()} == {"projectors/top/decay": 8.0, "projectors/top/plain": 8.0}


def test_frozen_parameters_are_in_no_group_and_adapters_go_with_their_layer() -> None:
    ft = model()
    train_head(TuningSettings(), ft, 0)
    assert set(named({"ft": ft}, OptimizerSettings(layer_decay=0.5))) == {
        f"ft/{part}/{kind}" for part in ("top", "head") for kind in ("decay", "plain")
    }
    train_lora(LoraSettings(rank=2), ft, 0)
    groups = named({"ft": ft}, OptimizerSettings(lr=8.0, layer_decay=0.5))
    assert groups["ft/layer_1/decay"] == ({f"encoder.layers.1.attention.qkv.lora_{part}" for part in "ab"}, 4.0, 0.01)


def test_a_step_moves_weights_by_their_own_rate() -> None:
    """Adam's first step is the rate, whatever the gradient."""
    ft = model()
    before = {name: value.clone() for name, value in ft.state_dict().items()}
    optimizer = adamw({"ft": ft}, OptimizerSettings(lr=1e-2, layer_decay=0.5, weight_decay=0.0, eps=1e-12))
    for parameter in ft.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    rates = {
        "encoder.layers.1.attention.qkv.weight": 5e-3,
        "encoder.embeddings.tokens.weight": 1.25e-3,
        "heads.task.linear.weight": 1e-2,
    }
    for name, rate in rates.items():
        torch.testing.assert_close(
            before[name] - ft.state_dict()[name], torch.full_like(before[name], rate), rtol=1e-3, atol=1e-7
        )


@pytest.mark.parametrize(
    ("largest", "largest_pre", "expected"),
    [
        (2.0, None, {"ft": 2.0, "pre": 2.0}),
        (2.0, 0.5, {"ft": 2.0, "pre": 0.5}),
        (2.0, 0.0, {"ft": 2.0, "pre": 10.0}),
        (0.0, 3.0, {"ft": 10.0, "pre": 3.0}),
    ],
)
def test_each_encoder_is_clipped_to_its_own_norm(largest: float, largest_pre: float | None, expected: dict[str, float]) -> None:
    models = {name: torch.nn.Linear(4, 25, bias=False) for name in ("ft", "pre")}
    for each in models.values():
        each.weight.grad = torch.ones(25, 4)
    norms = clip_per_encoder(models, largest, largest_pre)
    assert {name: float(norm) for name, norm in norms.items()} == {"ft": 10.0, "pre": 10.0}
    assert {name: pytest.approx(float(each.weight.grad.norm()), rel=1e-4) for name, each in models.items()} == expected  # type: ignore[union-attr]


def test_a_step_clips_pre_to_the_budget_s_own_norm(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    budget, seen = BudgetSettings(steps=2, batch=16, best=False), []
    monkeypatch.setattr(base, "clip_per_encoder", lambda models, *norms: seen.append(norms) or clip_per_encoder(models, *norms))
    module = bench.two_way(budget, weight=1.0)
    module.training_settings = dataclasses.replace(module.training_settings, clip_pre=0.25)
    bench.fit(module, budget, "clipped")
    assert seen == [(1.0, 0.25)] * 2
