"""Composition: who wins, what is typed and sealed, that every file in conf/ composes, and that a sweep leaves nothing behind."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ReadonlyConfigError

from tofro.config import compose as composing
from tofro.config.build import resolve
from tofro.config.compose import compose, displace_lengths, job_overrides, multirun
from tofro.config.errors import ConfigError
from tofro.config.explain import misspelt_defaults
from tofro.config.schema import SETTINGS, RunConfig, seal

REAL = composing.conf_folder()
NEEDS = {"corpus/text": ["corpus.path=a.txt"], "task/file": ["task.path=a.csv"], "method/prompt": ["prompt=pydoc_kind"]}


def choices() -> list[str]:
    return sorted(path.relative_to(REAL).with_suffix("").as_posix() for path in REAL.rglob("*.yaml") if path.parent != REAL)


@pytest.mark.parametrize("choice", choices())
def test_every_option_composes(choice: str) -> None:
    group, _, option = choice.rpartition("/")
    config = compose([f"{group}={option}", *NEEDS.get(choice, [])])
    assert OmegaConf.get_type(config) is RunConfig


def targets() -> list[str]:
    found: set[str] = set()
    for path in REAL.rglob("*.yaml"):
        found |= set(re.findall(r"_target_: *(\S+)", path.read_text(encoding="utf-8")))
    return sorted(found)


@pytest.mark.parametrize("target", targets())
def test_every_target_is_allowed_and_exists(target: str) -> None:
    assert callable(resolve(target))


def test_no_defaults_list_is_misspelt(conf: Path) -> None:
    assert misspelt_defaults(conf) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("- optioal /tuning: head", "optioal is no keyword of a defaults list; did you mean optional?"),
        ("- overide /tuning: head", "did you mean override?"),
        ("- override /tunin: head", "did you mean tuning?"),
        ("- override /tuning: haed", "no tuning is called haed; did you mean head?"),
        ("- setings", "no config setings; did you mean settings?"),
    ],
)
def test_a_misspelt_defaults_list_is_found(conf: Path, tmp_path: Path, line: str, said: str) -> None:
    copy = tmp_path / "conf"
    for path in conf.rglob("*.yaml"):
        target = copy / path.relative_to(conf)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (copy / "optimizer" / "mine.yaml").write_text(f"defaults:\n  {line}\n", encoding="utf-8")
    found = misspelt_defaults(copy)
    assert len(found) == 1
    assert found[0].startswith("optimizer/mine.yaml: ")
    assert said in found[0]


def test_yaml_holds_no_default(conf: Path) -> None:
    """The dataclasses are the only home of defaults: a group's file repeats none of them."""
    repeated = []
    for group, variants in SETTINGS.items():
        known = {each.name: each for settings in variants.values() for each in dataclasses.fields(settings)}
        for path in sorted((conf / group).glob("*.yaml")):
            content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            content = content.get(group, content) if group == "method" else content
            repeated += [
                f"{group}/{path.name}: {key}"
                for key, value in content.items()
                if key in known and known[key].default == value and key != "_target_"
            ]
    assert repeated == []


def test_the_command_line_beats_recipe_beats_method_beats_group() -> None:
    assert compose([]).budget.epochs == 3
    assert compose(["method=pretrain"]).budget.steps == 2000
    assert compose(["method=pretrain", "budget=fine_tuning"]).budget.epochs == 3
    assert compose(["method=pretrain", "optimizer=fine_tuning"]).optimizer.lr == compose([]).optimizer.lr
    assert compose(["method=partial"]).tuning != compose(["method=full"]).tuning
    assert compose(["method=partial", "tuning=top_k", "tuning.k=2"]).tuning.k == 2
    assert compose(["recipe=article"]).method.name == "two_way"
    assert compose(["recipe=article", "method=pretrain"]).method.name == "pretrain"
    assert compose(["recipe=article", "method=pretrain"]).budget.steps == 2000
    assert compose(["recipe=article", "objective.unit=segment"]).objective.unit == "segment"


def test_the_order_of_overrides_matters_only_for_one_key() -> None:
    assert compose(["budget.batch=8", "method=pretrain"]) == compose(["method=pretrain", "budget.batch=8"])
    assert compose(["seed=1", "seed=2"]).seed == 2


def test_a_config_is_typed_and_read_only() -> None:
    config = compose(["optimizer.lr=1", "budget.precision=32"])
    assert isinstance(config.optimizer.lr, float)
    assert config.budget.precision == "32"
    with pytest.raises(ReadonlyConfigError):
        config.optimizer.lr = 2.0
    with pytest.raises(ReadonlyConfigError):
        config.seed = 2
    assert isinstance(OmegaConf.to_object(config.tuning), SETTINGS["tuning"]["settings"])
    assert "hydra" not in config


def test_one_composition_leaves_no_trace_in_the_next() -> None:
    first = compose(["seed=7", "budget.steps=3"])
    assert compose([]).seed == 0
    assert compose([]).budget.steps is None
    assert first.seed == 7


def test_quoted_and_structured_values_arrive_as_in_hydra() -> None:
    assert compose(["init_from='a=b, c'"]).init_from == "a=b, c"
    assert compose(["prompt.templates=['{text_a} is [MASK].']"]).prompt.templates == ["{text_a} is [MASK]."]
    assert compose(["prompt.words={good: [fine, nice]}"]).prompt.words == {"good": ["fine", "nice"]}
    assert compose(["+trainer.fit.benchmark=true"]).trainer.fit.benchmark is True


def test_a_given_length_displaces_the_presets() -> None:
    assert displace_lengths(["seed=1"]) == ["seed=1"]
    assert displace_lengths(["budget.minutes=null"]) == ["budget.minutes=null"]
    config = compose(["method=pretrain", "budget.minutes=10"])
    assert (config.budget.steps, config.budget.epochs, config.budget.minutes) == (None, None, 10.0)
    with pytest.raises(ConfigError, match="exactly one"):
        compose(["budget.steps=10", "budget.minutes=1"])
    with pytest.raises(ConfigError, match="none of"):
        compose(["budget.epochs=null"])


def test_multirun_runs_the_product_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def job(config: DictConfig) -> tuple[str, int, list[str]]:
        return seal(config).method.name, config.seed, job_overrides()

    returned = multirun(["method=full,two_way", "seed=range(2)", "alignment.weight=0.5"], job)
    assert [(name, seed) for name, seed, _ in returned] == [("full", 0), ("full", 1), ("two_way", 0), ("two_way", 1)]
    assert returned[3][2] == ["method=two_way", "seed=1", "alignment.weight=0.5"]
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_with_one_bad_value_runs_nothing() -> None:
    ran: list[int] = []
    for overrides in (["seed=0,1,-1"], ["method=full,ful"], ["seed=0,1", "sede=3"], ["budget.batch=choice(1,two)"]):
        with pytest.raises(ConfigError):
            multirun(overrides, lambda config: ran.append(config.seed))
    assert ran == []


def test_conf_is_found_in_a_wheel_and_in_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (composing.conf_folder() / "run.yaml").is_file()
    (tmp_path / "conf").mkdir()
    monkeypatch.setattr(composing.resources, "files", lambda package: tmp_path)
    assert composing.conf_folder() == tmp_path / "conf"
