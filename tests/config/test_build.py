"""What a config may name as a target, and how a target gets its settings or keys."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass

import pytest
from omegaconf import OmegaConf

from tofro.config import build as building
from tofro.config.build import build, resolve, trust


@dataclass
class ShelfSettings:
    _target_: str = "tofro.text.stand_in.read"
    size: int = 3


def read(settings: ShelfSettings, more: int = 0) -> tuple[ShelfSettings, int]:
    return settings, more


def scale(value: float, factor: float = 1.0) -> float:
    return value * factor


class Scorer:
    def __init__(self, settings: ShelfSettings, name: str) -> None:
        self.name = f"{name}{settings.size}"


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module in a room, with things of its own and things that it imported."""
    module = types.ModuleType("tofro.text.stand_in")
    for made in (read, scale, Scorer):
        monkeypatch.setattr(made, "__module__", module.__name__)
        setattr(module, made.__name__, made)
    monkeypatch.setattr(module, "_secret", read, raising=False)
    import os
    import subprocess

    module.os, module.system, module.run, module.loads = os, os.system, subprocess.run, eval  # type: ignore[attr-defined]
    module.size = 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(building, "_allowed", list(building._allowed))
    return module


def test_a_target_with_settings_gets_the_dataclass() -> None:
    node = OmegaConf.structured(ShelfSettings(size=4))
    settings, more = build(node, 5)
    assert settings == ShelfSettings(size=4)
    assert more == 5


def test_a_class_with_settings_is_constructed() -> None:
    assert build(OmegaConf.structured(ShelfSettings(_target_="tofro.text.stand_in.Scorer")), "a").name == "a3"


def test_any_other_target_gets_its_keys() -> None:
    node = OmegaConf.create({"_target_": "tofro.text.stand_in.scale", "factor": "${..two}", "two": 2}, parent=None)
    del node["two"]
    node.factor = 2.0
    assert build(node)(3.0) == 6.0
    assert build(node, 3.0) == 6.0
    assert build({"_target_": "tofro.text.stand_in.scale"}, 3.0) == 3.0


def test_a_key_that_the_target_lacks_is_named() -> None:
    with pytest.raises(ValueError, match="has no key facto; it has factor"):
        build({"_target_": "tofro.text.stand_in.scale", "facto": 2.0})


@pytest.mark.parametrize("node", [{}, {"_target_": None}, {"_target_": 3}, OmegaConf.create({"_target_": "???"})])
def test_a_node_without_a_target_is_refused(node: object) -> None:
    with pytest.raises(ValueError, match="names no _target_"):
        build(node)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "system",
        "",
        "tofro",
        "tofrox.text.evil",
        "tofro.textual.evil",
        "tofro.config.build.trust",  # a config must not widen the list
        "tofro.config.compose.multirun",
        "tofro.cli.main",
        "tofro.text.__builtins__.eval",
        "tofro.text.stand_in._secret",
        "tofro.text.stand_in.read.__globals__",
        "tofro.text..stand_in.read",
        "tofro.text.stand_in.read()",
        "tofro.text.stand_in.os",
        "tofro.text.stand_in.os.system",
        "tofro.text.stand_in.system",
        "tofro.text.stand_in.run",
        "tofro.text.stand_in.loads",
        "tofro.text.stand_in.size",
        "tofro.text.stand_in.missing",
        "tofro.text.no_such_module.read",
    ],
)
def test_what_is_not_a_public_thing_of_a_room_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="_target_="):
        resolve(name)


def test_a_refused_name_is_not_imported() -> None:
    sys.modules.pop("antigravity", None)
    with pytest.raises(ValueError, match="--trust antigravity"):
        resolve("antigravity.geohash")
    assert "antigravity" not in sys.modules


def test_trust_adds_a_prefix_and_no_more() -> None:
    with pytest.raises(ValueError, match="not allowed"):
        resolve("fractions.Fraction")
    trust("fractions")
    assert resolve("fractions.Fraction")(1, 2) == 0.5
    with pytest.raises(ValueError, match="not allowed"):
        resolve("fractionsx.Fraction")
    with pytest.raises(ValueError, match=r"comes from decimal|no function or class"):
        resolve("fractions.Decimal")  # imported there, defined elsewhere


@pytest.mark.parametrize("prefix", ["", ".", "a b", "os;", "tofro", "tofro.config"])
def test_trust_wants_a_module_name_outside_tofro(prefix: str) -> None:
    with pytest.raises(ValueError, match="--trust"):
        trust(prefix)


def test_a_module_with_a_broken_import_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ModuleNotFoundError("No module named 'jax'", name="jax")

    monkeypatch.setattr(building.importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError):
        resolve("tofro.text.stand_in.read")
