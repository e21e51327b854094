"""Both ways: λ = 0 is plain fine-tuning bit for bit, λ > 0 moves both encoders, direction decides who moves."""

from __future__ import annotations

import pytest
import torch

from tests.modules.conftest import Bench, same_weights
from tofro.modules.settings import BudgetSettings

BUDGET = BudgetSettings(steps=8, batch=16, best=False)


def test_no_alignment_is_full_fine_tuning_bit_for_bit(bench: Bench) -> None:
    full, two_way = bench.full(BUDGET), bench.two_way(BUDGET, weight=0.0)
    bench.fit(full, BUDGET, "full")
    bench.fit(two_way, BUDGET, "two_way")
    assert same_weights(full.models["ft"], two_way.models["ft"])
    assert same_weights(two_way.models["pre"], bench.start)


@pytest.mark.parametrize(
    ("direction", "pre_moves", "ft_differs"), [("both", True, True), ("to_pre", True, False), ("to_ft", False, True)]
)
def test_direction_decides_whom_the_alignment_reaches(bench: Bench, direction: str, pre_moves: bool, ft_differs: bool) -> None:
    full, two_way = bench.full(BUDGET), bench.two_way(BUDGET, weight=1.0, direction=direction)
    bench.fit(full, BUDGET, "full")
    bench.fit(two_way, BUDGET, "two_way")
    assert same_weights(two_way.models["pre"].encoder, bench.start.encoder) is not pre_moves
    assert same_weights(two_way.models["ft"], full.models["ft"]) is not ft_differs


def test_language_heads_of_both_keep_their_values(bench: Bench) -> None:
    two_way = bench.two_way(BUDGET, weight=1.0)
    bench.fit(two_way, BUDGET, "two_way")
    for name in ("pre", "ft"):
        assert same_weights(two_way.models[name].heads["mlm"], bench.start.heads["mlm"])
        assert same_weights(two_way.models[name].heads["pair"], bench.start.heads["pair"])


def test_the_two_encoders_draw_independent_dropout(bench: Bench) -> None:
    module = bench.two_way(BUDGET, weight=1.0)
    module.train()
    module._micro_batch = 0
    batch = next(iter(bench.data(BUDGET).train_dataloader()))
    pre, ft = module.states("pre", batch), module.states("ft", batch)
    assert not torch.allclose(pre, ft)  # the same weights, so only the masks differ
    assert torch.equal(pre, module.states("pre", batch))  # and a mask is a function of the step


def test_every_second_step_aligns(bench: Bench) -> None:
    two_way = bench.two_way(BUDGET, weight=1.0, every=2)
    bench.fit(two_way, BUDGET, "two_way")
    rows = (bench.folder / "two_way" / "metrics.jsonl").read_text().splitlines()
    aligned = ["train/alignment_loss" in row for row in rows if "train/loss" in row]
    assert aligned == [True, False] * 4


def test_different_widths_need_a_projector(bench: Bench) -> None:
    from tofro.encoders.model import build_model
    from tofro.encoders.settings import EncoderSettings
    from tofro.modules.two_way import TwoWay
    from tofro.objectives.alignment import infonce
    from tofro.objectives.schedules import constant
    from tofro.objectives.settings import AlignmentSettings

    wide = build_model(
        EncoderSettings(layers=1, width=64, heads=2, intermediate=64, max_positions=64), bench.tokenizer.vocabulary
    )
    with pytest.raises(ValueError, match=r"alignment\.projector"):
        TwoWay(wide, bench.ft(), bench.task, infonce, constant, AlignmentSettings(), bench.training(BUDGET))
    module = TwoWay(
        wide, bench.ft(), bench.task, infonce, constant, AlignmentSettings(projector="linear"), bench.training(BUDGET)
    )
    bench.fit(module, BUDGET, "projected")
