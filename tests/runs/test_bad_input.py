"""What users get wrong: exit code 2, one message that names the file and line or the key, and nothing left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runs.conftest import PROMPT, Chain
from tofro.cli import MISTAKE, main

Make = Callable[[Path, Chain], list[str]]

GOOD_ROWS = [{"text": f"{number} words here", "label": "ab"[number % 2]} for number in range(40)]


def corpus(content: bytes) -> Make:
    """Return a pretraining on a corpus file of these bytes."""

    def make(folder: Path, chain: Chain) -> list[str]:
        (folder / "corpus.txt").write_bytes(content)
        return ["method=pretrain", "budget.steps=2", f"corpus.path={folder / 'corpus.txt'}"]

    return make


def task(*more: str, **splits: list[dict[str, str]] | bytes) -> Make:
    """Return a fine-tuning on a folder of splits, given as rows or as bytes."""

    def make(folder: Path, chain: Chain) -> list[str]:
        for name, rows in splits.items():
            content = rows if isinstance(rows, bytes) else "".join(json.dumps(row) + "\n" for row in rows).encode()
            (folder / f"{name}.jsonl").write_bytes(content)
        return ["method=full", "budget.steps=2", chain.start(), f"task.path={folder}", *more]

    return make


def start(change: Callable[[Path], None]) -> Make:
    """Return a fine-tuning that starts from a model folder that has been damaged."""

    def make(folder: Path, chain: Chain) -> list[str]:
        model = folder / "model"
        shutil.copytree(chain.runs["pretrain"].folder / "models" / "pre", model)
        change(model)
        return ["method=full", "budget.steps=2", f"init_from={model}"]

    return make


def grow_tokenizer(model: Path) -> None:
    """Add more tokens than the embedding has rows."""
    path = model / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"]["vocab"] |= {f"new{number}": number for number in range(len(content["model"]["vocab"]), 400)}
    path.write_text(json.dumps(content), encoding="utf-8")


def flags(*words: str, from_pre: bool = True) -> Make:
    """Return a run on the small world with further overrides."""
    return lambda folder, chain: [*words, *([chain.start()] if from_pre else [])]


CASES: dict[str, tuple[Make, list[str]]] = {
    "a missing corpus file": (
        flags("method=pretrain", "corpus.path=/no/such.txt", from_pre=False),
        ["/no/such.txt", "no such file"],
    ),
    "a missing task file": (flags("method=full", "task.path=/no/such.jsonl"), ["/no/such.jsonl", "no such file"]),
    "an empty corpus": (corpus(b""), ["corpus.txt", "empty"]),
    "a corpus of blank lines": (corpus(b"\n \n\n"), ["corpus.txt"]),
    "a corpus too small for a batch": (
        corpus(b"One short line.\nAnother one.\n\nA second text.\nIts end.\n\nThird.\nEnd.\n\nFourth one.\nEnd.\n"),
        ["corpus", "batch"],
    ),
    "a corpus in the wrong encoding": (corpus("Ein Satz.\nNoch ein süßer Satz.\n".encode("latin-1")), ["corpus.txt:2", "UTF-8"]),
    "a task too small for a batch": (task("budget.batch=64", train=GOOD_ROWS), ["task", "batch"]),
    "a column that does not exist": (task("task.text_a=sentence", train=GOOD_ROWS), ["task.text_a", "sentence", "text"]),
    "a label column that does not exist": (task("task.label=gold", train=GOOD_ROWS), ["task.label", "gold"]),
    "a label unseen in training": (
        task(train=GOOD_ROWS, test=[*GOOD_ROWS[:6], {"text": "x", "label": "c"}]),
        ["test.jsonl:7", "'c'", "never occurs in training"],
    ),
    "a task of one class": (task(train=[{**row, "label": "a"} for row in GOOD_ROWS]), ["train.jsonl", "two labels"]),
    "a task in the wrong encoding": (
        task(train=b'{"text": "fine", "label": "a"}\n{"text": "s\xfc\xdf", "label": "b"}\n'),
        ["train.jsonl:2", "UTF-8"],
    ),
    "a malformed JSON line": (
        task(train=b'{"text": "fine", "label": "a"}\n{"text": "cut off", "lab\n'),
        ["train.jsonl:2", "JSON"],
    ),
    "an empty task file": (task(train=b""), ["train.jsonl"]),
    "a start that is not there": (flags("method=full", "init_from=/no/such/run", from_pre=False), ["init_from", "/no/such/run"]),
    "a model folder without weights": (
        start(lambda model: (model / "model.safetensors").unlink()),
        ["model.safetensors", "no weights"],
    ),
    "a model folder with damaged weights": (
        start(lambda model: (model / "model.safetensors").write_bytes(b"not weights")),
        ["model.safetensors", "damaged"],
    ),
    "a model folder without a tokenizer": (start(lambda model: [path.unlink() for path in model.glob("[tv]o*")]), ["tokenizer"]),
    "a tokenizer of another model": (start(grow_tokenizer), ["tokenizer.json", "400", "192", "belongs to another model"]),
    "a budget of zero": (flags("method=full", "budget.steps=0"), ["budget.steps", "at least 1"]),
    "a prompt to an untrained model": (
        flags(*PROMPT, from_pre=False),
        ["init_from", "prompt"],
    ),
    "a prompt without words": (flags("method=prompt"), ["prompt"]),
    "a label that the prompt has no word for": (flags(*PROMPT[:3], "prompt.words={good: [bright]}"), ["prompt.words", "bad"]),
    "sequences longer than positions": (flags("method=full", "task.max_length=128"), ["task.max_length=128", "64"]),
    "pretraining longer than positions": (
        flags("method=pretrain", "objective.length=128", from_pre=False),
        ["objective.length=128", "64"],
    ),
    "a batch that ranks can't share": (flags("method=full", "trainer.devices=3"), ["budget.batch=8", "trainer.devices=3"]),
    "a contrast over ranks": (flags("method=two_way", "trainer.devices=2"), ["infonce", "trainer.devices=1", "alignment=cosine"]),
    "machines without a launcher": (flags("method=full", "trainer.num_nodes=2"), ["trainer.num_nodes=2", "torchrun"]),
    "more layers than the encoder has": (flags("method=partial", "tuning=top_k", "tuning.k=3"), ["tuning.k", "2"]),
    "a contrast with one row": (
        flags("method=two_way", "budget.batch=2", "budget.accumulate=2"),
        ["alignment=infonce", "budget.batch"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_named_and_leaves_nothing(
    case: str, chain: Chain, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make, said = CASES[case]
    data, outputs = tmp_path / "data", tmp_path / "outputs"
    data.mkdir()
    code = main(["run", *chain.base, f"outputs_dir={outputs}", *make(data, chain)])
    out, err = capfd.readouterr()
    assert code == MISTAKE, err
    assert out == ""
    assert err.startswith("tofro: ")
    assert err.count("tofro: ") == 1
    assert len(err.splitlines()) <= 8
    assert "Traceback" not in err
    for part in said:
        assert part in err
    assert not list(outputs.glob("runs/*"))
    assert [path for path in outputs.rglob(".*") if path.name != ".lock"] == []
