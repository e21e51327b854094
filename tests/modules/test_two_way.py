"""Both ways: λ = 0 is plain fine-tuning bit for bit, λ > 0 moves both encoders, direction decides who moves."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from tests.modules.conftest import Bench, same_weights
from tofro.batches.types import NO_TARGET, Batch
from tofro.encoders.model import Model
from tofro.encoders.pooling import pool
from tofro.modules.projection import Projection
from tofro.modules.regularizers import Regularizers
from tofro.modules.settings import BudgetSettings
from tofro.modules.two_way import TwoWay
from tofro.objectives.alignment import cosine, infonce, kl, mse
from tofro.objectives.schedules import ramp
from tofro.objectives.settings import ControlSettings, InfoNCESettings, RegularizerSettings

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


def test_under_adamw_the_weight_says_what_reaches_ft_and_not_how_far_pre_goes(bench: Bench) -> None:
    """A gradient times λ is what AdamW divides by its own size, where nothing else reaches `pre` and nothing is clipped."""
    budget = BudgetSettings(steps=8, batch=16, evaluate_every=8, best=False, clip=0)
    small, large = (bench.two_way(budget, direction="to_pre", weight=weight) for weight in (0.1, 0.4))
    for module, name in ((small, "small"), (large, "large")):
        module.training_settings.optimizer.eps = 1e-12
        bench.fit(module, budget, name)
    start = dict(bench.start.encoder.named_parameters())
    ways = [
        torch.cat([(value - start[name]).flatten() for name, value in module.model("pre").encoder.named_parameters()])
        for module in (small, large)
    ]
    assert ways[0].norm() > 0
    assert (ways[0] - ways[1]).norm() / ways[0].norm() < 1e-2


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


# -- the knobs of a two-way step -----------------------------------------------------------------------------------------------


def rows(bench: Bench, name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (bench.folder / name / "metrics.jsonl").read_text().splitlines()]


def first_batch(bench: Bench) -> Batch:
    return next(iter(bench.data(BUDGET).train_dataloader()))


def stepped(module: TwoWay, batch: Batch) -> torch.Tensor:
    """Return the loss of a first step with dropout off, after its backward pass."""
    for model in module.models.values():
        model.dropout = 0.0
    module.train()
    loss = module.training_step(batch, 0)
    loss.backward()
    return loss.detach()


def gradient(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([each.grad.flatten() for each in module.parameters() if each.grad is not None] or [torch.zeros(1)])


def test_directions_alternate_by_turns(bench: Bench) -> None:
    module = bench.two_way(BUDGET, weight=1.0, direction="alternate", every=2)
    bench.fit(module, BUDGET, "alternate")
    reached = [{name for name in row if name.startswith("train/gradient_alignment")} for row in rows(bench, "alternate")]
    to_pre, to_ft = ({f"train/gradient_alignment_loss_{name}"} for name in ("pre", "ft"))
    assert [each for row, each in zip(rows(bench, "alternate"), reached, strict=True) if "train/loss" in row] == [
        *(to_pre, set(), to_ft, set()) * 2
    ]


@pytest.mark.parametrize("loss", [infonce, mse])
def test_terms_and_their_gradients_at_the_states_are_logged_as_autograd_has_them(bench: Bench, loss: object) -> None:
    module, batch = bench.two_way(BUDGET, loss=loss, weight=0.5), first_batch(bench)
    for model in module.models.values():
        model.dropout = 0.0
    torch.manual_seed(0)
    with torch.no_grad():  # else both say the same
        for parameter in module.model("pre").encoder.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    module.train()
    states = {name: module.model(name).encoder(batch).detach().requires_grad_() for name in ("pre", "ft")}
    task = F.cross_entropy(module.model("ft").task_logits(states["ft"], batch), batch.labels)
    aligned = 0.5 * loss(*(pool(states[name], batch) for name in ("pre", "ft")))
    expected = {
        "train/gradient_task_loss_ft": torch.autograd.grad(task, states["ft"])[0].norm(),
        "train/gradient_alignment_loss_pre": torch.autograd.grad(aligned, states["pre"], retain_graph=True)[0].norm(),
        "train/gradient_alignment_loss_ft": torch.autograd.grad(aligned, states["ft"])[0].norm(),
    }
    module.training_step(batch, 0).backward()
    noted = module.pop_row()
    assert noted.rooted == expected.keys()
    for name, norm in expected.items():
        assert float(noted.values[name].sqrt()) == pytest.approx(float(norm), rel=1e-4)


@pytest.mark.parametrize("layers", [[-1], [-2], [-1, -2]])
def test_the_compared_layers_are_those_asked_for(bench: Bench, layers: list[int]) -> None:
    module, batch = bench.two_way(BUDGET, loss=mse, weight=1.0, layers=layers), first_batch(bench)
    with torch.no_grad():
        module.model("pre").encoder.layers[0].feed_forward.down.bias.add_(0.3)
    stepped(module, batch)
    pre, ft = (module.model(name).encoder(batch, "all") for name in ("pre", "ft"))
    expected = torch.stack([mse(pool(pre[layer], batch), pool(ft[layer], batch)) for layer in layers]).mean()
    torch.testing.assert_close(module.pop_row().values["train/alignment_loss"], expected.detach(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("layers", [[], [0], [-3], [-1, 1]])
def test_layers_that_are_not_there_are_refused(bench: Bench, layers: list[int]) -> None:
    with pytest.raises(ValueError, match=r"alignment\.layers=.* -1, the last, down to -2"):
        bench.two_way(BUDGET, layers=layers)


def test_a_shared_trunk_computes_what_two_frozen_trunks_do_and_stays(bench: Bench) -> None:
    batch, losses, gradients = first_batch(bench), [], []
    for trunk in (1, 0):
        module = bench.two_way(BUDGET, weight=1.0, shared_trunk=trunk)
        if trunk == 0:
            for name in ("pre", "ft"):
                encoder = module.model(name).encoder
                for part in (encoder.embeddings, encoder.layers[0]):
                    part.requires_grad_(False)
        losses.append(stepped(module, batch))
        gradients.append(gradient(module))
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(gradients[0], gradients[1])
    module = bench.two_way(BUDGET, weight=1.0, shared_trunk=1)
    bench.fit(module, BUDGET, "trunk")
    for name in ("pre", "ft"):
        encoder = module.model(name).encoder
        assert same_weights(encoder.embeddings, bench.start.encoder.embeddings)
        assert same_weights(encoder.layers[0], bench.start.encoder.layers[0])
        assert not same_weights(encoder.layers[1], bench.start.encoder.layers[1])


def test_a_trunk_runs_once_and_without_dropout(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    module, batch, calls = bench.two_way(BUDGET, weight=1.0, shared_trunk=1), first_batch(bench), []
    for name in ("pre", "ft"):
        layer = module.model(name).encoder.layers[0]
        layer.register_forward_hook(lambda part, given, result: calls.append((given[3], result.requires_grad)))
    module.train()
    module.training_step(batch, 0)
    assert calls == [(0.0, False)]


def test_encoders_that_differ_below_share_no_trunk(bench: Bench) -> None:
    from tofro.encoders.model import build_model

    other = build_model(bench.start.settings, bench.tokenizer.vocabulary, ("mlm", "pair"), seed=9)
    training = bench.training(BUDGET)
    with pytest.raises(ValueError, match=r"alignment\.shared_trunk: the lowest layers of pre and ft differ"):
        TwoWay(other, bench.ft(), bench.task, infonce, lambda progress: 1.0, InfoNCESettings(shared_trunk=1), training)
    with pytest.raises(ValueError, match=r"alignment\.shared_trunk=2: of the encoder"):
        bench.two_way(BUDGET, shared_trunk=2)


def test_pre_follows_by_the_formula_of_an_exponential_mean(bench: Bench) -> None:
    budget = BudgetSettings(steps=3, batch=16, best=False)
    module, trail = bench.two_way(budget, weight=0.0, ema=0.9), []
    step = module.optimizer_step

    def watched(*arguments: object) -> None:
        step(*arguments)
        trail.append([each.detach().clone() for each in module.model("ft").encoder.parameters()])

    module.optimizer_step = watched  # type: ignore[method-assign]
    bench.fit(module, budget, "ema")
    expected = [each.detach().clone().double() for each in bench.start.encoder.parameters()]
    for leaders in trail:
        expected = [0.9 * mean + 0.1 * leader.double() for mean, leader in zip(expected, leaders, strict=True)]
    for found, mean in zip(module.model("pre").encoder.parameters(), expected, strict=True):
        torch.testing.assert_close(found.detach().double(), mean, rtol=1e-5, atol=1e-7)
    full = bench.full(budget)
    bench.fit(full, budget, "full")
    assert same_weights(full.models["ft"], module.models["ft"])  # and ft never notices


def test_best_weights_hold_a_pre_that_follows(bench: Bench) -> None:
    module = bench.two_way(BUDGET, weight=0.0, ema=0.9)
    names = module.moving
    assert all(f"models.pre.encoder.{name}" in names for name, _ in module.model("pre").encoder.named_parameters())
    assert not any(name.startswith("models.pre") for name in bench.two_way(BUDGET, weight=0.0).moving)


def test_logits_are_compared_and_pre_may_learn_the_task_too(bench: Bench) -> None:
    module, batch = bench.two_way(BUDGET, loss=kl, weight=1.0, compares="logits", pre_task=0.5), first_batch(bench)
    loss = stepped(module, batch)
    states = {name: module.model(name).encoder(batch) for name in ("pre", "ft")}
    logits = {name: module.model(name).task_logits(states[name], batch).detach() for name in ("pre", "ft")}
    p_pre, p_ft = (logits[name].softmax(-1) for name in ("pre", "ft"))
    divergence = (p_ft * (p_ft / p_pre).log()).sum(-1).mean() + (p_pre * (p_pre / p_ft).log()).sum(-1).mean()
    tasks = [F.cross_entropy(logits[name], batch.labels) for name in ("ft", "pre")]
    torch.testing.assert_close(loss, tasks[0] + 0.5 * tasks[1] + divergence, rtol=1e-4, atol=1e-6)


def test_a_learnt_temperature_moves_and_stays_in_bounds(bench: Bench) -> None:
    module = bench.two_way(BUDGET, weight=1.0, learn_temperature=True)
    bench.fit(module, BUDGET, "learnt")
    noted = [row["train/temperature"] for row in rows(bench, "learnt") if "train/temperature" in row]
    assert noted[0] == pytest.approx(0.07, abs=1e-6)
    assert len(set(noted)) > 1
    for scale, expected in ((20.0, 0.01), (-20.0, 1.0)):
        with torch.no_grad():
            module.projection.log_scale.fill_(scale)
        assert float(module.projection.temperature.detach()) == pytest.approx(expected)


def test_projectors_are_two_or_one() -> None:
    widths = {"pre": 8, "ft": 8}
    two = Projection(InfoNCESettings(projector="mlp"), widths, 0)
    one = Projection(InfoNCESettings(projector="mlp", projector_shared=True), widths, 0)
    assert sum(each.numel() for each in two.parameters()) == 2 * sum(each.numel() for each in one.parameters())
    with pytest.raises(ValueError, match=r"alignment\.projector"):
        Projection(InfoNCESettings(projector="mlp", projector_shared=True), {"pre": 8, "ft": 4}, 0)


def test_spread_is_watched_before_and_after_the_projector(bench: Bench) -> None:
    module, batch = bench.two_way(BUDGET, weight=1.0, projector="linear"), first_batch(bench)
    stepped(module, batch)
    h_ft = pool(module.model("ft").encoder(batch), batch).detach()
    unit = F.normalize(module.projection("ft", h_ft).detach().double(), dim=-1)
    pairs = torch.cdist(unit, unit)[tuple(torch.triu_indices(16, 16, 1))]
    noted = module.pop_row().values
    assert float(noted["train/uniformity_ft_projected"]) == pytest.approx(float((-2 * pairs**2).exp().mean().log()), abs=1e-4)
    assert {"train/uniformity_pre", "train/uniformity_ft", "train/alignment_distance", "train/alignment_distance_projected"} <= {
        *noted
    }


def test_distance_from_the_start_stands_beside_every_evaluation(bench: Bench) -> None:
    module = bench.two_way(BUDGET, weight=1.0)
    bench.fit(module, BUDGET, "moved")
    last = [row for row in rows(bench, "moved") if "validation/displacement_pre" in row][-1]
    for name in ("pre", "ft"):
        parts = zip(module.model(name).encoder.parameters(), bench.start.encoder.parameters(), strict=True)
        moved, size = (torch.cat([each.detach().flatten() for each in side]) for side in zip(*parts, strict=True))
        assert last[f"validation/displacement_{name}"] == pytest.approx(float((moved - size).norm() / size.norm()), rel=1e-4)


def test_l2_sp_pulls_towards_the_start(bench: Bench) -> None:
    free, held = (
        bench.two_way(BUDGET, weight=0.0, regularizers=Regularizers(RegularizerSettings(l2_sp=weight))) for weight in (0.0, 10.0)
    )
    for name, module in (("free", free), ("held", held)):
        bench.fit(module, BUDGET, name)
    assert float(held.starts["ft"].displacement()) < float(free.starts["ft"].displacement())
    last = [row for row in rows(bench, "held") if "train/l2_sp_loss" in row][-1]
    assert 0 < last["train/l2_sp_loss"] < 10


def with_replay(batch: Batch) -> Batch:
    """Return the batch with itself to be replayed: three masked tokens, the last of which only fills, and pairs."""
    targets, pairs = torch.tensor([7, 8, NO_TARGET]), torch.arange(batch.size) % 2
    replay = replace(batch, masked=torch.tensor([1, 6, 9]), mask_targets=targets, pair_labels=pairs)
    return replace(batch, replay=replace(replay, counts={"masked": 2, "pairs": batch.size, "samples": batch.size}))


def test_distilled_replay_pulls_at_nothing_until_pre_has_moved(bench: Bench) -> None:
    batch = with_replay(first_batch(bench))
    pulls = {}
    for targets in ("corpus", "start"):
        settings = RegularizerSettings(replay=1.0, replay_targets=targets, replay_states=float(targets == "start"))
        module = bench.two_way(BUDGET, weight=0.0, regularizers=Regularizers(settings))
        stepped(module, batch)
        pulls[targets] = float(gradient(module.model("pre")).norm())
    assert pulls["start"] < 1e-5 < 0.1 < pulls["corpus"]


def test_distilled_replay_is_the_divergence_from_what_pre_said_at_the_start(bench: Bench) -> None:
    settings = RegularizerSettings(replay=0.5, replay_targets="start", replay_states=3.0)
    batch = with_replay(first_batch(bench))
    module = bench.two_way(BUDGET, weight=0.0, regularizers=Regularizers(settings))
    pre, generator = module.model("pre"), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in pre.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    loss, noted = stepped(module, batch), module.pop_row().values
    bench.start.eval()
    said, now = ([*log_probabilities(model, batch)] for model in (bench.start, pre))
    mlm, pair = (float((was.exp() * (was - is_now)).sum(-1).mean()) for was, is_now in zip(said, now, strict=True))
    assert float(noted["train/replay_mlm_divergence"]) == pytest.approx(mlm, rel=1e-4) != 0
    assert float(noted["train/replay_pair_divergence"]) == pytest.approx(pair, rel=1e-4) != 0
    way = mean_states(pre, batch) - mean_states(bench.start, batch)
    assert float(noted["train/replay_states_distance"]) == pytest.approx(float((way**2).mean()), rel=1e-4) != 0
    assert float(loss - noted["train/task_loss"]) == pytest.approx(0.5 * (mlm + pair + 3 * float((way**2).mean())), rel=1e-4)
    assert gradient(pre).norm() > 0


def mean_states(model: Model, batch: Batch) -> torch.Tensor:
    """Return the mean state of every text, (B, D), one after the other and in double precision."""
    with torch.no_grad():
        states = model(batch).double()
    bounds = batch.cu_seqlens.tolist()
    return torch.stack([states[low:high].mean(0) for low, high in itertools.pairwise(bounds)])


def log_probabilities(model: Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a model says of the two masked tokens that count and of the pairs, in double precision."""
    with torch.no_grad():
        states = model(batch)
        mlm, pair = model.mlm_logits(states, torch.tensor([1, 6])), model.pair_logits(states, batch)
    return mlm.double().log_softmax(-1), pair.double().log_softmax(-1)


# -- null controls -------------------------------------------------------------------------------------------------------------


def test_without_a_task_loss_labels_reach_nobody(bench: Bench) -> None:
    module, batch = bench.two_way(BUDGET, weight=1.0, control=ControlSettings(task_loss=False)), first_batch(bench)
    stepped(module, batch)
    assert "train/task_loss" not in module.pop_row().values
    assert all(each.grad is None for each in module.model("ft").heads["task"].parameters())
    assert gradient(module.model("pre").encoder).norm() > 0


def test_a_step_without_any_term_changes_nothing(bench: Bench) -> None:
    budget = BudgetSettings(steps=1, batch=16, best=False)
    module = bench.two_way(budget, weight=1.0, schedule=partial(ramp, share=0.5), control=ControlSettings(task_loss=False))
    bench.fit(module, budget, "nothing")
    assert same_weights(module.models["pre"], bench.start)


def test_under_shuffled_pairing_no_text_meets_itself(bench: Bench) -> None:
    module, batch = (
        bench.two_way(BUDGET, loss=cosine, weight=1.0, control=ControlSettings(shuffle_pairing=True)),
        first_batch(bench),
    )
    stepped(module, batch)
    h_pre, h_ft = (pool(module.model(name).encoder(batch), batch).detach() for name in ("pre", "ft"))
    expected = cosine(h_pre, h_ft.roll(1, 0))
    torch.testing.assert_close(module.pop_row().values["train/alignment_loss"], expected, rtol=1e-5, atol=1e-6)
    assert cosine(h_pre, h_ft) < 1e-6 < expected


def test_a_random_ft_stays_and_pre_moves(bench: Bench) -> None:
    control = ControlSettings(task_loss=False, random_ft=True)
    module = bench.two_way(BUDGET, weight=1.0, direction="to_pre", control=control)
    before = {name: value.clone() for name, value in module.model("ft").state_dict().items()}
    bench.fit(module, BUDGET, "random")
    assert all(torch.equal(value, before[name]) for name, value in module.model("ft").state_dict().items())
    assert not same_weights(module.model("pre").encoder, bench.start.encoder)
