"""Settings of a training run: method, optimizer, schedule, budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from omegaconf import MISSING

from tofro.declare import setting


@dataclass
class MethodSettings:
    """What is done with the data and the encoders."""

    _target_: str = setting(MISSING, "function of a run's context that carries the method out")
    name: str = setting(MISSING, "name in run folders and reports")
    reads: list[str] = setting([], "config groups that bear on this method's result; others do not enter the run's identity")
    reads_if_set: list[str] = setting([], "the same for groups that may be left at none, such as prompt")
    answer: str = setting(
        "head",
        "what answers the task while it is learnt: head, a new task head; cloze, the head for masked words through the prompt",
        choices=("head", "cloze"),
    )
    dropout: float = setting(
        0.1, "dropout of embeddings and feed-forward layers in training; attention dropout is 0", low=0, below=1
    )
    measure: bool = setting(
        True, "measure the encoders before and after: held-out MLM, pair accuracy, probes, neighbours, similarity"
    )
    measure_ft: bool = setting(False, "measure `ft` after training as `pre` is measured, beside its score on the task")
    train_score: bool = setting(
        False,
        "score `ft` on training rows too, at most probe_rows: less its validation score that is how much it overfits",
    )
    pseudo_log_likelihood: int = setting(
        0, "held-out sentences scored by pseudo-log-likelihood, one token masked at a time; 0 leaves it out", low=0
    )
    held_out: Optional[int] = setting(
        None,
        "held-out samples of a corpus on which masked words and pairs are measured, at most, in pretraining too; null means all",
        low=2,
    )
    probes: list[str] = setting(
        ["pydoc_kind", "pydoc_package", "pydoc_match"],
        "tasks of conf/task on which encoders are measured (probe, neighbours), beside the run's own task",
    )
    tasks: list[str] = setting([], "files or folders of further tasks to measure on, read as task=file reads them")
    corpora: list[str] = setting(
        [],
        "further corpora on which held-out language is measured, out of domain: files or folders read as corpus=text reads them, "
        "or pydoc",
    )
    probe_rows: int = setting(2000, "training rows of a probe and of neighbours, at most, chosen by content hash", low=4)
    split: str = setting(
        "test",
        "split of the tasks on which encoders are measured; validation is for choosing settings, without a look at test",
        choices=("test", "validation"),
    )
    test_rows: Optional[int] = setting(None, "rows of that split, at most, chosen by content hash; null means all", low=2)
    pooling: str = setting(
        "mean",
        "how measures make one vector of a text's states; folder: as the sentence-transformers folder of init_from asks",
        choices=("mean", "cls", "folder"),
    )
    sentences: int = setting(
        512, "held-out sentences on which representations are compared (CKA, rank, uniformity); 0 leaves it out", low=0
    )
    few_shot: list[int] = setting(
        [], "measure fine-tuning on so many examples of each class, for each of these numbers; costs time"
    )
    few_shot_draws: int = setting(5, "different choices of these examples; the result keeps each and their mean", low=1)
    few_shot_steps: int = setting(60, "optimizer steps of a few-shot fine-tuning, 16 examples each", low=1)
    few_shot_lr: float = setting(1e-4, "peak learning rate of a few-shot fine-tuning", above=0)
    few_shot_splits: list[str] = setting([], "files that choose the examples, as a run writes them under few_shot/")


@dataclass
class WiseSettings(MethodSettings):
    """Weights between an encoder's start and the same encoder fine-tuned."""

    alpha: float = setting(0.5, "where between start (0) and `ft` (1) the encoder of models/pre lies", low=0, high=1)
    alphas: list[float] = setting(
        [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
        "where to score the task with the heads of `ft`, each from 0 to 1",
    )


@dataclass
class OptimizerSettings:
    """AdamW, without decay on biases and norms."""

    lr: float = setting(1e-4, "peak learning rate", above=0)
    lr_head: Optional[float] = setting(None, "peak learning rate of new task heads; null means lr", above=0)
    lr_pre: Optional[float] = setting(None, "peak learning rate of `pre` in two-way runs; null means lr", above=0)
    beta1: float = setting(0.9, "decay of the first moment", low=0, below=1)
    beta2: float = setting(0.98, "decay of the second moment", low=0, below=1)
    eps: float = setting(1e-6, "added to the root of the second moment", above=0)
    weight_decay: float = setting(0.01, "decoupled weight decay", low=0)
    weight_decay_pre: Optional[float] = setting(None, "weight decay of `pre` in two-way runs; null means weight_decay", low=0)
    layer_decay: float = setting(
        1.0,
        "the highest layer's rate is this times the heads', the next one's this times that, and so on down to the embeddings; "
        "1 is off",
        above=0,
        high=1,
    )


@dataclass
class ScheduleSettings:
    """Learning rate as a share of its peak, as a function of progress in [0, 1]."""

    _target_: str = setting(MISSING, "function of (progress, warmup, decay) -> factor")
    warmup: float = setting(0.06, "share of the budget over which the rate rises linearly from 0", low=0, high=1)
    decay: float = setting(0.2, "share of the budget over which warm-up-stable-decay falls", above=0, high=1)


@dataclass
class BudgetSettings:
    """How long, how much at once, when to evaluate and when to stop. Give exactly one of steps, epochs, tokens and minutes."""

    steps: Optional[int] = setting(None, "optimizer steps", low=1)
    epochs: Optional[float] = setting(None, "passes over the training split", above=0)
    tokens: Optional[int] = setting(None, "real tokens of the global batches, special ones included", low=1)
    minutes: Optional[float] = setting(None, "minutes of wall clock; the schedule ends when the time does", above=0)
    batch: int = setting(32, "samples of a global batch, over all devices and micro-batches", low=1)
    accumulate: int = setting(1, "micro-batches a global batch is cut into on each device", low=1)
    evaluate_every: Optional[int] = setting(
        None, "steps between evaluations; null means ten over the run (200 steps under tokens and minutes)", low=1
    )
    patience: Optional[int] = setting(None, "evaluations without improvement after which the run stops; null means never", low=1)
    best: bool = setting(True, "restore the weights of the best evaluation at the end")
    clip: float = setting(1.0, "largest gradient norm, per encoder; 0 means no clipping", low=0)
    clip_pre: Optional[float] = setting(None, "largest gradient norm of `pre` in two-way runs; null means clip", low=0)
    max_skipped: int = setting(
        10, "steps in a row whose loss or gradient is not finite, after which the run stops; each is skipped", low=1
    )
    precision: str = setting("32", "32 or bf16 (mixed)", choices=("32", "bf16"))
