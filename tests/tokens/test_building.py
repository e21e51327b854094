"""Building a store: kills, several processes, and what a damaged half is worth."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tofro.text.corpus import read_corpus
from tofro.text.settings import CorpusSettings
from tofro.tokens import building
from tofro.tokens.settings import TokenizerSettings
from tofro.tokens.store import TokenStore, open_store
from tofro.tokens.tokenizer import Tokenizer
from tofro.tokens.training import train_tokenizer

# A build in a process of its own, in small bites, that says what it is about to do. Settings come before it.
BUILD = """
import sys
from pathlib import Path
from typing import IO
from tofro.text.corpus import read_corpus
from tofro.text.settings import CorpusSettings
from tofro.tokens import building, workers
from tofro.tokens.store import open_store
from tofro.tokens.tokenizer import Tokenizer
building.BLOCK, building.SAVE_EVERY, workers.ALONE = 2000, 6000, 2
kill_at = int(sys.argv[2])
calls = 0
def counted(function):
    def call(*arguments, **named):
        global calls
        calls += 1
        if calls == kill_at:
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return call
for owner, name in ((building.os, "fsync"), (building._Writer, "add"), (building.Path, "rename"), (building.Path, "unlink")):
    setattr(owner, name, counted(getattr(owner, name)))
folder = Path(sys.argv[1])
corpus = read_corpus(CorpusSettings(name="c", path=str(folder / "c.txt")))
store = open_store(folder / sys.argv[3], corpus, "train", Tokenizer.load(folder / "tokenizer"))
print(calls)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus of 150 documents, a tokenizer, and in ``whole`` an undisturbed store."""
    folder = tmp_path_factory.mktemp("building")
    draw = random.Random(3)
    words = [f"word{number}" for number in range(300)]
    documents = ["\n".join(" ".join(draw.choices(words, k=9)) for _ in range(draw.randrange(1, 9))) for _ in range(150)]
    (folder / "c.txt").write_text("\n\n".join(documents))
    train_tokenizer(TokenizerSettings(vocabulary=256), documents).save(folder / "tokenizer")
    open_it(folder, "whole")
    return folder


def open_it(folder: Path, name: str) -> TokenStore:
    corpus = read_corpus(CorpusSettings(name="c", path=str(folder / "c.txt")))
    return open_store(folder / name, corpus, "train", Tokenizer.load(folder / "tokenizer"))


def build(folder: Path, name: str, kill_at: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BUILD, str(folder), str(kill_at), name]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TOFRO_CACHE": str(folder / "cache")})


def content(folder: Path) -> dict[str, bytes]:
    (store,) = folder.iterdir()
    return {path.name: path.read_bytes() for path in store.iterdir()}


@pytest.fixture(scope="module")
def calls(place: Path) -> int:
    """The number of moments at which BUILD can be killed."""
    count = int(build(place, "counted").stdout)
    assert content(place / "counted") == content(place / "whole")  # workers or not, the bytes are the same
    return count


@pytest.fixture(scope="module")
def half(place: Path, calls: int) -> Path:
    """The folder of a build that was killed late."""
    build(place, "half", calls - 12)
    return place / "half"


@pytest.mark.parametrize("moment", ["middle", "end", *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 11))])
def test_a_killed_build_goes_on_and_ends_with_the_same_bytes(place: Path, calls: int, moment: int | str) -> None:
    kill_at = {"middle": calls // 2, "end": calls - 1}.get(str(moment)) or 1 + calls * int(moment) // 10
    ended = build(place, f"at-{moment}", min(kill_at, calls))
    assert ended.returncode == -signal.SIGKILL
    assert open_it(place, f"at-{moment}").tokens
    assert content(place / f"at-{moment}") == content(place / "whole")


def test_what_was_saved_is_not_done_again(place: Path, half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(half, place / "saved")
    (scratch,) = (place / "saved").iterdir()
    saved = json.loads((scratch / "progress.json").read_text())
    assert 0 < saved["done"] < 150
    added: list[int] = []
    add = building._Writer.add

    def noted(self: building._Writer, block: building._Block, encoded: object) -> None:
        added.append(len(block.sizes))
        add(self, block, encoded)  # type: ignore[arg-type]

    monkeypatch.setattr(building._Writer, "add", noted)
    open_it(place, "saved")
    documents = sum(1 for _ in read_corpus(CorpusSettings(name="c", path=str(place / "c.txt"))).documents("train"))
    assert sum(added) == documents - saved["done"]
    assert content(place / "saved") == content(place / "whole")


@pytest.mark.parametrize("damage", ["cut file", "cut progress", "other text"])
def test_a_damaged_half_is_named_and_built_anew(place: Path, half: Path, damage: str) -> None:
    name = damage.replace(" ", "-")
    shutil.copytree(half, place / name)
    (scratch,) = (place / name).iterdir()
    progress = scratch / "progress.json"
    if damage == "cut file":
        (scratch / "ids.bin").write_bytes(b"")
    elif damage == "cut progress":
        progress.write_text(progress.read_text()[:-5])
    else:
        progress.write_text(progress.read_text().replace('"corpus": "', '"corpus": "0'))
    with pytest.warns(UserWarning, match=r"progress\.json: an unfinished token store"):
        open_it(place, name)
    assert content(place / name) == content(place / "whole")


def slow_build(folder: Path, started: multiprocessing.synchronize.Event) -> None:
    class Slow:
        name, fingerprint, words = "slow", "f", "tokenizer"

        def documents(self, split: str, reading: object = None) -> Iterator[list[str]]:
            with (folder / "reads").open("a") as reads:
                reads.write("r")
            started.set()
            for number in range(5):
                time.sleep(0.1)
                yield [f"word{number}"]

    store = open_store(folder / "stores", Slow(), "train", Tokenizer.load(folder / "tokenizer"))
    assert store.documents == 5


@pytest.mark.slow
def test_two_processes_share_one_build(place: Path) -> None:
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    team = [context.Process(target=slow_build, args=(place, started)) for _ in range(3)]
    for process in team:
        process.start()
        started.wait(60)
    for process in team:
        process.join(60)
    assert [process.exitcode for process in team] == [0, 0, 0]
    assert (place / "reads").read_text() == "r"
    assert len(list((place / "stores").iterdir())) == 1


@pytest.mark.slow
def test_a_waiting_process_takes_over_from_a_killed_one(place: Path) -> None:
    context = multiprocessing.get_context("spawn")
    (place / "reads").unlink(missing_ok=True)
    folder = place / "over"
    folder.mkdir()
    (folder / "tokenizer").symlink_to(place / "tokenizer")
    started = context.Event()
    first, second = (context.Process(target=slow_build, args=(folder, started)) for _ in range(2))
    first.start()
    started.wait(60)
    second.start()
    time.sleep(0.1)
    first.kill()
    second.join(60)
    assert second.exitcode == 0
    assert (folder / "reads").read_text() == "rr"


def test_a_build_that_comes_a_moment_late_takes_what_is_there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between looking for the store and making its folder, another process may finish it."""
    flock = building.fcntl.flock

    def finished_meanwhile(lock: IO[str], mode: int) -> None:
        flock(lock, mode)
        shutil.copytree(place / "whole", place / "late", dirs_exist_ok=True)

    monkeypatch.setattr(building.fcntl, "flock", finished_meanwhile)
    monkeypatch.setattr(building, "_fill", lambda *_: pytest.fail("built twice"))
    assert open_it(place, "late").tokens
    assert content(place / "late") == content(place / "whole")
