"""Measuring a folder: the numbers that its own run gave, for any folder, with nothing changed in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.runs.conftest import PROMPT, Chain, carry_out, hash_of
from tofro.config.compose import compose
from tofro.encoders.folder import load_model, save_model
from tofro.measures.cost import Meter
from tofro.runs.context import Context
from tofro.runs.folder import Result
from tofro.runs.measured import find_models, measure_folder
from tofro.runs.run import identify
from tofro.tokens.tokenizer import Tokenizer

WORDS = PROMPT[1:]  # the prompt alone


def measured(chain: Chain, outputs: Path, place: Path, *overrides: str) -> Result:
    return carry_out([*chain.base, "method=measure", f"init_from={place}", f"outputs_dir={outputs}", *overrides])


def of(encoder: str, metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name.endswith(f"_{encoder}")}


@pytest.fixture(scope="module")
def both(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Everything about the two models of the two-way run, a prompt among it."""
    return measured(chain, tmp_path_factory.mktemp("measured"), chain.runs["two_way"].folder, *WORDS)


def test_a_run_folder_gives_the_numbers_of_its_own_run_for_both_models(chain: Chain, both: Result) -> None:
    own = chain.runs["two_way"].metrics
    alone = {
        name: value for name, value in of("pre", own).items() if not ("cka" in name or "train/" in name or "alignment" in name)
    }
    assert alone.items() <= both.metrics.items()
    assert {"validation/mlm_loss_pre", "test/knn_task_pre", "validation/effective_rank_pre"} <= set(alone)
    together = {name: value for name, value in own.items() if "cka_pre_layer" in name or name == "validation/alignment_pre_ft"}
    assert len(together) == 4
    assert together.items() <= both.metrics.items()
    assert {"validation/mlm_loss_ft", "test/probe_task_ft", "test/prompt_task_ft"} <= set(both.metrics)
    assert both.data["score"] == "test/probe_task_pre"
    assert both.data["cost"]["tokens"] > 0
    assert both.data["cost"]["flops"] > 0
    assert both.data["cost"]["peak_memory_mb"] > 0


def test_a_prompt_among_the_measures_scores_what_the_method_prompt_does(chain: Chain, tmp_path: Path, both: Result) -> None:
    start = measured(chain, tmp_path, chain.runs["pretrain"].folder, *WORDS)
    assert start.metrics["test/prompt_task_pre"] == chain.runs["prompt"].metrics["test/accuracy_pre"]
    assert "test/prompt_task_pre" in both.metrics


def test_measuring_twice_is_identical_and_changes_nothing(chain: Chain, tmp_path: Path, both: Result) -> None:
    folder = chain.runs["two_way"].folder
    before = hash_of(folder)
    again = measured(chain, tmp_path, folder, *WORDS, "seed=3")
    assert again.metrics == both.metrics
    assert again.data["cost"]["tokens"] == both.data["cost"]["tokens"]
    assert hash_of(folder) == before


def test_parameters_and_modes_stay_bit_identical_and_nothing_has_a_gradient(chain: Chain, tmp_path: Path) -> None:
    config = compose([*chain.base, "method=measure", f"init_from={chain.runs['two_way'].folder}", f"outputs_dir={tmp_path}"])
    context = Context(config, tmp_path)
    model = context.start.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    measure_folder(context.settings("method"), context)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [part.training for part in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_is_kept_is_not_computed_again(chain: Chain, tmp_path: Path) -> None:
    folder = chain.runs["pretrain"].folder
    first = measured(chain, tmp_path, folder)
    second = measured(chain, tmp_path, folder, "seed=1")
    assert first.metrics == second.metrics
    assert first.data["cost"]["tokens"] > 0 == second.data["cost"]["tokens"]


def published(chain: Chain, place: Path, inside: str = "") -> Path:
    """Save the pretrained encoder as others publish them: a bare BertModel in a sentence-transformers folder."""
    source = chain.runs["pretrain"].folder / "models" / "pre"
    model = load_model(source).model
    model.heads.clear()
    save_model(place / inside if inside else place, model, Tokenizer.load(source))
    (place / "1_Pooling").mkdir(exist_ok=True)
    (place / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}', encoding="utf-8")
    modules = [{"path": inside, "type": "sentence_transformers.models.Transformer"}, {"path": "1_Pooling", "type": "Pooling"}]
    (place / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    return place


@pytest.mark.parametrize("inside", ["", "0_Transformer"])
def test_a_published_folder_without_heads_is_measured_in_all_but_language(chain: Chain, tmp_path: Path, inside: str) -> None:
    result = measured(chain, tmp_path, published(chain, tmp_path / "model", inside))
    own = of("pre", chain.runs["pretrain"].metrics)
    assert not [name for name in result.metrics if "mlm" in name or "pair" in name]
    assert result.metrics["validation/effective_rank_pre"] == own["validation/effective_rank_pre"]
    assert {"test/probe_task_pre", "test/knn_task_pre"} <= set(result.metrics)
    assert any("no mlm head" in note for note in result.data["notes"])


def test_a_prompt_that_asks_for_a_missing_head_is_refused(chain: Chain, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="prompt: the mlm head"):
        measured(chain, tmp_path, published(chain, tmp_path / "model"), *WORDS)


def test_models_go_by_where_they_lie(chain: Chain, tmp_path: Path) -> None:
    full, two_way, pretrained = (chain.runs[name].folder for name in ("full", "two_way", "pretrain"))

    def names(place: Path, *more: str) -> list[str]:
        config = compose([*chain.base, "method=measure", f"init_from={place}", f"outputs_dir={tmp_path}", *more])
        return list(find_models(Context(config, tmp_path)))

    assert names(two_way) == ["pre", "ft"]
    assert names(full) == names(two_way / "models" / "ft") == ["ft"]
    assert names(two_way / "models" / "pre") == names(pretrained) == ["pre"]
    assert names(pretrained, f"init_from_ft={full}") == ["pre", "ft"]


def test_two_folders_are_compared(chain: Chain, tmp_path: Path) -> None:
    full = chain.runs["full"]
    found = measured(chain, tmp_path, chain.runs["pretrain"].folder, f"init_from_ft={full.folder}", "method.probes=[]").metrics
    assert {name: value for name, value in full.metrics.items() if "cka_pre_layer" in name}.items() <= found.items()
    assert found["validation/alignment_pre_ft"] == full.metrics["validation/alignment_pre_ft"]


def test_without_a_folder_the_key_is_named(chain: Chain, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"init_from: method=measure needs a model"):
        carry_out([*chain.base, "method=measure", f"outputs_dir={tmp_path}"])
    with pytest.raises(ValueError, match=r"init_from=.*no such folder"):
        measured(chain, tmp_path, tmp_path / "nowhere")


def test_further_tasks_are_measured_by_path_and_count_by_content(chain: Chain, world: Path, tmp_path: Path) -> None:
    for name in ("moods", "copy"):
        (tmp_path / name).mkdir()
        shutil.copy(world / "task.jsonl", tmp_path / name / "train.jsonl")
    start = chain.runs["pretrain"].folder
    result = measured(chain, tmp_path / "out", start, f"method.tasks=[{tmp_path / 'moods'}]", "method.test_rows=20")
    assert {"test/probe_moods_pre", "test/knn_moods_pre", "test/probe_task_pre"} <= set(result.metrics)
    assert "moods" in result.data["data"]
    config = [*chain.base, "method=measure", f"init_from={start}", f"outputs_dir={tmp_path / 'out'}"]
    ids = [identify(compose([*config, f"method.tasks=[{tmp_path / name}]"])).id for name in ("moods", "copy")]
    assert ids[0] == ids[1] != identify(compose(config)).id
    (tmp_path / "copy" / "train.jsonl").write_text((world / "task.jsonl").read_text().replace("river", "stream"))
    assert identify(compose([*config, f"method.tasks=[{tmp_path / 'copy'}]"])).id != ids[0]
    (tmp_path / "copy" / "deeper" / "moods").mkdir(parents=True)
    shutil.copy(world / "task.jsonl", tmp_path / "copy" / "deeper" / "moods" / "train.jsonl")
    with pytest.raises(ValueError, match=r"method\.tasks: .* is called moods"):
        measured(chain, tmp_path / "out", start, f"method.tasks=[{tmp_path / 'moods'},{tmp_path / 'copy' / 'deeper' / 'moods'}]")


SHOTS = [
    "method.few_shot=[2,4]",
    "method.few_shot_draws=2",
    "method.few_shot_steps=3",
    "method.test_rows=20",
    "method.sentences=0",
]


@pytest.fixture(scope="module")
def shots(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return measured(chain, tmp_path_factory.mktemp("shots"), chain.runs["pretrain"].folder, *SHOTS)


def test_few_shots_give_a_mean_and_every_draw_and_a_file_of_rows(chain: Chain, shots: Result) -> None:
    for count in (2, 4):
        name = f"test/few_shot_{count}_task"
        draws = [shots.metrics[f"{name}_draw_{draw}_pre"] for draw in range(2)]
        assert shots.metrics[f"{name}_pre"] == np.mean(draws)
        content = json.loads((shots.folder / "few_shot" / f"task-{count}.json").read_text(encoding="utf-8"))
        assert content["sha256"] == shots.data["data"][f"few_shot_{count}_task"]
        assert [len(draw) for draw in content["draws"]] == [2 * count] * 2
    assert sorted(path.name for path in shots.folder.iterdir() if "few_shot" in path.name) == ["few_shot"]
    assert not (shots.folder / "checkpoints").exists()


def test_a_handed_on_split_gives_the_same_numbers_and_a_wrong_one_none(chain: Chain, tmp_path: Path, shots: Result) -> None:
    source = shots.folder / "few_shot" / "task-2.json"
    rest = [*SHOTS[1:], f"method.few_shot_splits=[{tmp_path / 'mine.json'}]"]
    shutil.copy(source, tmp_path / "mine.json")
    again = measured(chain, tmp_path / "out", chain.runs["pretrain"].folder, *rest)
    assert again.metrics.items() <= shots.metrics.items()
    assert "test/few_shot_2_task_pre" in again.metrics
    content = json.loads(source.read_text(encoding="utf-8"))
    for change, message in (({"sha256": "0"}, "checksum"), ({"task": "other"}, "not measured here")):
        (tmp_path / "mine.json").write_text(json.dumps(content | change), encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            measured(chain, tmp_path / "out", chain.runs["pretrain"].folder, *rest)


def refuse(*unused: Any) -> None:
    raise AssertionError("trained")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method.few_shot=[200]", r"method\.few_shot=200: task has"),
        ("method.few_shot=[0]", r"method\.few_shot=\[0\]"),
        ("method.few_shot_splits=[nowhere.json]", "nowhere.json"),
        ("method.tasks=[nowhere]", "nowhere"),
        ("prompt=trec", "prompt"),
    ],
)
def test_a_training_run_refuses_impossible_measures_before_its_first_step(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, message: str
) -> None:
    monkeypatch.setattr("tofro.runs.outcome.fit", refuse)
    with pytest.raises(ValueError, match=message):
        carry_out([*chain.base, chain.start(), "method=full", override, f"outputs_dir={tmp_path}"])


def test_a_training_run_measures_ft_as_well_where_asked(chain: Chain, tmp_path: Path, both: Result) -> None:
    asked = ["method.measure_ft=true", "method.train_score=true"]
    more = ["method=two_way", "budget.steps=6", "budget.evaluate_every=3", *asked, *WORDS]
    metrics = carry_out([*chain.base, chain.start(), *more, f"outputs_dir={tmp_path}"]).metrics
    assert 0 < metrics["train/accuracy_ft"] <= 1
    assert "train/accuracy_ft" not in chain.runs["two_way"].metrics
    assert metrics["test/accuracy_ft"] == chain.runs["two_way"].metrics["test/accuracy_ft"]  # what is measured bears on nothing
    assert {name: value for name, value in of("ft", both.metrics).items() if name in metrics} == of("ft", both.metrics)
    assert {"test/prompt_task_start", "test/prompt_task_pre", "test/prompt_task_ft"} <= set(metrics)


def test_a_frozen_pre_has_no_way_of_its_own(chain: Chain) -> None:
    full, two_way = chain.runs["full"].metrics, chain.runs["two_way"].metrics
    assert full["train/displacement_ft"] > 0
    assert not {"train/displacement_pre", "train/displacement_cosine", "validation/alignment_pre"} & set(full)
    assert {name: full[name.replace("cka_pre_", "cka_")] for name in full if "cka_pre_" in name} == {
        name: value for name, value in full.items() if "cka_pre_" in name
    }  # pre is the start still
    assert two_way["train/displacement_pre"] > 0
    assert -1 <= two_way["train/displacement_cosine"] <= 1
    assert all(0 <= value <= 1 + 1e-12 for name, value in two_way.items() if "cka" in name)


def test_a_meter_is_gone_after_a_run() -> None:
    with Meter():
        pass
    assert not torch.nn.modules.module._global_forward_hooks
    assert not torch.nn.modules.module._global_forward_pre_hooks


@pytest.mark.parametrize("name", ["trec", "mrpc", "tnews", "stsb"])
def test_real_tasks_of_all_kinds(chain: Chain, shared: Path, tmp_path: Path, name: str) -> None:
    place = shared / "tasks" / name
    if not place.is_dir():
        pytest.skip(f"{place} is not on this machine")
    small = ["task=file", f"task.path={place}", "method.probe_rows=120", "method.test_rows=60", "method.sentences=0"]
    metrics = measured(chain, tmp_path, chain.runs["pretrain"].folder, *small).metrics
    assert {f"test/probe_{name}_pre", f"test/knn_{name}_pre"} <= set(metrics)
    assert all(-1 <= metrics[f"test/{how}_{name}_pre"] <= 1 for how in ("probe", "knn"))
