"""Every mix of objectives trains end to end, in English and Chinese, and is measured by what it learns."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from tests.conftest import small_run
from tests.runs.conftest import Chain, carry_out
from tofro.runs.folder import Result

SHORT = ["method=pretrain", "budget.steps=3", "budget.evaluate_every=3"]
MASKS, PAIRS = {"validation/mlm_loss_pre", "validation/unigram_nats"}, {"validation/pair_loss_pre", "validation/leak_accuracy"}
PLL = {"validation/pll_per_token", "validation/pll_per_character", "validation/pll_count"}


def pretrain(world: Path, outputs: Path, *overrides: str) -> Result:
    result = carry_out([*small_run(world, outputs), *SHORT, *overrides])
    assert all(math.isfinite(value) for value in result.metrics.values())
    return result


@pytest.mark.parametrize(
    ("mix", "learnt"),
    [
        (["objective=mlm_span"], MASKS),
        (["objective.mlm_weight=0"], PAIRS),
        (
            ["objective=mlm_random", "objective.unit=sentence", "objective.mask_unit=token", "objective.pair_weight=0.3"],
            MASKS | PAIRS,
        ),
        pytest.param(["objective=mlm"], MASKS, marks=pytest.mark.slow),
        pytest.param(["objective=mlm", "objective.unit=sentence", "objective.mlm_weight=2"], MASKS, marks=pytest.mark.slow),
        pytest.param(["objective=mlm_random", "objective.mlm_weight=0"], PAIRS, marks=pytest.mark.slow),
        pytest.param(["objective=article"], MASKS | PAIRS, marks=pytest.mark.slow),
        pytest.param(["objective=mlm_swap", "objective.mask_unit=span"], MASKS | PAIRS, marks=pytest.mark.slow),
        pytest.param(["objective=mlm_swap", "objective.pair_weight=0"], MASKS | PAIRS, marks=pytest.mark.slow),
    ],
)
def test_a_mix_trains_and_is_measured(world: Path, tmp_path: Path, mix: list[str], learnt: set[str]) -> None:
    result = pretrain(world, tmp_path, *mix)
    assert {name for name in MASKS | PAIRS if name in result.metrics} == learnt
    assert result.data["score"] == ("validation/mlm_loss_pre" if learnt >= MASKS else "validation/pair_accuracy_pre")


def test_nothing_to_learn_is_refused(world: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to learn"):
        pretrain(world, tmp_path, "objective=mlm", "objective.mlm_weight=0")


def test_sentences_are_scored_before_and_after_where_asked_for(chain: Chain, world: Path, tmp_path: Path) -> None:
    metrics = pretrain(world, tmp_path, "method.pseudo_log_likelihood=7").metrics
    names = {f"{name}_{encoder}" for name in PLL for encoder in ("pre", "start")}
    assert names <= set(metrics)
    assert not [name for name in chain.runs["pretrain"].metrics if "pll" in name]
    assert metrics["validation/pll_per_token_start"] == pytest.approx(-math.log(192), abs=0.1)  # nothing learnt
    assert metrics["validation/pll_per_token_start"] < metrics["validation/pll_per_token_pre"] < 0
    per_token = metrics["validation/pll_per_token_pre"] / metrics["validation/pll_per_character_pre"]
    assert 1 < per_token < 10  # characters of a token
    assert 7 < metrics["validation/pll_count_pre"] == metrics["validation/pll_count_start"]
    start = [chain.start(), "method=full", "budget.steps=1", "method.pseudo_log_likelihood=7"]
    adapted = carry_out([*chain.base, *start, f"outputs_dir={tmp_path}"]).metrics
    assert names <= set(adapted)


@pytest.fixture
def chinese(tmp_path: Path) -> Path:
    """A world whose corpus is Chinese."""
    words = [*"我们 今天 学习 中国 历史 铁路 车站 货物 城市 学校 老师 河流".split(), "的", "在", "是", "有", "BERT"]  # noqa: SIM905
    draw = random.Random(5)
    documents = ["\n".join("".join(draw.choices(words, k=12)) + "。" for _ in range(8)) for _ in range(40)]
    (tmp_path / "corpus.txt").write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    return tmp_path


def test_chinese_words_are_masked_whole(chinese: Path, tmp_path: Path) -> None:
    mine = ["corpus.language=zh", "objective.mask_rate=0.1", "method.pseudo_log_likelihood=3"]
    metrics = pretrain(chinese, tmp_path / "a", *mine).metrics
    characters = pretrain(chinese, tmp_path / "b", *mine, "corpus.words=tokenizer").metrics
    # 15% of words are about 15% of tokens either way, but not the same ones.
    assert metrics["validation/mlm_count_pre"] == pytest.approx(characters["validation/mlm_count_pre"], rel=0.3)
    assert metrics["validation/mlm_count_pre"] != characters["validation/mlm_count_pre"]
    assert metrics["validation/pll_per_token_start"] == characters["validation/pll_per_token_start"]


def test_chinese_declared_as_english_is_refused(chinese: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"corpus.language=en, but .*zh for Chinese.* objective.mask_unit=token"):
        pretrain(chinese, tmp_path / "a")
    assert not (tmp_path / "a" / "runs").exists() or not list((tmp_path / "a" / "runs").iterdir())


def test_a_high_rate_of_chinese_words_warns(chinese: Path, tmp_path: Path) -> None:
    notes = pretrain(chinese, tmp_path / "a", "corpus.language=zh").data["notes"]
    assert [note for note in notes if "roberta_zh" in note]
    assert not pretrain(chinese, tmp_path / "b", "corpus.language=zh", "objective.mask_unit=token").data["notes"]
