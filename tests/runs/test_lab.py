"""Baselines and null controls as whole runs: each composes, trains what it says and nothing else, and names itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.modules.conftest import same_weights
from tests.runs.conftest import LONG, Chain, carry_out, rows_of
from tofro.config.compose import compose
from tofro.encoders.folder import load_model, save_model
from tofro.runs.folder import Result
from tofro.text.shuffling import shuffle_labels
from tofro.text.task import Example
from tofro.tokens.tokenizer import Tokenizer

QUICK = [*LONG, "method.measure=false"]
CONTROLS = ["no_task", "shuffled_labels", "shuffled_pairing", "random_ft", "no_alignment"]


def go(chain: Chain, outputs: Path, *overrides: str) -> Result:
    return carry_out([*chain.base, chain.start(), *QUICK, f"outputs_dir={outputs}", *overrides])


def encoder(folder: Path, name: str):
    return load_model(folder / "models" / name).model.encoder


@pytest.mark.parametrize(
    ("method", "models", "pre_moves"),
    [
        ("ema", {"pre", "ft"}, True),
        ("l2_sp", {"ft"}, False),
        ("distillation", {"pre", "ft"}, False),
        ("mutual", {"pre", "ft"}, True),
        ("task_mlm", {"ft"}, False),
    ],
)
def test_a_baseline_is_a_few_lines_over_shared_code(
    chain: Chain, tmp_path: Path, method: str, models: set[str], pre_moves: bool
) -> None:
    result = go(chain, tmp_path, f"method={method}")
    assert result.data["method"] == method
    assert {path.name for path in (result.folder / "models").iterdir()} == models
    start = encoder(chain.runs["pretrain"].folder, "pre")
    assert not same_weights(encoder(result.folder, "ft"), start)
    if "pre" in models:
        assert same_weights(encoder(result.folder, "pre"), start) is not pre_moves


@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_composes_with_two_way_and_names_itself(chain: Chain, tmp_path: Path, control: str) -> None:
    result = go(chain, tmp_path, "method=two_way", f"control={control}")
    assert (result.data["method"], result.data["variant"]) == ("two_way", control)
    assert result.data["id"] != chain.runs["two_way"].data["id"]
    start = encoder(chain.runs["pretrain"].folder, "pre")
    assert same_weights(encoder(result.folder, "pre"), start) is (control == "no_alignment")
    assert any("train/task_loss" in row for row in rows_of(result.folder)) is (control not in ("no_task", "random_ft"))


def test_no_alignment_gives_the_ft_of_full_fine_tuning_bit_for_bit(chain: Chain, tmp_path: Path) -> None:
    full, both = (go(chain, tmp_path, *words) for words in (["method=full"], ["method=two_way", "control=no_alignment"]))
    models = [load_model(result.folder / "models" / "ft").model for result in (full, both)]
    assert same_weights(*models)


@pytest.mark.parametrize("method", ["full", "partial", "ema", "l2_sp"])
def test_shuffled_labels_compose_with_any_method_that_learns_labels(chain: Chain, tmp_path: Path, method: str) -> None:
    result = go(chain, tmp_path, f"method={method}", "control=shuffled_labels", "budget.steps=2")
    assert result.data["variant"] == "shuffled_labels"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["method=full", "control=no_task"], "method=full has no alignment"),
        (["method=full", "control=shuffled_pairing"], "method=full has no alignment"),
        (["method=full", "regularizer=replay"], "regularizer.replay_encoder=pre: method=full trains ft alone"),
        (
            ["method=two_way", "regularizer=replay", "regularizer.replay_batch=3", "budget.accumulate=2"],
            "replay_batch=3 can't be cut",
        ),
        (["method=two_way", "alignment=kl", "alignment.projector=mlp"], "logits have no layers and no projector"),
        (["method=two_way", "regularizer=replay", "objective.mlm_weight=0", "objective.pair=none"], "nothing to replay"),
        (["method=ema", "regularizer=distilled_replay", "init_from=null"], "random weights in mlm, pooler, pair said nothing"),
        (
            [
                *("method=full", "regularizer=distilled_replay", "regularizer.replay_encoder=ft"),
                "objective.pair=none",
                "init_from=null",
            ],
            "random weights in mlm said nothing",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(chain: Chain, tmp_path: Path, words: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        go(chain, tmp_path, *words)


def test_a_start_without_a_pair_head_is_held_to_its_masked_words_alone(chain: Chain, tmp_path: Path) -> None:
    folder = chain.runs["pretrain"].folder / "models" / "pre"
    model = load_model(folder).model
    for head in ("pooler", "pair"):
        del model.heads[head]
    save_model(tmp_path / "start", model, Tokenizer.load(folder))
    words = ["method=ema", "regularizer=distilled_replay", "budget.steps=1", f"init_from={tmp_path / 'start'}"]
    with pytest.raises(ValueError, match=r"random weights in pooler, pair said nothing .* or objective\.pair_weight=0"):
        go(chain, tmp_path, *words)
    row = next(row for row in rows_of(go(chain, tmp_path, *words, "objective.pair_weight=0").folder) if "train/loss" in row)
    assert "train/replay_mlm_divergence" in row
    assert "train/replay_pair_divergence" not in row


def test_a_method_without_the_control_refuses_it() -> None:
    with pytest.raises(ValueError, match="method=pretrain has no such control"):
        compose(["method=pretrain", "control=shuffled_labels"])


@pytest.mark.parametrize(("kind", "term"), [("replay", "mlm_loss"), ("distilled_replay", "mlm_divergence")])
def test_replay_keeps_pre_a_language_model_and_resumes_where_it_was(chain: Chain, tmp_path: Path, kind: str, term: str) -> None:
    words = ["method=ema", f"regularizer={kind}", "regularizer.replay_every=2", "regularizer.replay_batch=8"]
    result = go(chain, tmp_path, *words)
    replayed = [f"train/replay_{term}" in row for row in rows_of(result.folder) if "train/loss" in row]
    assert replayed == [True, False] * 3
    heads = [
        load_model(folder / "models" / "pre").model.heads["mlm"] for folder in (result.folder, chain.runs["pretrain"].folder)
    ]
    assert not same_weights(*heads)
    # As after a kill: the checkpoint of step 3, and all that came later gone.
    again = go(chain, tmp_path / "again", *words, "trainer.checkpoint_every=3", "trainer.keep_checkpoints=true")
    rows, models = rows_of(again.folder), load_model(again.folder / "models" / "pre").model
    (again.folder / "result.json").unlink()
    newest = sorted((again.folder / "checkpoints").iterdir())[-1]
    for path in sorted(newest.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    newest.rmdir()
    resumed = go(chain, tmp_path / "again", *words, "trainer.checkpoint_every=3")
    assert rows_of(resumed.folder) == rows == rows_of(result.folder)
    assert same_weights(load_model(resumed.folder / "models" / "pre").model, models)


def test_shuffled_tags_stay_as_many_as_the_words() -> None:
    rows = [Example("a b c"[: 2 * count - 1], None, tuple("XYZ"[:count]), tuple("abc"[:count])) for count in (1, 2, 3) * 10]
    dealt = shuffle_labels(rows, 3)
    assert [len(row.label) for row in dealt] == [len(row.words) for row in dealt] == [1, 2, 3] * 10
    assert sorted(tag for row in dealt for tag in row.label) == sorted(tag for row in rows for tag in row.label)
    assert dealt != rows


def test_shuffled_labels_keep_their_number_and_follow_the_seed() -> None:
    rows = [Example(str(number), None, "a" if number % 3 else "b") for number in range(60)]
    one, two, other = shuffle_labels(rows, 1), shuffle_labels(rows, 1), shuffle_labels(rows, 2)
    assert one == two != other
    assert [row.text_a for row in one] == [row.text_a for row in rows]
    assert sorted(row.label for row in one) == sorted(row.label for row in rows)
    assert sum(mine.label == row.label for mine, row in zip(one, rows, strict=True)) < 60
