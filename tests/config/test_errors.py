"""Mistakes on the command line and in YAML: named, with the right name beside them, in at most eight lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tofro.config import compose as composing
from tofro.config.compose import compose, multirun
from tofro.config.errors import LINES, ConfigError, closest

MISTAKES = [
    ("sede=1", "no group or key sede", "seed"),
    ("methd=full", "no group or key methd", "method"),
    ("lr=1e-3", "no group or key lr", "optimizer.lr"),
    ("+foo=1", "no key foo", "foo"),
    ("budget.stpes=10", "no key budget.stpes", "budget.steps"),
    ("budgte.steps=10", "no key budgte.steps", "budget.steps"),
    ("budget.xyzzy=1", "no key budget.xyzzy", "steps, epochs, tokens, minutes"),
    ("alignment.loss.tempratur=1", "no key alignment.loss.tempratur", "alignment.loss.temperature"),
    ("trainer.max_steps=10", "no key trainer.max_steps", "budget.steps"),
    ("trainer.fit.max_epochs=3", "trainer.fit.max_epochs is not accepted", "budget.epochs"),
    ("+trainer.fit.callbacks=3", "trainer.fit.callbacks is not accepted", "profiler"),
    ("tuning.k=2", "no key tuning.k in the chosen tuning", "tuning=top_k"),
    ("method=ful", "no method is called ful", "full"),
    ("recipe=artcle", "no recipe is called artcle", "article"),
    ("alignment/schedule=rmap", "no alignment/schedule is called rmap", "ramp"),
    ("budget.steps=abc", "budget.steps=abc has the wrong type", "a whole number"),
    ("seed=1.5", "seed=1.5 has the wrong type", "a whole number"),
    ("budget.best=maybe", "budget.best=maybe has the wrong type", "true or false"),
    ("seed=null", "seed=null has the wrong type", "a whole number"),
    ("budget.steps=0", "budget.steps=0 is out of range", "at least 1"),
    ("alignment.weight=-1", "alignment.weight=-1.0 is out of range", "at least 0"),
    ("optimizer.lr=nan", "optimizer.lr=nan is out of range", "above 0"),
    ("tokenizer.vocabulary=100", "tokenizer.vocabulary=100 is out of range", "a multiple of 64"),
    ("task.on_bad_row=ignore", "task.on_bad_row=ignore is out of range", "error, quarantine"),
    ("encoder.heads=3", "encoder.heads=3 does not divide encoder.width=256", "divides"),
    ("regularizer.replay_states=1", "regularizer.replay_states=1.0: the corpus has no states to teach", "replay_targets=start"),
    ("encoder.local_window=64", "encoder.local_window=64: an encoder of family bert has no such thing", "leave it out"),
    ("task=file", "task.path is not set", "task.path="),
    ("method=prompt", "method=prompt needs prompt._target_", "prompt="),
    ("prompt.words={0: [bad]}", "prompt.words.0 must be named by text", '"0"'),
    ("alignment.schedule=ramp", "alignment.schedule=ramp is no function", "alignment/schedule="),
    ("full", "full is not an override", "key=value"),
    ("init_from=a=b", "the value of init_from can't be read", "'init_from=\"a=b\"'"),
    ("seed=[1,2", "the value of seed can't be read", "quote"),
    ("method=full,two_way", "gives several values to one run", "-m"),
    ("budget.steps=1,2", "gives several values to one run", "-m"),
    ("~seed", "seed can't be left out", "set it"),
    ("seed=${nothing}", "nothing", ""),
]


@pytest.mark.parametrize(("override", "what", "remedy"), MISTAKES, ids=[each[0] for each in MISTAKES])
def test_a_mistake_is_named_and_mended(override: str, what: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([override])
    text = str(caught.value)
    assert what in text
    assert remedy in text
    assert len(text.splitlines()) <= LINES


@pytest.mark.parametrize("override", ["sede=0,1", "method=full,ful", "seed=0,-1", "budget.stpes=1", "seed=[1,", "full"])
def test_a_sweep_names_mistakes_alike(override: str) -> None:
    with pytest.raises(ConfigError):
        multirun([override], lambda config: None)


def test_many_mistakes_fit_eight_lines_and_are_counted() -> None:
    with pytest.raises(ConfigError) as caught:
        compose(["sede=1", "methd=x", "budget.foo=1", "lr=2", "abc=3", "kk=2"])
    lines = str(caught.value).splitlines()
    assert len(lines) <= LINES
    assert lines[-1] == "and 3 more"


def test_a_right_key_of_a_variant_is_not_blamed() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.lr is a number"):
        compose(["tuning=top_k", "tuning.k=2", "optimizer.lr=fast"])
    assert compose(["tuning=top_k", "tuning.k=2"]).tuning.k == 2


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("defaults: [settings, _self_]\nstpes: 10\n", "no key budget.stpes"),
        ("defaults: [settings, _self_]\nsteps: ten\n", "wrong type"),
        ("defaults: [settings, _self_]\nsteps: 0\n", "out of range"),
        ("defaults: [setings, _self_]\n", "setings"),
        ("steps: [1\n", "YAML"),
    ],
)
def test_a_mistake_in_a_file_is_named(conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, what: str) -> None:
    for path in conf.rglob("*.yaml"):
        target = tmp_path / path.relative_to(conf)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "budget" / "mine.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(composing, "conf_folder", lambda: tmp_path)
    with pytest.raises(ConfigError) as caught:
        compose(["budget=mine"])
    assert what in str(caught.value)
    assert len(str(caught.value).splitlines()) <= LINES


@pytest.mark.parametrize(
    ("words", "what"),
    [("{0: [bad]}", "prompt.words.0 must be named by text"), ("{a: [no]}", "prompt.words.a has the wrong type")],
)
def test_a_mistake_in_a_prompt_of_ones_own_names_file_and_key(tmp_path: Path, words: str, what: str) -> None:
    (tmp_path / "prompt").mkdir()
    (tmp_path / "prompt" / "mine.yaml").write_text(f"defaults: [settings, _self_]\nwords: {words}\n")
    with pytest.raises(ConfigError, match=re.escape(f"{what} (in {tmp_path / 'prompt' / 'mine.yaml'})")):
        compose(["prompt=mine", f"hydra.searchpath=[file://{tmp_path}]"])


def test_closest_prefers_the_whole_name_and_knows_last_parts() -> None:
    known = ["budget.steps", "budget.batch", "optimizer.lr", "optimizer.lr_head", "seed"]
    assert closest("budget.stpes", known)[0] == "budget.steps"
    assert closest("lr", known)[0] == "optimizer.lr"
    assert closest("BATCH", known) == ["budget.batch"]
    assert closest("zzz", known) == []
