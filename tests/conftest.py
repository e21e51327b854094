"""Shared by all tests: no network, a cache of its own, and a small world of text to train on."""

from __future__ import annotations

import json
import os
import random
import socket
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side; tiny matrices gain nothing from threads

LOCAL = ("127.0.0.1", "::1", "localhost")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that leaves the machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX and not (isinstance(address, tuple) and address[0] in LOCAL):
            raise RuntimeError(f"a test tried to reach {address}; tests never touch the network")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real corpora and tasks beside the checkout; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder of real corpora, ../shared, is not on this machine")
    return folder


NOUNS = [
    *("river", "mountain", "engine", "garden", "letter", "window", "station", "market"),
    *("bridge", "doctor", "teacher", "forest", "island", "harbour", "machine"),
]
GOOD = ["bright", "gentle", "warm", "lovely", "clever"]
BAD = ["cold", "bitter", "broken", "gloomy", "harsh"]
VERBS = ["finds", "leaves", "watches", "follows", "repairs", "paints", "crosses", "remembers"]


def sentence(draw: random.Random, words: list[str]) -> str:
    """Return a sentence of a small grammar."""
    first, second, third = draw.choices(NOUNS, k=3)
    return f"The {draw.choice(words)} {first} {draw.choice(VERBS)} the {second} near the {third}."


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``corpus.txt`` (documents of one mood) and ``task.jsonl`` (which mood?), the same at every call."""
    folder = tmp_path_factory.mktemp("world")
    draw = random.Random(7)
    documents = []
    for number in range(80):
        mood = GOOD if number % 2 else BAD
        documents.append("\n".join(sentence(draw, mood) for _ in range(draw.randint(6, 14))))
    (folder / "corpus.txt").write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    rows = []
    for number in range(240):
        label = "good" if number % 2 else "bad"
        rows.append({"text": f"{number} " + sentence(draw, GOOD if label == "good" else BAD), "label": label})
    (folder / "task.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@pytest.fixture
def small(world: Path, tmp_path: Path) -> list[str]:
    """Overrides of a run that takes a second, with an outputs_dir of the test's own."""
    return small_run(world, tmp_path / "outputs")


def small_run(world: Path, outputs: Path) -> list[str]:
    """Return the overrides of a two-layer encoder of width 32 on the small world."""
    return [
        "corpus=text",
        f"corpus.path={world / 'corpus.txt'}",
        "corpus.validation_share=0.2",
        "task=file",
        f"task.path={world / 'task.jsonl'}",
        "task.max_length=32",
        "tokenizer.vocabulary=192",
        "encoder.layers=2",
        "encoder.width=32",
        "encoder.heads=2",
        "encoder.intermediate=64",
        "encoder.max_positions=64",
        "objective.length=48",
        "budget.batch=8",
        "method.probes=[]",
        "trainer.progress=false",
        "trainer.accelerator=cpu",
        f"outputs_dir={outputs}",
    ]
