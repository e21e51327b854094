"""Tokenising on all cores: blocks of text out to worker processes, their tokens back in order.

In: blocks and a tokenizer. Out: (block, :class:`~tofro.tokens.pieces.Encoded`) in the order of the blocks, at most one block a
worker in flight. The caller's process encodes the first blocks itself, so that a small corpus starts no process.

Why not a pool of the standard library: a worker here is a fresh interpreter at the end of a pipe, so that nothing of the
caller is copied or imported again (threads, a script without a main guard, a notebook) and none outlives it: when the caller
dies, by whatever signal, the pipe ends and so does the worker.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from itertools import chain, islice
from multiprocessing.connection import Connection, Pipe
from types import TracebackType
from typing import Protocol, TypeVar

from tofro.tokens.pieces import Encoded, Encoder
from tofro.tokens.tokenizer import Tokenizer

ALONE = 4  # blocks that the caller encodes before it starts workers, which takes about as long
MOST = 16  # workers; reading the text keeps no more busy


class Block(Protocol):
    """What is encoded: a block has a text, and may carry more for its owner."""

    @property
    def text(self) -> str:
        """Sentences, each ended by a line break."""


B = TypeVar("B", bound=Block)


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def encode_blocks(
    blocks: Iterable[B], tokenizer: Tokenizer, words: str = "tokenizer", processes: int | None = None
) -> Generator[tuple[B, Encoded], None, None]:
    """Yield every block with its tokens, in order. ``processes`` is the number of workers; None: one a core that may be used.

    With one process nothing is started. Raises what encoding raises; RuntimeError where a worker is killed.
    """
    processes = min(usable_cores(), MOST) if processes is None else processes
    blocks = iter(blocks)
    encoder = Encoder(tokenizer, words)
    for block in islice(blocks, ALONE if processes > 1 else None):
        yield block, encoder.encode(block.text)
    del encoder
    further = next(blocks, None)
    if further is not None:
        yield from _share_out(chain([further], blocks), tokenizer, words, processes)


def _share_out(blocks: Iterator[B], tokenizer: Tokenizer, words: str, processes: int) -> Iterator[tuple[B, Encoded]]:
    with Workers(tokenizer, words, processes) as workers:
        waiting: deque[B] = deque()
        for number, block in enumerate(blocks):
            # A worker gets its next block only after its last answer was taken, so neither waits for the other's full pipe.
            answer = (waiting.popleft(), workers.receive(number)) if len(waiting) == processes else None
            workers.send(number, block.text)
            waiting.append(block)
            if answer is not None:
                yield answer
        for last, block in enumerate(waiting, start=number + 1 - len(waiting)):
            yield block, workers.receive(last)


class Workers:
    """Worker processes; block ``number`` belongs to worker ``number`` modulo their count."""

    def __init__(self, tokenizer: Tokenizer, words: str, count: int) -> None:
        """Start them; what they know is the tokenizer and what a word is."""
        self.processes: list[subprocess.Popen[bytes]] = []
        self.pipes: list[Connection] = []
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "TOKENIZERS_PARALLELISM": "false",
        }
        program = "import sys; from tofro.tokens.workers import work; work(int(sys.argv[1]))"
        for _ in range(count):
            here, there = Pipe()
            with there:
                command = [sys.executable, "-c", program, str(there.fileno())]
                descriptors = [there.fileno()]
                process = subprocess.Popen(command, pass_fds=descriptors, env=environment, stdin=subprocess.DEVNULL)  # noqa: S603
            self.processes.append(process)
            self.pipes.append(here)
            here.send((tokenizer.backend.to_str(), tokenizer.lowercase, tokenizer.specials, words))

    def send(self, number: int, text: str) -> None:
        """Give a block to its worker."""
        try:
            self.pipes[number % len(self.pipes)].send(text)
        except OSError:
            self._mourn(number)

    def receive(self, number: int) -> Encoded:
        """Return the tokens of a block, once they are there."""
        try:
            answer = self.pipes[number % len(self.pipes)].recv()
        except (EOFError, OSError):
            self._mourn(number)
        if isinstance(answer, BaseException):
            raise answer
        assert isinstance(answer, Encoded)
        return answer

    def _mourn(self, number: int) -> None:
        code = self.processes[number % len(self.processes)].wait()
        raise RuntimeError(f"a tokenising process ended with code {code}; was it killed for want of memory?") from None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            if kind is not None:
                process.kill()
            process.wait()


def work(descriptor: int) -> None:
    """Encode what comes through the pipe until it ends: the life of a worker."""
    import tokenizers

    with Connection(descriptor) as pipe:
        try:
            layout, lowercase, specials, words = pipe.recv()
            encoder = Encoder(Tokenizer(tokenizers.Tokenizer.from_str(layout), lowercase, specials), words)
            while True:
                pipe.send(encoder.encode(pipe.recv()))
        except (EOFError, OSError, KeyboardInterrupt):
            return
        except Exception as error:  # the caller raises it
            pipe.send(error)
