"""A config read back from its file is the config that was written."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ReadonlyConfigError

from tofro.config.compose import compose
from tofro.config.errors import ConfigError
from tofro.config.identity import identity
from tofro.config.reload import reload
from tofro.config.schema import SETTINGS


@pytest.mark.parametrize(
    "overrides",
    [
        ["method=pretrain"],
        ["method=two_way", "alignment=supcon", "alignment/schedule=constant", "alignment.temperature=0.2", "init_from=somewhere"],
        ["method=partial", "tuning=top_k", "tuning.k=2", "budget.minutes=1.5", "+trainer.fit.benchmark=true"],
        ["method=prompt", "prompt=sst2", "budget.precision=bf16", "seed=3"],
    ],
)
def test_a_config_comes_back_whole(overrides: list[str], tmp_path: Path) -> None:
    config = compose(overrides)
    OmegaConf.save(config, tmp_path / "config.yaml")
    back = reload(tmp_path / "config.yaml")
    assert back == config
    assert OmegaConf.to_container(back, throw_on_missing=False) == OmegaConf.to_container(config, throw_on_missing=False)
    for group in SETTINGS:
        assert OmegaConf.get_type(back[group]) is OmegaConf.get_type(config[group])
    if config.init_from is None:
        assert identity(back, lambda what: "hash") == identity(config, lambda what: "hash")
    with pytest.raises(ReadonlyConfigError):
        back.seed = 4


@pytest.mark.parametrize(
    ("overrides", "group", "key"),
    [
        (["method=prompt", "prompt=sst2", "task=sst2", "task.path=SST-2"], "task", "validation_rows"),
        (["method=two_way", "task=file", "task.path=own.csv"], "task", "validation_rows"),
        (["method=two_way", "regularizer=distilled_replay"], "regularizer", "replay_states"),
        (["method=two_way", "alignment=supcon"], "alignment", "pooling"),
    ],
)
def test_a_key_that_came_later_has_its_default(overrides: list[str], group: str, key: str, tmp_path: Path) -> None:
    config = compose([*overrides, "init_from=somewhere"])
    older = OmegaConf.to_container(config)
    assert isinstance(older, dict)
    del older[group][key]
    OmegaConf.save(older, tmp_path / "config.yaml")
    back = reload(tmp_path / "config.yaml")
    assert back == config
    assert OmegaConf.get_type(back[group]) is OmegaConf.get_type(config[group])


def test_a_changed_file_is_checked(tmp_path: Path) -> None:
    config = compose(["method=full"])
    text = OmegaConf.to_yaml(config)
    (tmp_path / "config.yaml").write_text(text.replace("accumulate: 1", "accumulate: 0"))
    with pytest.raises(ValueError, match=r"budget\.accumulate=0 is out of range"):
        reload(tmp_path / "config.yaml")


def test_a_variable_that_is_not_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_DATA", "/data")
    written = OmegaConf.to_yaml(compose(["method=full", "task=file", "task.path=${oc.env:MY_DATA}/sst2"]))
    (tmp_path / "config.yaml").write_text(written, encoding="utf-8")
    assert reload(tmp_path / "config.yaml").task.path == "/data/sst2"
    monkeypatch.delenv("MY_DATA")
    said = r"task\.path needs the environment variable MY_DATA, which is not set\n  export MY_DATA="
    with pytest.raises(ConfigError, match=rf"config\.yaml: {said}"):
        reload(tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match=f"^{said}"):
        compose(["method=full", "task=file", "task.path=${oc.env:MY_DATA}/sst2"])
