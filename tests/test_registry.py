"""The registry of tasks: every preset composes with its published metric, and reads the same task from local files."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tofro.cli import MISTAKE, main
from tofro.config import compose as composing
from tofro.config.build import build
from tofro.config.compose import compose
from tofro.text.task import METRICS

METRIC = {  # the published one, as auto or by name resolved
    **dict.fromkeys(("sst2", "mnli", "qnli", "rte", "wnli", "snli", "ag_news", "trec", "sst2_sentences", "sst5"), "auto"),
    **dict.fromkeys(("tnews", "iflytek", "afqmc", "cmnli", "ocnli", "csl", "wsc", "chnsenticorp"), "auto"),
    **dict.fromkeys(("mrpc", "qqp"), "f1"),
    **dict.fromkeys(("wnut17", "conll2003"), "entity_f1"),
    "cola": "matthews",
    "stsb": "spearman",
}
PRESENT = {  # folders of ../shared, rows to train on, the metric as it is resolved
    "sst2_sentences": ("sst2_sentences", 6920, "accuracy"),
    "mrpc": ("mrpc", 3668, "f1"),
    "rte": ("rte", 2490 - 261, "accuracy"),  # its test has no labels, so a validation split is carved
    "stsb": ("stsb", 5749, "spearman"),
    "trec": ("trec", 4952, "accuracy"),
    "wnut17": ("wnut17", 3394, "entity_f1"),
    "chnsenticorp": ("chnsenticorp", 9600, "accuracy"),
    "cola": ("cola", None, "matthews"),
    "ag_news": ("ag_news", 14792, "accuracy"),
    "snli": ("snli_subset", 19996, "accuracy"),
    "sst2": ("sst2", 67349, "accuracy"),
    "tnews": ("tnews", None, "accuracy"),
}
LARGE = ("ag_news", "snli", "sst2", "tnews")


def presets() -> list[str]:
    names = sorted(path.stem for path in (composing.conf_folder() / "task").glob("*.yaml"))
    return [name for name in names if not name.startswith("pydoc_") and name not in ("file", "hub")]


def test_every_preset_is_known_here() -> None:
    assert presets() == sorted(METRIC)


@pytest.mark.parametrize("name", METRIC)
def test_a_preset_names_its_dataset_and_metric(name: str) -> None:
    text = (composing.conf_folder() / "task" / f"{name}.yaml").read_text(encoding="utf-8")
    task, first = yaml.safe_load(text), text.partition("defaults")[0]  # that it composes is tested in tests/config
    assert task["name"] == name
    assert task["dataset"]
    metric = task.get("metric", "auto")
    assert metric == METRIC[name]
    assert metric == "auto" or any(metric in metrics for metrics in METRICS.values())
    assert "task.path=" in first


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in PRESENT])
def test_a_preset_reads_local_files(shared: Path, name: str) -> None:
    folder, train, metric = PRESENT[name]
    task = build(compose([f"task={name}", f"task.path={shared / 'tasks' / folder}"]).task)
    assert (task.name, task.metric) == (name, metric)
    if train is not None:
        assert abs(len(task.splits["train"]) - train) <= (80 if name == "rte" else 0)
    if name == "mrpc":
        assert task.labels == ("not_equivalent", "equivalent")  # F1 is of the last
    if name in ("mrpc", "trec"):
        plain = build(compose(["task=file", f"task.path={shared / 'tasks' / folder}"]).task)
        assert plain.splits == task.splits


def test_a_task_by_name_without_a_network_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("datasets", reason="needs the extra hub")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    assert main(["inspect", "mrpc"]) == MISTAKE
    err = capsys.readouterr().err
    assert err.startswith("tofro: task.dataset=nyu-mll/glue: can't be fetched or read")
    assert "task.path=FOLDER with train, validation and test files, columns text_a, text_b and label" in err
    assert "Traceback" not in err
