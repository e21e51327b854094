"""What is measured of ``pre``: the same numbers from the cache as afresh, and those of its start where it has not moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runs.conftest import LONG, Chain, carry_out
from tofro.batches.pretraining import evaluation_batches
from tofro.config.compose import compose
from tofro.encoders.folder import load_model
from tofro.measures.mlm import retention
from tofro.runs import language, measuring, using
from tofro.runs.context import Context
from tofro.runs.measuring import measure, start_measures
from tofro.runs.run import identify
from tofro.runs.using import probe_tasks


def context_of(chain: Chain, outputs: Path, *overrides: str) -> Context:
    return Context(compose([*chain.base, chain.start(), "method=full", f"outputs_dir={outputs}", *overrides]), outputs)


def refuse(*arguments: Any) -> None:
    raise AssertionError("measured again")


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is computed and not taken from the cache, with made-up numbers."""
    seen: list[str] = []
    monkeypatch.setattr(language, "held_out", lambda *rest: seen.append("held out") or {"mlm_loss": 1.0})
    monkeypatch.setattr(language, "sentence_scores", lambda *rest: seen.append("sentences") or {"pll_per_token": -1.0})
    monkeypatch.setattr(measuring, "shape", lambda *rest: seen.append("shape") or {"uniformity": -1.0})
    monkeypatch.setattr(
        using,
        "frozen_use",
        lambda context, model, task, splits: seen.append(task.name) or {each: {"probe": 0.5} for each in splits},
    )
    monkeypatch.setattr(using, "fine_tuned", lambda *rest: seen.append("few shot") or {"mean": 0.5, "draw_0": 0.5})
    monkeypatch.setattr(using, "prompted", lambda *rest: seen.append("prompt") or {"prompt": 0.5})
    return seen


def test_the_measures_of_a_start_are_kept_and_equal_to_fresh_ones(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_of(chain, tmp_path)
    first = start_measures(context, context.settings("method"))
    model = load_model(chain.runs["pretrain"].folder / "models" / "pre").model
    assert first == measure(context_of(chain, tmp_path), model, "start")  # a model without lineage is always measured
    assert set(first) > {"validation/mlm_loss_start", "validation/pair_accuracy_start", "test/probe_task_start"}
    monkeypatch.setattr(language, "held_out", refuse)
    monkeypatch.setattr(measuring, "shape", refuse)
    monkeypatch.setattr(using, "frozen_use", refuse)
    again = context_of(chain, tmp_path, "seed=3", "optimizer.lr=1e-3", "method=two_way")
    assert start_measures(again, again.settings("method")) == first


def test_settings_can_be_chosen_without_a_look_at_test(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["method.few_shot=[2]", "method.few_shot_draws=1", "method.few_shot_steps=2"]
    seen = context_of(chain, tmp_path, *asked, "method.split=validation")
    seen.task.splits["test"].clear()
    found = start_measures(seen, seen.settings("method"))
    assert {name for name in found if "task" in name} == {
        f"validation/{what}_task_{last}" for what in ("probe", "knn", "few_shot_2") for last in ("start",)
    } | {"validation/few_shot_2_task_draw_0_start"}
    model = load_model(chain.runs["pretrain"].folder / "models" / "pre").model
    by_hand = using.frozen_use(seen, model, seen.task, ("validation",))["validation"]
    assert found["validation/probe_task_start"] == by_hand["probe"]


@pytest.mark.parametrize(
    ("override", "anew"),
    [
        ("objective.length=40", ["held out", "shape"]),
        ("corpus.validation_share=0.3", ["held out", "shape"]),
        ("method.sentences=20", ["shape"]),
        ("method.pooling=cls", ["shape", "task"]),
        ("method.probe_rows=40", ["task"]),
        ("method.test_rows=10", ["task"]),
        ("task.metric=macro_f1", ["task"]),
        ("method.few_shot=[2]", ["few shot"]),
        ("prompt=sst2", ["prompt"]),
        ("method.pseudo_log_likelihood=3", ["sentences"]),
        ("task.max_length=24", ["task"]),
        ("task.train_rows=50", ["task"]),
        ("other start", ["held out", "shape", "task"]),
    ],
)
def test_whatever_bears_on_a_measure_asks_for_a_new_one(
    chain: Chain, tmp_path: Path, computed: list[str], override: str, anew: list[str]
) -> None:
    other = f"init_from={chain.runs['full'].folder}" if override == "other start" else override
    for more in ((), (other,), (other,)):
        context = context_of(chain, tmp_path, *more)
        start_measures(context, context.settings("method"))
    assert computed == ["held out", "shape", "task", *anew]


def test_other_weights_under_the_same_name_are_measured_anew(chain: Chain, tmp_path: Path, computed: list[str]) -> None:
    """A run under a budget of minutes that is deleted and made again has the same id and other weights."""
    for change in (0.0, 0.0, 1e-3):
        context = context_of(chain, tmp_path)
        with torch.no_grad():
            next(context.start.model.encoder.parameters())[5, 3] += change
        start_measures(context, context.settings("method"))
    assert computed == ["held out", "shape", "task"] * 2


@pytest.mark.parametrize("method", ["full", "partial"])
def test_a_method_that_leaves_pre_alone_says_so_in_its_measures(chain: Chain, method: str) -> None:
    assert_unmoved(chain.runs[method].metrics)


def assert_unmoved(metrics: dict[str, float]) -> None:
    start = {name: value for name, value in metrics.items() if name.endswith("_start")}
    assert {"validation/mlm_loss_start", "validation/pair_accuracy_start", "test/probe_task_start"} <= set(start)
    assert {f"{name.removesuffix('_start')}_pre": value for name, value in start.items()} == {
        name: value for name, value in metrics.items() if name.endswith("_pre")
    }


def test_two_way_measures_the_pre_that_it_moved_and_no_other(chain: Chain, tmp_path: Path) -> None:
    metrics = chain.runs["two_way"].metrics
    assert metrics["validation/mlm_loss_pre"] != metrics["validation/mlm_loss_start"]
    assert metrics["validation/mlm_count_pre"] == metrics["validation/mlm_count_start"]  # the very same masks
    start = {name: value for name, value in metrics.items() if name.endswith("_start")}
    assert start == {name: value for name, value in chain.runs["full"].metrics.items() if name.endswith("_start")}
    model = load_model(chain.runs["two_way"].folder / "models" / "pre").model
    fresh = measure(context_of(chain, tmp_path), model, "pre")
    assert fresh.items() <= metrics.items()
    more = {name for name in metrics if name.endswith("_pre")} - set(fresh)  # what takes two models
    assert more == {
        *(f"validation/cka_layer_{layer}_pre" for layer in range(3)),
        "validation/alignment_pre",
        "train/displacement_pre",
    }
    short = [*chain.base, chain.start(), "method=two_way", "budget.steps=2", f"outputs_dir={tmp_path}"]
    assert_unmoved(carry_out([*short, "alignment.weight=0"]).metrics)


def test_pretraining_is_measured_against_its_own_start_and_against_chance(chain: Chain) -> None:
    metrics = chain.runs["pretrain"].metrics
    assert metrics["validation/mlm_loss_pre"] < metrics["validation/mlm_loss_start"]
    assert metrics["validation/mlm_loss_start"] == pytest.approx(5.26, abs=0.1)  # ln 192, nothing learnt
    assert 0 < metrics["validation/unigram_nats"] < 5.26
    assert 0.4 < metrics["validation/leak_accuracy"] < 0.6
    adapted = chain.runs["full"].metrics
    for name in ("mlm_loss", "pair_accuracy"):  # the next run starts where this one ended
        assert adapted[f"validation/{name}_start"] == metrics[f"validation/{name}_pre"]


def test_measures_can_be_left_out(chain: Chain, tmp_path: Path) -> None:
    result = carry_out([*chain.base, chain.start(), "method=full", *LONG, "method.measure=false", f"outputs_dir={tmp_path}"])
    assert not [name for name in result.metrics if name.endswith(("_start", "_pre"))]
    assert result.score == chain.runs["full"].score  # neither the training nor its score depends on what is measured


def test_the_own_task_is_probed_once_and_the_others_as_they_stand(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(using, "built_in_task", lambda name: name)
    context = context_of(chain, tmp_path, "method.probes=[pydoc_kind,task]", "task.name=task")
    assert [getattr(task, "name", task) for task in probe_tasks(context)] == ["task", "pydoc_kind"]
    pretraining = context_of(chain, tmp_path, "method=pretrain", "method.probes=[pydoc_kind]")
    assert probe_tasks(pretraining) == ["pydoc_kind"]


def other_text(folder: Path, name: str = "tales") -> Path:
    path = folder / f"{name}.txt"
    path.write_text("".join(f"The king number {n} saw the fox.\nIt ran to hill {n}.\nNo one else came.\n\n" for n in range(60)))
    return path


def test_fewer_held_out_samples_are_the_same_in_every_run_and_kept_apart_from_all(chain: Chain, tmp_path: Path) -> None:
    def found(*overrides: str) -> dict[str, float]:
        context = context_of(chain, tmp_path, "method.probes=[]", *overrides)
        return start_measures(context, context.settings("method"))

    every, some = found(), found("method.held_out=20")
    context = context_of(chain, tmp_path)
    batches = evaluation_batches(
        context.store("validation"), context.start.tokenizer, context.settings("objective"), language.BATCH, 20
    )
    expected = retention(context.start.model, batches)
    assert {name: some[f"validation/{name}_start"] for name in expected} == expected
    assert some["validation/pair_count_start"] == 20 < every["validation/pair_count_start"]
    assert found("method.held_out=20", "seed=4") == some
    assert found("method.held_out=100000") == every
    pretraining = context_of(chain, tmp_path, "method=pretrain", "method.held_out=20")
    assert language.chance(pretraining)["validation/unigram_nats"] != language.chance(context)["validation/unigram_nats"]


def test_held_out_language_out_of_domain_is_that_of_a_run_on_that_corpus(chain: Chain, tmp_path: Path) -> None:
    tales = other_text(tmp_path)
    there = context_of(chain, tmp_path, f"method.corpora=[{tales}]")
    found = start_measures(there, there.settings("method"))
    at_home = context_of(chain, tmp_path, "corpus=text", f"corpus.path={tales}", "corpus.validation_share=0.02")
    own = start_measures(at_home, at_home.settings("method"))
    assert found["validation/mlm_loss_tales_start"] == own["validation/mlm_loss_start"]
    assert found["validation/pair_accuracy_tales_start"] == own["validation/pair_accuracy_start"]
    assert found["validation/mlm_loss_start"] != own["validation/mlm_loss_start"]
    assert there.corpus.name != "tales"


def test_a_run_leaves_its_own_corpus_out_of_the_others_and_refuses_two_of_one_name(chain: Chain, tmp_path: Path) -> None:
    tales = other_text(tmp_path)
    at_home = context_of(
        chain, tmp_path, "corpus=text", f"corpus.path={tales}", "corpus.validation_share=0.02", f"method.corpora=[{tales}]"
    )
    assert language.other_corpora(at_home) == []
    (tmp_path / "more").mkdir()
    other = other_text(tmp_path / "more")
    other.write_text(other.read_text() + "One more.\nAnd one more.\n")
    with pytest.raises(ValueError, match=r"method\.corpora: .*more/tales\.txt is called tales"):
        using.check_measures(context_of(chain, tmp_path, f"method.corpora=[{tales},{other}]"))


def test_what_other_corpora_hold_is_part_of_who_a_run_is_and_their_place_is_not(chain: Chain, tmp_path: Path) -> None:
    tales, moved = other_text(tmp_path), other_text(tmp_path, "moved")
    ids = [identify(context_of(chain, tmp_path, f"method.corpora=[{place}]").config).id for place in (tales, moved)]
    assert ids[0] == ids[1] != identify(context_of(chain, tmp_path).config).id
