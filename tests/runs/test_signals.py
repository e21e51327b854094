"""Stop signals: a training saves and leaves at its next step, anything else leaves at once, and the same command resumes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from tests.modules.conftest import Bench, same_weights
from tests.modules.conftest import bench as bench
from tests.modules.conftest import start as start
from tests.modules.conftest import task as task
from tests.modules.conftest import tokenizer as tokenizer
from tests.runs import mortal
from tests.runs.conftest import LONG, Chain, rows_of
from tests.runs.test_run import assert_same
from tests.runs.test_study import write
from tofro.batches.datamodules import leave_signals_to_the_run
from tofro.modules.settings import BudgetSettings
from tofro.runs import checkpoint_io
from tofro.runs.signals import SIGNALS, Stopped, listening, noted, patiently

BUDGET = BudgetSettings(steps=12, batch=16, evaluate_every=4, accumulate=2)


class Send(pl.Callback):
    """Sends this process a signal at a moment of a step."""

    def __init__(self, moment: str, step: int, *numbers: int) -> None:
        self.moment, self.step, self.numbers = moment, step, numbers

    def _at(self, moment: str, trainer: pl.Trainer) -> None:
        if (moment, trainer.global_step) == (self.moment, self.step):
            for number in self.numbers:
                os.kill(os.getpid(), number)
                time.sleep(0)  # the interpreter hears signals between two of its instructions

    def on_train_batch_start(self, trainer: pl.Trainer, *rest: Any) -> None:
        self._at("step", trainer)

    def on_validation_start(self, trainer: pl.Trainer, *rest: Any) -> None:
        self._at("evaluation", trainer)


@pytest.mark.parametrize(
    ("moment", "step", "saved", "number"),
    [
        ("step", 5, 6, signal.SIGTERM),
        ("step", 7, 8, signal.SIGUSR1),  # an evaluation follows the step that is saved
        ("evaluation", 8, 8, signal.SIGINT),
        ("evaluation", 12, 12, signal.SIGUSR2),
    ],
)
@pytest.mark.parametrize("every", [500, 4])
def test_a_training_saves_leaves_and_resumes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, moment: str, step: int, saved: int, number: int, every: int
) -> None:
    monkeypatch.setattr("tofro.batches.datamodules.EVALUATION_BATCH", 16)  # two batches an evaluation
    whole = bench.two_way(BUDGET, weight=0.5)
    bench.fit(whole, BUDGET, "whole")
    before = [signal.getsignal(each) for each in SIGNALS]
    with pytest.raises(Stopped, match="the same command resumes") as stopped:
        bench.fit(bench.two_way(BUDGET, weight=0.5), BUDGET, "broken", every, (Send(moment, step, number),))
    assert stopped.value.code == (130 if number == signal.SIGINT else 143)
    assert stopped.value.number == number
    assert [signal.getsignal(each) for each in SIGNALS] == before
    newest = checkpoint_io.newest_intact(bench.folder / "broken" / "checkpoints")
    assert newest is not None
    assert newest.name == f"step-{saved:08d}"
    resumed = bench.two_way(BUDGET, weight=0.5)
    bench.fit(resumed, BUDGET, "broken", every)
    assert same_weights(whole, resumed)
    assert rows_of(bench.folder / "broken") == rows_of(bench.folder / "whole")


def test_a_second_interrupt_leaves_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even while a checkpoint is being written that will never be ready."""
    held: list[Any] = []
    monkeypatch.setattr(checkpoint_io, "write", lambda *what: held.append(what) or time.sleep(20))
    started = time.monotonic()
    with pytest.raises(Stopped) as stopped:
        bench.fit(bench.full(BUDGET), BUDGET, "broken", 3, (Send("step", 4, signal.SIGINT, signal.SIGINT),))
    assert stopped.value.at_once
    assert len(held) == 1
    assert time.monotonic() - started < 10
    assert noted() == 0


def test_outside_a_training_a_signal_is_obeyed_at_once() -> None:
    def prepare(number: int) -> None:
        with listening():
            os.kill(os.getpid(), number)
            time.sleep(5)

    for number in SIGNALS:
        with pytest.raises(Stopped) as stopped:
            prepare(number)
        assert stopped.value.number == number


def test_a_signal_that_nobody_answered_is_obeyed_when_the_training_ends() -> None:
    after: list[str] = []

    def train() -> None:
        with listening():
            with patiently():
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0)
                assert noted() == signal.SIGTERM
                after.append("the block goes on")
            after.append("never")

    with pytest.raises(Stopped):
        train()
    assert after == ["the block goes on"]


def test_a_failed_run_does_not_swallow_the_signal_for_the_next() -> None:
    def failing() -> None:
        with listening(), patiently():
            os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("a bug at the same moment")

    def study() -> None:
        with listening():
            with pytest.raises(RuntimeError, match="a bug"):
                failing()
            with listening():
                pytest.fail("the next run has begun")

    with pytest.raises(Stopped):
        study()


def test_a_loader_process_outlives_a_signal_to_all() -> None:
    assert mortal.process(deaf) == 0


def deaf() -> None:
    leave_signals_to_the_run()
    for number in SIGNALS:
        os.kill(os.getpid(), number)


Command = Callable[..., tuple[int | None, str]]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Return a function that carries out a command line in a process of its own: (exit code, what it wrote to standard error)."""

    def carry_out(words: list[str], *moment: Any) -> tuple[int | None, str]:
        code = mortal.process(mortal.command, words, tmp_path / "stderr", *moment)
        return code, (tmp_path / "stderr").read_text(encoding="utf-8")

    return carry_out


def test_the_command_exits_143_in_training_and_resumes_to_the_same_result(chain: Chain, tmp_path: Path, command: Command) -> None:
    words = ["run", *chain.base, chain.start(), "method=two_way", *LONG, f"outputs_dir={tmp_path}"]
    code, said = command(words, "before an update", 3, signal.SIGTERM)
    assert (code, said) == (143, "tofro: stopped by SIGTERM; the same command resumes\n")
    code, said = command(words, "measuring", -1, signal.SIGINT)  # the models are not saved yet: nothing waits for a step
    assert (code, said) == (130, "tofro: stopped by SIGINT; the same command resumes\n")
    code, said = command(words)
    assert code == 0, said
    expected = chain.runs["two_way"].folder
    assert_same(tmp_path / "runs" / expected.name, expected)


def test_a_study_and_a_multirun_start_no_further_run(chain: Chain, tmp_path: Path, command: Command) -> None:
    study = write(tmp_path, chain)
    code, said = command(["study", str(study)], "in an evaluation", 6, signal.SIGUSR1)
    assert (code, said.splitlines()[-1]) == (143, "tofro: stopped by SIGUSR1; the same command resumes")
    runs = tmp_path / "outputs" / "small_study"
    assert [path.name for path in runs.iterdir() if path.is_dir()] == [next(runs.glob("pretrain-*")).name]
    words = ["run", "-m", *chain.base, chain.start(), "method=full", "seed=0,1", *LONG, f"outputs_dir={tmp_path}"]
    code, said = command(words, "before a step", 2, signal.SIGTERM)
    assert (code, said.splitlines()[-1]) == (143, "tofro: stopped by SIGTERM; the same command resumes")
    assert len(list((tmp_path / "runs").iterdir())) == 1
