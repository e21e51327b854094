"""Data modules: the same global batches for any ranks and workers, and a resume that seeks."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch

from tests.batches.test_packing import Row
from tofro.batches.datamodules import Loading, PretrainingData, TaskData
from tofro.batches.pretraining import evaluation_batches
from tofro.batches.settings import ObjectiveSettings
from tofro.batches.types import Batch
from tofro.tokens.store import TokenStore
from tofro.tokens.tokenizer import Tokenizer

OBJECTIVE = ObjectiveSettings(length=32)
ROWS = [Row("river " * (place % 5 + 1), None, "ab"[place % 2]) for place in range(50)]


def data(store: TokenStore, tokenizer: Tokenizer, **loading: int) -> PretrainingData:
    return PretrainingData(store, store, tokenizer, OBJECTIVE, Loading(**{"batch": 16, **loading}))


def sequences(batches: list[Batch]) -> list[tuple[object, ...]]:
    """Take batches apart: for each sequence its sample, tokens, masks, targets and label."""
    rows: list[tuple[object, ...]] = []
    for batch in batches:
        assert batch.samples is not None
        bounds = batch.cu_seqlens.tolist()
        for place, (low, high) in enumerate(itertools.pairwise(bounds)):
            row: list[object] = [int(batch.samples[place]), batch.tokens[low:high].tolist(), batch.segments[low:high].tolist()]
            if batch.masked is not None and batch.mask_targets is not None and batch.pair_labels is not None:
                inside = (batch.masked >= low) & (batch.masked < high)
                row += [(batch.masked[inside] - low).tolist(), batch.mask_targets[inside].tolist(), int(batch.pair_labels[place])]
            rows.append(tuple(row))
    return rows


def first(module: PretrainingData | TaskData, count: int) -> list[Batch]:
    return list(itertools.islice(module.train_dataloader(), count))


@pytest.mark.parametrize(("ranks", "accumulate"), [(1, 4), (2, 1), (2, 2), (4, 1), (4, 2), (1, 1)])
@pytest.mark.parametrize("workers", [0, 2])
def test_every_global_batch_is_the_same_for_any_ranks_workers_and_cuts(
    store: TokenStore, tokenizer: Tokenizer, ranks: int, accumulate: int, workers: int
) -> None:
    alone = data(store, tokenizer, batch=64)
    steps = alone.steps_per_epoch + 2  # a whole epoch, and into the next
    expected = first(alone, steps)
    cut = {"batch": 64, "world_size": ranks, "workers": workers, "accumulate": accumulate}
    shares = [iter(data(store, tokenizer, rank=rank, **cut).train_dataloader()) for rank in range(ranks)]
    for step in range(steps):
        found = [batch for share in shares for batch in itertools.islice(share, accumulate)]
        assert sequences(found) == sequences([expected[step]])


def test_counts_cover_the_share_of_a_step(store: TokenStore, tokenizer: Tokenizer) -> None:
    whole = first(data(store, tokenizer), 1)[0]
    assert whole.masked is not None
    assert whole.counts["masked"] == whole.masked.numel()
    for ranks, accumulate in ((1, 4), (2, 2)):
        modules = [data(store, tokenizer, rank=rank, world_size=ranks, accumulate=accumulate) for rank in range(ranks)]
        shares = [first(module, accumulate) for module in modules]
        for share in shares:
            masked = sum(batch.masked.numel() for batch in share if batch.masked is not None)
            assert all(batch.counts["masked"] == masked for batch in share)
            assert all(batch.counts["pairs"] == batch.counts["samples"] == 16 // ranks for batch in share)
        assert sum(share[0].counts["masked"] for share in shares) == whole.counts["masked"]


@pytest.mark.parametrize("pair", ["swap", "none"])
def test_every_rank_counts_the_tokens_of_all_without_building_them(store: TokenStore, tokenizer: Tokenizer, pair: str) -> None:
    def pretraining(**loading: int) -> PretrainingData:
        return PretrainingData(
            store, store, tokenizer, ObjectiveSettings(length=32, pair=pair), Loading(**{"batch": 16, **loading})
        )

    def labelled(**loading: int) -> TaskData:
        rows = [
            Row("river " * (place % 7 + 1), "stone garden" if pair == "swap" else None, "ab"[place % 2]) for place in range(50)
        ]
        return TaskData({"train": rows, "validation": rows}, ("a", "b"), tokenizer, 9, Loading(**{"batch": 16, **loading}))  # type: ignore[arg-type]

    for make in (pretraining, labelled):
        steps = make().steps_per_epoch + 1  # the first of another epoch too
        expected = [batch.tokens.numel() for batch in first(make(), steps)]
        assert len(set(expected)) > 1
        for ranks, accumulate in ((1, 1), (1, 4), (2, 2), (4, 1)):
            for rank in range(ranks):
                share = first(make(rank=rank, world_size=ranks, accumulate=accumulate), steps * accumulate)
                assert [batch.counts["global_tokens"] for batch in share[::accumulate]] == expected
                assert [batch.counts["global_tokens"] for batch in share[accumulate - 1 :: accumulate]] == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_seeking_equals_iterating(store: TokenStore, tokenizer: Tokenizer, workers: int) -> None:
    module = data(store, tokenizer, accumulate=2, workers=workers)
    per_epoch = module.steps_per_epoch
    late = data(store, tokenizer, accumulate=2, workers=workers)
    late.start_step = 7
    assert sequences(first(late, 4)) == sequences(first(module, 18)[14:])
    late.start_step = per_epoch - 1  # across the end of an epoch
    samples = [row[0] for row in sequences(first(late, 4))]
    module.start_step = per_epoch
    assert samples[16:] == [row[0] for row in sequences(first(module, 2))]


def test_an_attached_trainer_says_where_to_start(store: TokenStore, tokenizer: Tokenizer) -> None:
    module, other = data(store, tokenizer), data(store, tokenizer)
    loader = module.train_dataloader()
    module.trainer = SimpleNamespace(global_step=5)  # type: ignore[assignment]
    other.start_step = 5
    assert sequences(list(itertools.islice(loader, 2))) == sequences(first(other, 2))
    with pytest.raises(TypeError):
        len(loader)  # type: ignore[arg-type]


def test_seeds_and_epochs_differ(store: TokenStore, tokenizer: Tokenizer) -> None:
    module, other = data(store, tokenizer), data(store, tokenizer, seed=1)
    assert sequences(first(module, 1)) != sequences(first(other, 1))
    rows = {row[0]: row for row in sequences(first(module, module.steps_per_epoch))}
    module.start_step = module.steps_per_epoch
    again = {row[0]: row for row in sequences(first(module, module.steps_per_epoch))}
    common = sorted(set(rows) & set(again))
    assert len(common) > 0.9 * len(rows)
    assert sum(rows[sample] != again[sample] for sample in common) > 0.9 * len(common)


def test_evaluation_ignores_the_seed_and_is_shared_by_ranks(store: TokenStore, tokenizer: Tokenizer) -> None:
    whole = sequences(list(data(store, tokenizer).val_dataloader()))
    assert whole == sequences(list(data(store, tokenizer, seed=9).val_dataloader()))
    shares = [sequences(list(data(store, tokenizer, rank=rank, world_size=2).val_dataloader())) for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == sorted(whole)  # type: ignore[type-var]
    limited = evaluation_batches(store, tokenizer, OBJECTIVE, 16, 40)
    labels = torch.cat([batch.pair_labels for batch in limited if batch.pair_labels is not None])
    assert len(labels) == 40
    assert labels.sum() == 20
    assert {row[0]: row for row in whole}.items() >= {row[0]: row for row in sequences(limited)}.items()


def test_terms_of_weight_zero_are_not_built(store: TokenStore, tokenizer: Tokenizer) -> None:
    module = PretrainingData(store, store, tokenizer, ObjectiveSettings(length=32, mlm_weight=0), Loading(8))
    assert first(module, 1)[0].masked is None
    module = PretrainingData(store, store, tokenizer, ObjectiveSettings(length=32, pair="none"), Loading(8))
    assert first(module, 1)[0].pair_labels is None


def test_task_data(tokenizer: Tokenizer) -> None:
    splits = {"train": ROWS, "validation": ROWS[:7], "test": ROWS[:9]}
    module = TaskData(splits, ("a", "b"), tokenizer, 16, Loading(8, accumulate=2))  # type: ignore[arg-type]
    assert module.steps_per_epoch == 6
    epoch = first(module, 12)
    seen = torch.cat([batch.samples for batch in epoch if batch.samples is not None]).tolist()
    assert len(set(seen)) == 48
    for batch in epoch:
        assert batch.labels is not None
        assert batch.samples is not None
        assert (batch.labels == batch.samples % 2).all()
    for loader, count in ((module.val_dataloader(), 7), (module.test_dataloader(), 9)):
        assert sum(batch.size for batch in loader) == count


def test_too_little_data_names_the_data_and_the_key(store: TokenStore, tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"corpus written \(train\): \d+ training samples .* of 100000; lower budget\.batch"):
        data(store, tokenizer, batch=100_000)
    with pytest.raises(ValueError, match=r"task: 50 training samples .* budget\.batch"):
        TaskData({"train": ROWS}, ("a", "b"), tokenizer, 16, Loading(64))
    with pytest.raises(ValueError, match=r"budget\.batch=16"):
        data(store, tokenizer, world_size=3)
