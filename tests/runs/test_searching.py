from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.runs.conftest import PROMPT, Chain, carry_out
from tofro.cli import main
from tofro.config.compose import compose
from tofro.config.errors import ConfigError
from tofro.runs.context import Context
from tofro.runs.diagnosis import diagnose, occurrences
from tofro.runs.searching import Asked, Journal, asked, overrides
from tofro.runs.using import scorer_of
from tofro.text.task import Example
from tofro.tokens.cloze import LabelWord

SEARCH = ["method=prompt", "prompt=search", "prompt.shots=4", "prompt.patterns=['{text_a} It was [MASK].','[MASK]: {text_a}']"]


class TrainingAlone(Mapping[str, list[Example]]):
    """Splits of which only one may be touched."""

    def __init__(self, train: list[Example]) -> None:
        self.train = train

    def __getitem__(self, split: str) -> list[Example]:
        assert split == "train", f"{split} was looked at"
        return self.train

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("all splits were looked at")

    def __len__(self) -> int:
        return 3


def search(chain: Chain, folder: Path, *more: str) -> tuple[Context, Asked]:
    """Search in ``folder``, with a task that forbids all but its training rows."""
    folder.mkdir(exist_ok=True)
    context = Context(compose([*chain.base, chain.start(), *SEARCH, *more]), folder)
    task = replace(context.task, splits=TrainingAlone(context.task.splits["train"]))
    found = asked(context, context.start.model, task)
    diagnose(context, found.scorer, task)
    return context, found


def test_neither_search_nor_diagnosis_looks_at_validation_or_test(chain: Chain, tmp_path: Path) -> None:
    context, found = search(chain, tmp_path / "one")
    assert "8 training rows" in found.notes[0]
    assert not (tmp_path / "one" / "prompt.part").exists()
    assert context.task.labels == tuple(found.scorer.settings.words)


def test_a_killed_search_ends_as_an_undisturbed_one(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search(chain, tmp_path / "one")
    record = Journal.record

    def dying(self: Journal, name: str, value: object) -> None:
        record(self, name, value)
        if len(name) and self.waiting == 6:
            self.file.write(b'{"name": "torn')
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "record", dying)
    with pytest.raises(KeyboardInterrupt):
        search(chain, tmp_path / "other")
    monkeypatch.setattr(Journal, "record", record)
    search(chain, tmp_path / "other")
    for name in ("search.jsonl", "prompt.yaml", "prompt.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes(), name


def test_the_found_prompt_is_a_preset(chain: Chain, tmp_path: Path) -> None:
    context, found = search(chain, tmp_path / "one")
    lines = (tmp_path / "one" / "prompt.yaml").read_text(encoding="utf-8").splitlines()
    command = next(line for line in lines if line.startswith("# prompt._target_")).removeprefix("# ")
    config = compose([*chain.base, chain.start(), "method=prompt", *shlex.split(command)])
    again = scorer_of(Context(config, tmp_path), context.start.model, context.task)
    rows = context.task.splits["train"][:8]
    assert torch.equal(again.score(rows), found.scorer.score(rows))


def test_overrides_say_what_they_are_made_from() -> None:
    preset = {
        "_target_": "tofro.modules.prompting.ClozeScorer",
        "templates": ['"{text_a}", they say: [MASK]!', "{text_a}。总之很[MASK]。"],
        "words": {"Sci/Tech": ["yes", "no"], "a: b, c": ["好"], "two words": ["null"]},
        "calibration": "none",
    }
    prompt = compose(["method=prompt", *overrides(preset)]).prompt
    assert {name: prompt[name] for name in preset} == preset


def test_other_rows_need_another_journal(chain: Chain, tmp_path: Path) -> None:
    search(chain, tmp_path / "one")
    with pytest.raises(ValueError, match="written for other training rows"):
        search(chain, tmp_path / "one", "prompt.draw=1")


def test_a_run_searches_scores_and_says_so(chain: Chain) -> None:
    result = carry_out([*chain.base, chain.start(), *SEARCH])
    assert {"validation/accuracy_pre", "test/accuracy_pre"} <= set(result.metrics)
    assert sum(note.startswith("prompt=search: ") for note in result.data["notes"]) == 2
    assert {"prompt.yaml", "prompt.json", "search.jsonl"} <= {path.name for path in result.folder.iterdir()}
    assert carry_out([*chain.base, chain.start(), *SEARCH]).reused


def test_too_few_rows_and_other_methods_are_refused_by_key(chain: Chain) -> None:
    with pytest.raises(ValueError, match=r"prompt.shots=500: task has"):
        carry_out([*chain.base, chain.start(), *SEARCH, "prompt.shots=500"])
    with pytest.raises(ConfigError, match=r"prompt.budget"):
        compose([*SEARCH, "prompt.budget=0"])
    with pytest.raises(ValueError, match=r"prompt=search goes with method=prompt"):
        carry_out([*chain.base, chain.start(), "method=full", "prompt=search"])


def test_rare_label_words_are_noted_and_fills_are_probabilities(chain: Chain) -> None:
    result = chain.runs["prompt"]
    found = json.loads((result.folder / "prompt.json").read_text(encoding="utf-8"))
    counts = {word["word"]: word["occurrences"] for word in found["words"]}
    text = Path(next(each for each in chain.base if each.startswith("corpus.path=")).partition("=")[2]).read_text(
        encoding="utf-8"
    )
    assert found["corpus"] == "corpus"
    assert 0 < counts["bright"] <= text.count(" bright ")  # the validation documents are not in it
    fills = found["templates"][0]["fills"][0]
    assert list(fills.values()) == sorted(fills.values(), reverse=True)
    assert 0 < sum(fills.values()) <= 1.001
    for word, count in counts.items():
        assert (count < 100) == any("fewer than 100 times" in note and word in note for note in result.data["notes"])


def test_inspecting_a_prompt_s_run_shows_blanks_and_words(chain: Chain, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(chain.runs["prompt"].folder)]) == 0
    shown = capsys.readouterr().out
    assert "{text_a} It is [MASK]." in shown
    assert "occurrences in pretraining" in shown
    assert "rare" in shown


def test_a_foreign_folder_has_no_corpus(chain: Chain, tmp_path: Path) -> None:
    shutil.copytree(chain.runs["pretrain"].folder / "models" / "pre", tmp_path / "foreign")
    context = Context(compose([*chain.base, f"init_from={tmp_path / 'foreign'}", *PROMPT]), tmp_path)
    notes = diagnose(context, scorer_of(context, context.start.model, context.task), context.task)
    assert notes == ["how often pretraining met the label words is not known: init_from comes from no pretraining of tofro"]


def test_occurrences_are_whole_words() -> None:
    class Store:
        ids = np.array([5, 6, 5, 7, 5, 6, 6, 5])
        word_starts = np.array([True, False, True, True, True, False, False, True])

    words = [LabelWord(0, "", np.array(ids)) for ids in ([5], [5, 6], [5, 6, 6], [6], [7, 5])]
    assert occurrences(Store(), words) == [2, 1, 1, 0, 0]  # type: ignore[arg-type]
