"""What users get wrong: exit code 2, one message that names the file and line or the key, and nothing left behind."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runs.conftest import PROMPT, Chain, carry_out
from tofro.cli import MISTAKE, main

Make = Callable[[Path, Chain], list[str]]

GOOD_ROWS = [{"text": f"{number} words here", "label": "ab"[number % 2]} for number in range(40)]


TEXT = b"".join(b"Document %d begins here.\nIt says %d.\n\n" % (number, number * 7919 % 1000) for number in range(300))


def _on(name: str, content: bytes) -> Make:
    def make(folder: Path, chain: Chain) -> list[str]:
        (folder / name).write_bytes(content)
        return ["method=pretrain", "budget.steps=2", f"corpus.path={folder / name}"]

    return make


def corpus(content: bytes) -> Make:
    """Return a pretraining on a corpus file of these bytes."""
    return _on("corpus.txt", content)


def packed(content: bytes) -> Make:
    """Return a pretraining on a packed corpus file of these bytes."""
    return _on("corpus.txt.gz", content)


def rows(content: bytes) -> Make:
    """Return a pretraining on JSON lines of these bytes."""
    return _on("corpus.jsonl", content)


def task(*more: str, **splits: list[dict[str, Any]] | bytes) -> Make:
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
    "a corpus of documents of one sentence": (
        corpus(b"".join(b"Document %d is one sentence.\n\n" % number for number in range(300))),
        ["corpus", "no document has two sentences", "objective=mlm"],
    ),
    "invalid UTF-8 far into a corpus": (corpus(TEXT + b"Caf\xe9.\n"), ["corpus.txt:901", "UTF-8"]),
    "a NUL byte far into a corpus": (corpus(TEXT + b"One.\0\n"), ["corpus.txt:901", "NUL"]),
    "a corpus whose gzip was cut off": (packed(gzip.compress(TEXT, 1)[:-300]), ["corpus.txt.gz:", "ends too early"]),
    "rows of another column": (rows(b'{"body": "One. Two."}\n'), ["corpus.jsonl:1", "corpus.text", "'body'"]),
    "a glob that matches nothing": (
        flags("method=pretrain", "corpus.path=/no/*.txt", from_pre=False),
        ["/no/*.txt", "no file matches"],
    ),
    "a dataset without a name": (
        flags("method=pretrain", "corpus=hub", "corpus.path=null", from_pre=False),
        ["corpus.dataset", "corpus.path"],
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
    "machines without a launcher": (flags("method=full", "trainer.num_nodes=2"), ["trainer.num_nodes=2", "torchrun"]),
    "more layers than the encoder has": (flags("method=partial", "tuning=top_k", "tuning.k=3"), ["tuning.k", "2"]),
    "a weight below zero": (flags("method=two_way", "alignment.weight=-0.1"), ["alignment.weight", "-0.1", "at least 0"]),
    "an aligned layer that is not there": (
        flags("method=two_way", "alignment.layers=[-3]"),
        ["alignment.layers=[-3]", "-1", "-2"],
    ),
    "replay without a corpus": (
        flags("method=two_way", "regularizer=replay", "corpus=text", "corpus.path=null"),
        ["corpus.path is not set", "corpus.path=..."],
    ),
    "a label with one example under supcon": (
        task(
            *("method=two_way", "alignment=supcon"),
            train=[*GOOD_ROWS, {"text": "Neither.", "label": "c"}],
            validation=GOOD_ROWS[:6],
            test=GOOD_ROWS[:6],
        ),
        ["alignment.least_per_class=2", "'c'", "alignment=infonce"],
    ),
    "scores under supcon": (
        task("method=two_way", "alignment=supcon", train=[{**row, "label": n + 0.5} for n, row in enumerate(GOOD_ROWS)]),
        ["alignment=supcon", "scores", "alignment=infonce"],
    ),
    "a contrast with one row": (
        flags("method=two_way", "budget.batch=2", "budget.accumulate=2"),
        ["alignment=infonce", "budget.batch"],
    ),
}


def asked(*words: str) -> Make:
    """Return a prompt from the pretrained model with a mistake in it."""
    return flags(*PROMPT, *words)


PROMPTS: dict[str, tuple[Make, list[str]]] = {
    "a label word of unknown characters": (
        asked('prompt.words={good: [bright, "☃"], bad: [cold]}'),
        ["prompt.words.good[1]", "'☃'", "does not know"],
    ),
    "a label with an empty list": (asked("prompt.words={good: [bright], bad: []}"), ["prompt.words.bad", "has no word"]),
    "a word for two labels": (
        asked("prompt.words={good: [bright], bad: [cold, Bright]}"),
        ["prompt.words.good[0]", "'bright' is the same word", "prompt.words.bad[1]"],
    ),
    "a word for no label": (
        asked("prompt.words={good: [bright], bad: [cold], ugly: [harsh]}"),
        ["prompt.words.ugly", "bad, good"],
    ),
    "no template": (asked("prompt.templates=[]"), ["prompt.templates is empty"]),
    "a template that is not there": (asked("prompt.template=1"), ["prompt.template=1", "out of range"]),
    "a template without a mask": (asked('prompt.templates=["{text_a} It is so."]'), ["prompt.templates[0]", "[MASK]"]),
    "a template without the text": (asked('prompt.templates=["It is [MASK]."]'), ["prompt.templates[0]", "{text_a}"]),
    "a field that the task lacks": (
        asked('prompt.templates=["{text_a} [MASK] {text_b}"]'),
        ["prompt.templates[0]", "{text_b} is not a placeholder", "{text_a}"],
    ),
    "a brace without its fellow": (asked('prompt.templates=["{text_a [MASK]"]'), ["prompt.templates[0]", "brace"]),
    "a template that leaves no room for mask and text": (
        asked('prompt.templates=["{text_a} ' + "the river finds " * 10 + '[MASK]."]'),
        ["prompt.templates[0]", "task.max_length=32", "no room"],
    ),
    "words that do not fit several masks": (
        asked('prompt.templates=["{text_a} [MASK][MASK]"]', "prompt.words={good: [bright], bad: [the the]}"),
        ["prompt.words.good[0]", "2 masks of prompt.templates[0]"],
    ),
    "the second template of an ensemble": (
        asked("prompt.template=null", 'prompt.templates=["{text_a} is [MASK].", "{text_a}"]'),
        ["prompt.templates[1]", "[MASK]"],
    ),
    "a template twice in an ensemble": (
        asked("prompt.template=null", 'prompt.templates=["{text_a} is [MASK].", "{text_a} is [MASK]."]'),
        ["prompt.templates[1] repeats prompt.templates[0]"],
    ),
    "a calibration that is not there": (asked("prompt.calibration=mean"), ["prompt.calibration", "pmi"]),
    "a prompt for scores": (
        task(*PROMPT, train=[{**row, "label": number + 0.5} for number, row in enumerate(GOOD_ROWS)]),
        ["prompt.words", "classification"],
    ),
    "a statement without a word": (
        asked("prompt._target_=tofro.modules.prompting.PairScorer"),
        ["prompt.templates[0]", "{word}"],
    ),
}


@pytest.mark.parametrize("case", [*CASES, *PROMPTS])
def test_a_mistake_is_named_and_leaves_nothing(
    case: str, chain: Chain, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make, said = (CASES | PROMPTS)[case]
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


def test_what_is_cut_or_dropped_is_counted_and_the_run_goes_on(chain: Chain, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    long = b" ".join(b"word%d" % number for number in range(30_000))
    odd = long + b"\nIts end.\n\n\xef\xbf\xbd\nA sentence beside one without a token.\nAnother one.\n\nA single one.\n\n"
    (data / "train.txt").write_bytes((TEXT + odd) * 2)
    (data / "validation.txt").write_bytes(TEXT)
    words = [*chain.base, "method=pretrain", "budget.steps=2", f"corpus.path={data}", f"outputs_dir={tmp_path / 'outputs'}"]
    notes = carry_out(words).data["notes"]
    for said in (
        "2 sentences without a token were dropped",
        "2 lines longer than 262,144 characters were cut into parts",
        "2 documents of one sentence made no pair",
    ):
        assert f"data (train): {said}" in notes
    assert any("sentences longer than a sequence were read in windows" in note for note in notes)
    assert carry_out([*words, "seed=1"]).data["notes"] == notes  # from the store that is there


@pytest.mark.parametrize("damage", ["cut", "gone", "meta"])
def test_a_damaged_store_is_named(chain: Chain, tmp_path: Path, capfd: pytest.CaptureFixture[str], damage: str) -> None:
    words = [*chain.base, f"outputs_dir={tmp_path}", "method=pretrain", "budget.steps=2"]
    assert main(["run", *words]) == 0
    (folder,) = (tmp_path / "cache" / "stores").glob("*-train-*")
    name = "meta.json" if damage == "meta" else "ids.bin"
    if damage == "cut":
        (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    else:
        (folder / name).unlink()
    capfd.readouterr()
    assert main(["run", *words, "seed=1"]) == MISTAKE
    err = capfd.readouterr().err
    assert folder.name in err
    assert name in err
    assert "delete the folder to build it anew" in err
    shutil.rmtree(folder)
    assert main(["run", *words, "seed=1"]) == 0
