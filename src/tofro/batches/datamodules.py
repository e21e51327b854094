"""What Lightning asks for batches: endless training batches in stateless order, finite evaluation batches in fixed order.

In: a token store or a task, and how loading is shared out. Out: data loaders of :class:`~tofro.batches.types.Batch`. The only
file of this room that knows Lightning. What a batch holds is decided in ``pretraining.py`` and ``labelled.py``, which samples
it holds in ``order.py``; nothing here remembers where training stands.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytorch_lightning as lightning
from torch.utils.data import DataLoader, Dataset, Sampler

from tofro.batches.labelled import Labelled, LabelledBuilder
from tofro.batches.order import global_batch, key, rank_share, steps_per_epoch
from tofro.batches.packing import fill, share_counts
from tofro.batches.pretraining import PretrainingBuilder, evaluation_batches
from tofro.batches.settings import ObjectiveSettings
from tofro.batches.types import Batch
from tofro.tokens.store import TokenStore
from tofro.tokens.tokenizer import Tokenizer

Build = Callable[[int, np.ndarray], Batch]  # (epoch, samples) -> batch
Count = Callable[[int, np.ndarray], int]  # (epoch, samples) -> tokens of their batch


EVALUATION_BATCH = 64  # sequences without gradients; has no bearing on a metric beyond rounding


@dataclass(frozen=True)
class Loading:
    """How batches are shared out: ``batch`` samples a step over all ranks, cut into ``accumulate`` micro-batches on each."""

    batch: int
    accumulate: int = 1
    workers: int = 0
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    filled: bool = False  # training batches filled to a few sizes, for compiled code


class Steps(Dataset[list[Batch]]):
    """This rank's micro-batches of every optimizer step: item k depends on k alone."""

    def __init__(
        self, build: Build, count: Count, samples: int, stream: str, loading: Loading, replay: Replay | None = None
    ) -> None:
        """Check that a global batch exists and can be cut, before anything trains."""
        self.build, self.count, self.samples, self.stream, self.loading = build, count, samples, stream, loading
        self.replay = replay
        self.per_epoch = steps_per_epoch(loading.batch, samples)
        rank_share(np.arange(loading.batch), loading.rank, loading.world_size, loading.accumulate)

    def __getitem__(self, step: int) -> list[Batch]:
        """Return the micro-batches of ``step``, each with the counts of this rank's whole share and the tokens of all ranks."""
        loading = self.loading
        epoch, samples = global_batch(loading.seed, self.stream, step, loading.batch, self.samples)
        shares = rank_share(samples, loading.rank, loading.world_size, loading.accumulate)
        batches = share_counts([self.build(epoch, share) for share in shares])
        tokens = batches[0].counts["tokens"] if loading.world_size == 1 else self.count(epoch, samples)
        batches = [replace(batch, counts=batch.counts | {"global_tokens": tokens}) for batch in batches]
        batches = [fill(batch) for batch in batches] if loading.filled else batches
        replayed = self.replay.at(step) if self.replay is not None else []
        return [replace(batch, replay=other) for batch, other in zip(batches, replayed, strict=True)] if replayed else batches


class Replay:
    """Micro-batches of the corpus beside those of a task, on every ``every``-th step: a pretraining's, in doses."""

    def __init__(self, data: PretrainingData, every: int) -> None:
        """Take the steps of ``data``, whose loading says how many samples a dose has."""
        self.steps, self.every = data.steps, every

    def at(self, step: int) -> list[Batch]:
        """Return this rank's micro-batches for optimizer step ``step``; none between the steps that replay."""
        dose, rest = divmod(step, self.every)
        return [] if rest else self.steps[dose]


class From(Sampler[int]):
    """The steps from ``first`` on, without end."""

    def __init__(self, first: int) -> None:
        """Remember the first step."""
        self.first = first

    def __iter__(self) -> Iterator[int]:
        """Count on."""
        return itertools.count(self.first)


class Endless:
    """Micro-batches one by one, from the step that ``start`` returns when the iteration begins. It has no length."""

    def __init__(self, steps: Steps, start: Callable[[], int], workers: int) -> None:
        """Store what to iterate over."""
        self.steps, self.start, self.workers = steps, start, workers

    def __iter__(self) -> Iterator[Batch]:
        """Load whole steps, in workers where there are any, and hand out their micro-batches."""
        loader = DataLoader(
            self.steps,
            batch_size=None,
            sampler=From(self.start()),
            num_workers=self.workers,
            prefetch_factor=4 if self.workers else None,
            worker_init_fn=leave_signals_to_the_run,
        )
        for batches in loader:
            yield from batches


def leave_signals_to_the_run(worker: int = 0) -> None:
    """Ignore stop signals in a loader's process: one sent to all must leave it alive until the step under way is saved.

    It ends when the run asks it to, or when the run's process is gone.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


class _Data(lightning.LightningDataModule):
    """What both data modules share: the endless training loader and its start."""

    def __init__(self, loading: Loading) -> None:
        super().__init__()
        self.loading = loading
        self.start_step = 0
        self.steps: Steps

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the training split."""
        return self.steps.per_epoch

    def train_dataloader(self) -> Endless:
        """Return the endless loader; it starts at the trainer's step, or at ``start_step`` where there is no trainer."""
        return Endless(self.steps, self._start, self.loading.workers)

    def _start(self) -> int:
        return self.start_step if self.trainer is None else self.trainer.global_step

    @property
    def _evaluation_batch(self) -> int:
        """Sequences of an evaluation batch; their number bears on rounding alone."""
        return max(self.loading.batch, EVALUATION_BATCH)


class PretrainingData(_Data):
    """Batches for pretraining on ``train``, and fixed evaluation batches of ``validation`` (at most ``limit`` samples)."""

    def __init__(
        self,
        train: TokenStore,
        validation: TokenStore,
        tokenizer: Tokenizer,
        objective: ObjectiveSettings,
        loading: Loading,
        limit: int | None = None,
    ) -> None:
        """Index both stores. Raises ValueError where the corpus is too small for a batch."""
        super().__init__(loading)
        self.train, self.validation = train, validation
        self.tokenizer, self.objective, self.limit = tokenizer, objective, limit
        self.builder = PretrainingBuilder(train, tokenizer, objective)
        self.stream = key(loading.seed, "pretraining")
        try:
            self.steps = Steps(self._build, self._count, len(self.builder), "pretraining", loading)
        except ValueError as error:
            raise ValueError(f"corpus {train.name}: {error}") from error

    @property
    def notes(self) -> list[str]:
        """What of the corpus is not learnt from as it was written, in words."""
        said = {
            "unpaired_documents": "documents of one sentence made no pair",
            "long_sentences": "sentences longer than a sequence were read in windows",
        }
        counts = self.builder.samples.counts
        made = [f"{self.train.name}: {counts[key]:,} {text}" for key, text in said.items() if counts.get(key)]
        return [*self.train.notes, *self.validation.notes, *made]

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the evaluation batches, the same for every seed."""
        loading = self.loading
        batches = evaluation_batches(
            self.validation,
            self.tokenizer,
            self.objective,
            self._evaluation_batch,
            self.limit,
            loading.rank,
            loading.world_size,
        )
        return DataLoader(_Listed(batches), batch_size=None)

    def _build(self, epoch: int, samples: np.ndarray) -> Batch:
        return self.builder.build(self.stream, epoch, samples)

    def _count(self, epoch: int, samples: np.ndarray) -> int:
        return self.builder.tokens(self.stream, epoch, samples)


class TaskData(_Data):
    """Batches of a task: ``splits`` holds train, validation and test, ``labels`` the class names (empty for regression)."""

    def __init__(
        self,
        splits: Mapping[str, Sequence[Labelled]],
        labels: tuple[str, ...],
        tokenizer: Tokenizer,
        max_length: int,
        loading: Loading,
        replay: Replay | None = None,
        builder: Callable[[Sequence[Labelled]], LabelledBuilder] | None = None,
    ) -> None:
        """Tokenise each split once, by ``builder`` where the texts don't stand by themselves.

        Raises ValueError where there are fewer training rows than a batch needs.
        """
        super().__init__(loading)
        made = builder or (lambda rows: LabelledBuilder(rows, tokenizer, max_length, labels))
        self.builders = {name: made(rows) for name, rows in splits.items()}
        try:
            self.steps = Steps(self._build, self._count, len(self.builders["train"]), "task", loading, replay)
        except ValueError as error:
            raise ValueError(f"task: {error}") from error

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation batches."""
        return self._evaluation("validation")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test batches."""
        return self._evaluation("test")

    def _evaluation(self, split: str) -> DataLoader[Batch]:
        batches = self.builders[split].batches(self._evaluation_batch, self.loading.rank, self.loading.world_size)
        return DataLoader(_Listed(batches), batch_size=None)

    def _build(self, epoch: int, samples: np.ndarray) -> Batch:
        return self.builders["train"].build(samples)

    def _count(self, epoch: int, samples: np.ndarray) -> int:
        return self.builders["train"].tokens(samples)


class _Listed(Dataset[Batch]):
    """Batches that are already built."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, place: int) -> Batch:
        return self.batches[place]
