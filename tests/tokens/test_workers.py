"""Worker processes: order, failures, and none left behind."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

import numpy as np
import pytest

from tofro.tokens import workers
from tofro.tokens.pieces import Encoder
from tofro.tokens.settings import TokenizerSettings
from tofro.tokens.tokenizer import Tokenizer
from tofro.tokens.training import train_tokenizer


@dataclass
class Block:
    text: str


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TokenizerSettings(vocabulary=128, min_frequency=1), ["one two three four five six"] * 2)


@pytest.mark.parametrize("count", [0, 3, 4, 5, 6, 11])
def test_blocks_come_back_in_order(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(workers, "ALONE", 1)
    blocks = [Block(f"one {'two ' * (count - number)}\n{number}\n") for number in range(count)]
    encoder = Encoder(tokenizer)
    found = list(workers.encode_blocks(blocks, tokenizer, processes=2))
    assert [block for block, _ in found] == blocks
    for block, encoded in found:
        assert np.array_equal(encoded.ids, encoder.encode(block.text).ids)


def test_large_blocks_do_not_stop_each_other(tokenizer: Tokenizer) -> None:
    text = "one two three four five\n" * 40_000  # more than any pipe holds, both ways
    with workers.Workers(tokenizer, "tokenizer", 2) as team:
        for number in range(2):
            team.send(number, text)
        for number in range(2, 6):
            assert len(team.receive(number - 2).ids) == 200_000
            team.send(number, text)
        assert len(team.receive(4).lengths) == 40_000


def test_a_killed_worker_is_told(tokenizer: Tokenizer) -> None:
    with workers.Workers(tokenizer, "tokenizer", 1) as team:
        team.send(0, "one\n")
        team.receive(0)
        team.processes[0].send_signal(signal.SIGKILL)
        team.processes[0].wait()
        with pytest.raises(RuntimeError, match="ended with code -9"):
            team.receive(1)
        with pytest.raises(RuntimeError, match="ended with code -9"):
            team.send(1, "one\n")


def test_an_error_of_a_worker_is_raised_here(tokenizer: Tokenizer) -> None:
    with workers.Workers(tokenizer, "tokenizer", 1) as team:
        team.send(0, "\ud800\n")
        with pytest.raises((UnicodeEncodeError, TypeError)):
            team.receive(0)


def test_no_worker_stays(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    start = workers.Workers.__init__

    def noted(self: workers.Workers, tokenizer: Tokenizer, words: str, count: int) -> None:
        start(self, tokenizer, words, count)
        started.extend(process.pid for process in self.processes)

    monkeypatch.setattr(workers.Workers, "__init__", noted)
    monkeypatch.setattr(workers, "ALONE", 0)
    encoded = workers.encode_blocks([Block("one\n") for _ in range(9)], tokenizer, processes=2)
    next(encoded)
    encoded.close()
    assert len(started) == 2
    for pid in started:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
