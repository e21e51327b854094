"""Prompt-based fine-tuning and few rows of each class as whole runs, one way and both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.modules.conftest import same_weights
from tests.runs.conftest import LONG, PROMPT, Chain, WriteStudy, carry_out, rows_of
from tofro.config.compose import compose
from tofro.encoders.folder import load_model
from tofro.runs.folder import Result
from tofro.runs.loaded import load
from tofro.runs.run import identify
from tofro.runs.study import plan
from tofro.runs.study_file import read_study

CLOZE = PROMPT[1:]
QUICK = [*LONG, "method.measure=false"]
FEW = ["task.per_class=4", "budget.batch=4"]


def go(chain: Chain, outputs: Path, *overrides: str) -> Result:
    return carry_out([*chain.base, chain.start(), *QUICK, f"outputs_dir={outputs}", *overrides])


def start_of(chain: Chain):
    return load_model(chain.runs["pretrain"].folder / "models" / "pre").model


def test_training_that_changes_nothing_scores_as_the_prompt_without_calibration(chain: Chain, tmp_path: Path) -> None:
    tuned = go(chain, tmp_path, "method=prompt_tune", *CLOZE, "budget.steps=1", "optimizer.lr=1e-20", "optimizer.weight_decay=0")
    asked = go(chain, tmp_path, *PROMPT, "prompt.calibration=none")
    for split in ("validation", "test"):
        assert tuned.metrics[f"{split}/accuracy_ft"] == asked.metrics[f"{split}/accuracy_pre"]
    assert tuned.data["score"] == "test/accuracy_ft"


def test_a_tuned_prompt_is_saved_with_its_head_for_masked_words(chain: Chain, tmp_path: Path) -> None:
    result, start = go(chain, tmp_path, "method=prompt_tune", *CLOZE), start_of(chain)
    assert {path.name for path in (result.folder / "models").iterdir()} == {"ft"}
    ft = load_model(result.folder / "models" / "ft").model
    assert ft.heads.keys() == start.heads.keys()
    assert not same_weights(ft.heads["mlm"], start.heads["mlm"])
    assert load(result.folder / "models" / "ft").fill_mask("The river is [MASK].")
    with pytest.raises(ValueError, match=r"has no task head.*method=prompt prompt=.* prompt\.calibration=none"):
        load(result.folder).predict(["a text"])
    asked = go(chain, tmp_path, *PROMPT, "prompt.calibration=none", f"init_from={result.folder / 'models' / 'ft'}")
    assert asked.metrics["test/accuracy_pre"] == result.metrics["test/accuracy_ft"]
    rows = [row for row in rows_of(result.folder) if "validation/accuracy_ft" in row]
    assert len(rows) == 2
    assert any("train/task_loss" in row for row in rows_of(result.folder))


def test_both_ways_through_a_prompt_moves_and_saves_both(chain: Chain, tmp_path: Path) -> None:
    result, start = go(chain, tmp_path, "method=prompt_tune_two_way", *CLOZE), start_of(chain)
    models = {name: load_model(result.folder / "models" / name).model for name in ("pre", "ft")}
    assert not same_weights(models["pre"].encoder, start.encoder)
    assert same_weights(models["pre"].heads["mlm"], start.heads["mlm"])
    assert not same_weights(models["ft"].heads["mlm"], start.heads["mlm"])


@pytest.mark.parametrize("words", [["tuning=lora"], ["tuning=head"], ["regularizer=l2_sp"]])
def test_tunings_and_regularizers_compose(chain: Chain, tmp_path: Path, words: list[str]) -> None:
    result, start = go(chain, tmp_path, "method=prompt_tune", *CLOZE, *words), start_of(chain)
    ft = load_model(result.folder / "models" / "ft").model
    assert ft.state_dict().keys() == start.state_dict().keys()
    assert same_weights(ft.encoder, start.encoder) is (words == ["tuning=head"])


def test_a_tuned_prompt_resumes_where_it_was(chain: Chain, tmp_path: Path) -> None:
    words = [
        "method=prompt_tune_two_way",
        *CLOZE,
        "regularizer=replay",
        "regularizer.replay_batch=8",
        "trainer.checkpoint_every=3",
        "trainer.keep_checkpoints=true",
    ]
    whole = go(chain, tmp_path, *words)
    rows, models = rows_of(whole.folder), {name: load_model(whole.folder / "models" / name).model for name in ("pre", "ft")}
    (whole.folder / "result.json").unlink()  # as after a kill: the checkpoint of step 3, and all that came later gone
    newest = sorted((whole.folder / "checkpoints").iterdir())[-1]
    for path in sorted(newest.rglob("*"), reverse=True):
        path.unlink()
    newest.rmdir()
    resumed = go(chain, tmp_path, *words)
    assert rows_of(resumed.folder) == rows
    for name, model in models.items():
        assert same_weights(load_model(resumed.folder / "models" / name).model, model)


def test_the_measure_of_the_start_asks_the_same_prompt(chain: Chain, tmp_path: Path) -> None:
    result = go(chain, tmp_path, "method=prompt_tune", *CLOZE, "method.measure=true", "method.sentences=0")
    assert result.metrics["test/prompt_task_start"] == result.metrics["test/prompt_task_pre"]
    assert result.metrics["test/prompt_task_start"] == chain.runs["prompt"].metrics["test/accuracy_pre"]


# -- few rows ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["full", "prompt_tune"])
def test_a_run_writes_its_rows_and_a_run_from_that_file_is_the_same(chain: Chain, tmp_path: Path, method: str) -> None:
    first = go(chain, tmp_path, f"method={method}", *CLOZE, *FEW, "task.draw=1")
    (file,) = (first.folder / "few_shot").iterdir()
    content = json.loads(file.read_text(encoding="utf-8"))
    assert first.data["data"]["task_rows"] == content["sha256"]
    assert [len(draw) for draw in (*content["draws"], *content["validation"])] == [8, 8]
    again = go(chain, tmp_path, f"method={method}", *CLOZE, "budget.batch=4", f"task.split_file={file}")
    assert again.data["id"] != first.data["id"]
    assert again.metrics == first.metrics
    assert again.data["data"] == first.data["data"]
    content["draws"][0][0] = content["validation"][0][0]
    (tmp_path / "changed.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match="checksum"):
        go(chain, tmp_path, f"method={method}", *CLOZE, "budget.batch=4", f"task.split_file={tmp_path / 'changed.json'}")


def test_a_file_counts_by_what_it_holds(chain: Chain, tmp_path: Path) -> None:
    ids = []
    for name, text in (("a.json", "{}"), ("b.json", "{}"), ("c.json", "[]")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        ids.append(identify(compose([*chain.base, f"task.split_file={tmp_path / name}"])).id)
    assert ids[0] == ids[1] != ids[2]


def test_a_draw_may_follow_the_seed_and_enters_as_its_number(chain: Chain) -> None:
    follow, given, same = (
        identify(compose([*chain.base, "task.per_class=4", *words]))
        for words in (["task.draw=${seed}", "seed=3"], ["task.draw=3", "seed=3"], ["task.draw=${seed}"])
    )
    assert follow.id == given.id
    assert follow.full["task.draw"] == 3
    assert same.id == identify(compose([*chain.base, "task.per_class=4"])).id


def test_a_run_whose_draw_follows_the_seed_learns_from_that_draw(chain: Chain, tmp_path: Path) -> None:
    result = go(chain, tmp_path, "method=full", *FEW, "task.draw=${seed}", "seed=2")
    other = go(chain, tmp_path, "method=tfidf", "task.per_class=4", "task.draw=2")
    assert result.data["data"]["task_rows"] == other.data["data"]["task_rows"]


def test_a_study_draws_other_rows_for_each_seed_and_so_do_its_floors(write_study: WriteStudy, small: list[str]) -> None:
    shared = [*small, "task.per_class=4", "task.draw=${seed}", "budget.batch=4"]
    runs = plan(read_study(write_study(shared=shared, floors=True)), [])
    configs = [run.config for run in runs if run.config.method.name != "pretrain"]
    drawn = {(config.method.name, config.seed): config.task.draw for config in configs}
    assert drawn == {(method, seed): seed for method in ("full", "tfidf", "random_encoder") for seed in (0, 1)}


# -- refusals --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "prompt=none: method=prompt_tune trains a cloze"),
        (["prompt._target_=tofro.modules.prompting.PairScorer", *CLOZE[1:]], "PairScorer can't be trained, only a cloze"),
        ([*CLOZE, "prompt.template=null"], r"prompt\.template=null"),
        ([*CLOZE, "prompt.template=1"], r"prompt\.template=1 is out of range"),
        (
            [*CLOZE, "prompt.words={good: [bright], bad: [cold river]}"],
            r"prompt\.words\.good: 'bright' has 1 token",
        ),
        ([*CLOZE, "init_from=null"], "init_from: method=prompt_tune trains a pretrained head"),
        ([*CLOZE, "task.per_class=4", "task.train_rows=20"], r"task\.train_rows=20: task\.per_class chooses"),
        ([*CLOZE, "task.per_class=400", "budget.batch=4"], r"task\.per_class=400: task has"),
    ],
)
def test_what_can_not_be_trained_is_refused_by_its_key(chain: Chain, tmp_path: Path, words: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        go(chain, tmp_path, "method=prompt_tune", *words)


@pytest.mark.parametrize("kind", ["regression", "tags"])
def test_a_task_without_labels_of_texts_is_refused(chain: Chain, tmp_path: Path, kind: str) -> None:
    rows = {
        "regression": [{"text": f"river {number}", "label": number + 0.5} for number in range(60)],
        "tags": [{"tokens": ["river", str(number)], "tags": ["X", "Y"]} for number in range(60)],
    }
    lines = [json.dumps(row) for row in rows[kind]]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ValueError, match=f"method=prompt_tune: rows is a {kind} task"):
        go(chain, tmp_path, "method=prompt_tune", *CLOZE, f"task.path={tmp_path / 'rows.jsonl'}")
