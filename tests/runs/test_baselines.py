"""The baselines, each end to end: what it trains, what it leaves, what its result says, and what enters its identity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.modules.conftest import same_weights
from tests.runs.conftest import LONG, Chain, carry_out, hash_of
from tests.runs.test_run import assert_same, interrupt
from tofro.batches.order import key
from tofro.config.compose import compose
from tofro.encoders.folder import load_model
from tofro.encoders.interpolation import interpolate
from tofro.encoders.model import Model, build_model
from tofro.encoders.tuning import trainable_names
from tofro.modules.fine_tuning import FineTuning
from tofro.reports.arms import LEAVES_PRE
from tofro.reports.formats import parse_metric
from tofro.runs import baselines
from tofro.runs.context import RETAINED_HEADS, Context
from tofro.runs.folder import Result
from tofro.runs.outcome import tuned
from tofro.runs.run import identify

MODELS = {"lora": {"ft"}, "bitfit": {"ft"}, "from_scratch": {"ft"}, "wise": {"pre", "ft"}, "continued_mlm": {"pre"}}
OF = {"wise": ["method.alphas=[0,0.25,1]"]}


@pytest.fixture(scope="module")
def runs(chain: Chain) -> dict[str, Result]:
    return {name: carry_out([*chain.base, chain.start(), f"method={name}", *LONG, *OF.get(name, [])]) for name in MODELS}


def opened(result: Result, name: str) -> Model:
    return load_model(result.folder / "models" / name).model


def start_of(chain: Chain) -> Model:
    return opened(chain.runs["pretrain"], "pre")


@pytest.mark.parametrize("name", MODELS)
def test_each_leaves_its_models_and_says_what_it_started_from(chain: Chain, runs: dict[str, Result], name: str) -> None:
    data = runs[name].data
    assert (data["method"], data["task"], data["lineage"]["init_from"]) == (name, "task", chain.runs["pretrain"].data["id"])
    assert data["score"] in data["metrics"]
    assert {path.name for path in (runs[name].folder / "models").iterdir()} == MODELS[name]
    assert data["cost"]["steps"] == 6
    start, pre = (data["metrics"][f"test/probe_task_{encoder}"] for encoder in ("start", "pre"))
    assert (start == pre) or name not in LEAVES_PRE
    assert hash_of(chain.runs["pretrain"].folder / "models") == chain.pre_hash


@pytest.mark.parametrize(("name", "moves"), [("lora", "attention.qkv.weight"), ("bitfit", ".bias")])
def test_partial_presets_move_their_part_of_the_encoder_alone(
    chain: Chain, runs: dict[str, Result], name: str, moves: str
) -> None:
    """What is frozen reaches the saved folder bit for bit; what LoRA learnt is in the weights it was merged into."""
    before, after = start_of(chain).encoder.state_dict(), opened(runs[name], "ft").encoder.state_dict()
    assert before.keys() == after.keys()
    moved = {each for each in before if not torch.equal(before[each], after[each])}
    assert moved
    assert all(each.endswith(moves) for each in moved)


def test_from_scratch_has_the_start_s_shape_and_nothing_of_its_weights(chain: Chain, tmp_path: Path) -> None:
    start = start_of(chain)
    overrides = [*chain.base, chain.start(), "method=from_scratch", "encoder.layers=1"]  # init_from answers for the shape
    seen: list[Model] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "fit_task", lambda context, ft: seen.append(ft) or (_ for _ in ()).throw(RuntimeError("seen")))
        with pytest.raises(RuntimeError, match="seen"):
            carry_out([*overrides, f"outputs_dir={tmp_path}"])
    assert seen[0].settings == start.settings
    expected = build_model(start.settings, start.vocabulary, RETAINED_HEADS, seed=key(0, "random"))
    assert same_weights(seen[0].encoder, expected.encoder)


def test_from_scratch_trains_everything(chain: Chain, runs: dict[str, Result]) -> None:
    start = start_of(chain)
    expected = build_model(start.settings, start.vocabulary, RETAINED_HEADS, seed=0)
    after = opened(runs["from_scratch"], "ft")
    assert not same_weights(after.encoder.layers[0], expected.encoder.layers[0])
    assert "random weights" in " ".join(runs["from_scratch"].data["notes"])


def test_wise_is_full_fine_tuning_and_what_lies_between(chain: Chain, runs: dict[str, Result]) -> None:
    start, ft, pre = start_of(chain), opened(runs["wise"], "ft"), opened(runs["wise"], "pre")
    assert hash_of(runs["wise"].folder / "models" / "ft") == hash_of(chain.runs["full"].folder / "models" / "ft")
    for name, weight in pre.encoder.state_dict().items():
        middle = 0.5 * start.encoder.state_dict()[name] + 0.5 * ft.encoder.state_dict()[name]
        torch.testing.assert_close(weight, middle, rtol=1e-6, atol=1e-7)
    assert same_weights(pre.heads, start.heads)
    metrics = runs["wise"].metrics
    for split in ("validation", "test"):
        names = {f"{split}/accuracy_at_{alpha}_ft" for alpha in ("0", "0.25", "1")}
        assert {name for name in metrics if name.startswith(f"{split}/accuracy_at_")} == names
        assert metrics[f"{split}/accuracy_at_1_ft"] == metrics[f"{split}/accuracy_ft"]
    parsed = parse_metric("test/accuracy_at_0.25_ft")
    assert (parsed.split, parsed.what, parsed.encoder) == ("test", "accuracy_at_0.25", "ft")


def test_the_ends_of_the_line_are_the_encoders_themselves(chain: Chain, runs: dict[str, Result]) -> None:
    start, ft = start_of(chain), opened(runs["wise"], "ft")
    assert same_weights(interpolate(start, start.encoder, ft.encoder, 0.0), start)
    assert same_weights(interpolate(start, start.encoder, ft.encoder, 1.0).encoder, ft.encoder)
    assert same_weights(interpolate(ft, start.encoder, ft.encoder, 1.0), ft)
    assert not same_weights(interpolate(ft, start.encoder, ft.encoder, 0.5).encoder, ft.encoder)


def test_continued_mlm_learns_the_task_s_texts_and_none_of_its_labels(
    chain: Chain, runs: dict[str, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = runs["continued_mlm"].metrics
    assert metrics["validation/mlm_loss_texts_pre"] < metrics["validation/mlm_loss_texts_start"]
    start, pre = start_of(chain), opened(runs["continued_mlm"], "pre")
    assert not same_weights(pre.encoder, start.encoder)
    assert not same_weights(pre.heads["mlm"], start.heads["mlm"])
    assert same_weights(pre.heads["pair"], start.heads["pair"])
    context = Context(compose([*chain.base, chain.start(), "method=continued_mlm"]), runs["continued_mlm"].folder)
    seen: list[Any] = []
    monkeypatch.setattr(baselines, "train", lambda context, module, data: seen.append(data) or (_ for _ in ()).throw(KeyError))
    with pytest.raises(KeyError):
        baselines.continued_mlm(context.settings("method"), context)
    store, task = seen[0].train, context.task
    assert store.documents == store.sentences == len(task.splits["train"])  # the test texts are not read
    first = context.start.tokenizer.encode([row.text_a for row in task.splits["train"][:3]])
    assert list(store.ids[: store.sentence_offsets[3]]) == [token for text in first for token in text.ids]


def test_as_many_steps_an_epoch_as_the_task_has(chain: Chain) -> None:
    """The same texts make the same batches: what a comparison with two-way runs of as many epochs needs."""
    shared = [*chain.base, chain.start(), "budget.epochs=0.2", "budget.evaluate_every=100", "method.measure=false"]
    mlm, full = (carry_out([*shared, f"method={name}"]) for name in ("continued_mlm", "full"))
    assert mlm.data["cost"]["steps"] == full.data["cost"]["steps"] > 1
    assert mlm.data["score"] == "validation/mlm_loss_texts_pre"


@pytest.mark.parametrize(
    ("method", "key"),
    [
        ("wise", "method.alpha=0.3"),
        ("wise", "method.alphas=[0.5]"),
        ("lora", "tuning.rank=2"),
        ("lora", "tuning.alpha=4"),
        ("lora", "tuning.dropout=0.1"),
        ("lora", "tuning.targets=[feed_forward.up]"),
        ("bitfit", "tuning.reinitialise=1"),
        ("from_scratch", "optimizer.layer_decay=0.9"),
        ("two_way", "optimizer.weight_decay_pre=0"),
        ("two_way", "budget.clip_pre=0.5"),
        ("continued_mlm", "objective.mask_rate=0.3"),
        ("continued_mlm", "task.train_rows=100"),
    ],
)
def test_what_bears_on_the_result_enters_the_id(chain: Chain, method: str, key: str) -> None:
    shared = [*chain.base, chain.start(), f"method={method}"]
    plain = identify(compose(shared))
    assert identify(compose([*shared, key])).id != plain.id
    assert identify(compose([*shared, "trainer.threads=1"])).id == plain.id


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["method=wise", "method.alphas=[0.5,1.5]"], r"method\.alphas: 1\.5"),
        (["method=lora", "tuning.targets=[attention.key]"], r"tuning\.targets: .*attention\.key"),
        (["method=full", "tuning.reinitialise=3"], r"tuning\.reinitialise: 3"),
    ],
)
def test_mistakes_are_named_before_anything_trains(chain: Chain, tmp_path: Path, overrides: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        carry_out([*chain.base, chain.start(), *overrides, f"outputs_dir={tmp_path}"])
    assert not any((tmp_path / "runs").iterdir())


def test_starts_that_make_no_sense_are_refused(chain: Chain, tmp_path: Path) -> None:
    other = f"init_from_ft={chain.runs['full'].folder}"
    with pytest.raises(ValueError, match=r"init_from_ft: method=from_scratch"):
        carry_out([*chain.base, chain.start(), other, "method=from_scratch", f"outputs_dir={tmp_path}"])
    with pytest.raises(ValueError, match=r"init_from: method=continued_mlm"):
        carry_out([*chain.base, "method=continued_mlm", f"outputs_dir={tmp_path}"])


RESUMED = [
    ["method=lora", "tuning.dropout=0.3", "tuning.rank=2"],
    ["method=bitfit", "tuning.reinitialise=1"],
    ["method=partial", "tuning=norm", "optimizer.layer_decay=0.8"],
    ["method=continued_mlm"],
]


@pytest.mark.parametrize("overrides", RESUMED, ids=lambda each: each[0])
def test_an_interrupted_run_resumes_with_the_same_frozen_set_to_the_same_bits(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str]
) -> None:
    shared = [*chain.base, chain.start(), *overrides, *LONG, "method.measure=false"]
    seen: list[tuple[str, ...]] = []
    monkeypatch.setattr(FineTuning, "on_train_start", lambda self: seen.append(trainable_names(self.models["ft"])), raising=False)
    whole = carry_out([*shared, f"outputs_dir={tmp_path / 'whole'}"])
    cut = [*shared, f"outputs_dir={tmp_path / 'cut'}", "trainer.checkpoint_every=2"]
    with monkeypatch.context() as patch:
        interrupt(patch, RuntimeError, 5)
        with pytest.raises(RuntimeError, match="in the middle"):
            carry_out(cut)
    torch.manual_seed(99)  # whatever the state of the process, the same adapters are made
    assert_same(carry_out(cut).folder, whole.folder)
    assert len(seen) == (0 if overrides == ["method=continued_mlm"] else 3)
    assert len(set(seen)) <= 1


def test_drawn_layers_are_where_the_training_begins(chain: Chain, tmp_path: Path) -> None:
    start = start_of(chain)
    ft = tuned(Context(compose([*chain.base, chain.start(), "method=full", "tuning.reinitialise=1"]), tmp_path))
    assert same_weights(ft.encoder.embeddings, start.encoder.embeddings)
    assert same_weights(ft.encoder.layers[0], start.encoder.layers[0])
    assert not same_weights(ft.encoder.layers[1], start.encoder.layers[1])


def test_intermediate_training_is_a_start_from_a_fine_tuned_run(chain: Chain, tmp_path: Path) -> None:
    """The second task has other labels; the first one's head is dropped and its encoder goes on."""
    (tmp_path / "second.jsonl").write_text(
        "".join(f'{{"text": "{number} river", "label": "{"abc"[number % 3]}"}}\n' for number in range(60)), encoding="utf-8"
    )
    first = chain.runs["full"]
    second = [f"task.path={tmp_path / 'second.jsonl'}", f"init_from={first.folder}/models/ft", f"outputs_dir={tmp_path}"]
    result = carry_out([*chain.base, "method=partial", *LONG, *second])
    ft = opened(result, "ft")
    assert ft.heads["task"].classes == 3  # type: ignore[union-attr]
    assert same_weights(ft.encoder, opened(first, "ft").encoder)
