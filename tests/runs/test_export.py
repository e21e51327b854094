"""``tofro export``: a folder that opens elsewhere, and a card that says what is known, no more, and nothing private."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tofro
from tests.runs.conftest import Chain
from tofro.cli import DONE, MISTAKE, main
from tofro.reports.statistics import SMALLEST_PAIRS, paired_t_interval

SECRET = "hf_abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def run(chain: Chain, tmp_path: Path) -> Path:
    """A copy of a two-way run, so that its result can be changed."""
    folder = tmp_path / "home" / "ada" / "outputs" / "runs" / chain.runs["two_way"].folder.name
    shutil.copytree(chain.runs["two_way"].folder, folder)
    return folder


def change(run: Path, **entries: Any) -> dict[str, Any]:
    path = run / "result.json"
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) | entries
    path.write_text(json.dumps(result), encoding="utf-8")
    return result


def test_the_folder_opens_and_answers_as_the_run_does(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transformers = pytest.importorskip("transformers")
    out = tmp_path / "new" / "model"
    assert main(["export", str(run), str(out)]) == DONE
    assert "the model ft" in capsys.readouterr().out
    texts = ["The bright river.", "A cold engine leaves."]
    before, after = tofro.load(run), tofro.load(out)
    np.testing.assert_array_equal(before.encode(texts), after.encode(texts))
    assert [each.label for each in before.predict(texts)] == [each.label for each in after.predict(texts)]
    assert transformers.AutoModelForSequenceClassification.from_pretrained(out).config.id2label == {0: "bad", 1: "good"}
    assert main(["export", str(run), str(tmp_path / "pre"), "--model", "pre"]) == DONE
    transformers.AutoModelForPreTraining.from_pretrained(tmp_path / "pre")
    card = (tmp_path / "pre" / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: fill-mask" in card
    assert "/mlm_loss_pre |" in card
    assert "accuracy_ft" not in card


def test_the_card_says_what_the_run_knows(run: Path, tmp_path: Path) -> None:
    result = change(run)
    main(["export", str(run), str(tmp_path / "out")])
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\n# license: to be filled in")
    for said in (
        result["data"]["task"],
        result["id"],
        f"| {100 * result['metrics']['test/accuracy_ft']:.1f} |",
        "One run (seed 0), so there is no interval",
        "test/accuracy_majority",
        "seconds of training",
        "FLOPs",
        f"torch {result['versions']['torch']}",
        "tofro run corpus=text corpus.path=corpus.txt",
        "labels: bad, good",
        "## Licence",
        "class: `BertForSequenceClassification`",
        f"started from `init_from`: {result['lineage']['init_from']}",
    ):
        assert said in card, said


def test_runs_of_other_seeds_give_an_interval(run: Path, tmp_path: Path) -> None:
    result = change(run)
    values = [result["metrics"]["test/accuracy_ft"]]

    def sibling(seed: int, name: str, **entries: Any) -> None:
        folder = run.parent / name
        folder.mkdir()
        metrics = result["metrics"] | {"test/accuracy_ft": 0.5 + seed / 100}
        changed = result | {"seed": seed, "metrics": metrics, "config": result["config"] | {"seed": seed}} | entries
        (folder / "result.json").write_text(json.dumps(changed), encoding="utf-8")

    for seed in (1, 2):
        sibling(seed, f"two_way-task-s{seed}-0000000{seed}")
        values.append(0.5 + seed / 100)
    sibling(9, "other", config=result["config"] | {"seed": 9, "alignment.weight": 0.7})
    (run.parent / "broken").mkdir()
    (run.parent / "broken" / "result.json").write_text("{", encoding="utf-8")
    main(["export", str(run), str(tmp_path / "few")])
    card = (tmp_path / "few" / "README.md").read_text(encoding="utf-8")
    assert "3 runs differ in their seed alone (seeds 0, 1, 2); this model is that of seed 0." in card
    assert "too few for an interval" in card
    assert f"{100 * min(values):.1f} to {100 * max(values):.1f}" in card
    for seed in range(3, SMALLEST_PAIRS):
        sibling(seed, f"two_way-task-s{seed}-0000000{seed}")
        values.append(0.5 + seed / 100)
    main(["export", str(run), str(tmp_path / "many")])
    card = (tmp_path / "many" / "README.md").read_text(encoding="utf-8")
    interval = paired_t_interval(values)
    assert f"{100 * interval.low:.1f} to {100 * interval.high:.1f}" in card
    assert f"| {100 * np.mean(values):.1f} |" in card


def test_nothing_private_is_in_the_folder(run: Path, tmp_path: Path) -> None:
    command = f"tofro run task.path=/home/ada/x/task.jsonl outputs_dir={tmp_path} logger.key={SECRET} my.password=hush seed=0"
    change(run, command=command, notes=[f"read /home/ada/x/notes.txt with {SECRET}", "a <script>alert(1)</script> | note"])
    (run / "models" / "ft" / ".hidden").write_text(SECRET)
    main(["export", str(run), str(tmp_path / "out")])
    for path in filter(Path.is_file, (tmp_path / "out").rglob("*")):
        raw = path.read_bytes()
        for private in (SECRET, "hush", "/home/ada", str(tmp_path)):
            assert private.encode() not in raw, path.name
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "tofro run task.path=task.jsonl 'my.password=***' seed=0" in card
    assert "notes.txt" in card


def test_mistakes_are_named_and_leave_nothing(
    chain: Chain, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "something").touch()
    pretrain = str(chain.runs["pretrain"].folder)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    for words, said in (
        ([str(run), str(full)], "is there and not empty"),
        ([str(run), str(full / "something")], "is there and not empty"),
        ([str(tmp_path / "gone"), str(tmp_path / "out")], "no such folder"),
        ([str(unfinished), str(tmp_path / "out")], "no finished run"),
        ([pretrain, str(tmp_path / "out"), "--model", "ft"], "has no models/ft; it has models/pre"),
        ([str(chain.runs["prompt"].folder), str(tmp_path / "out")], "keeps no model"),
    ):
        assert main(["export", *words]) == MISTAKE
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    (tmp_path / "empty").mkdir()
    assert main(["export", str(run), str(tmp_path / "empty")]) == DONE
