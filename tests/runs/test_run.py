"""A run: what its folder holds, that asking again computes nothing, that an interrupted one resumes, and where it starts from."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from tests.modules.conftest import same_weights
from tests.runs.conftest import ENSEMBLE, LONG, PROMPT, Chain, carry_out, hash_of, rows_of
from tofro import cli
from tofro.batches.labelled import task_batches
from tofro.config.compose import compose
from tofro.encoders.folder import load_model
from tofro.modules.two_way import TwoWay
from tofro.runs import methods, untrained
from tofro.runs import run as running
from tofro.runs.context import Context, open_start
from tofro.runs.folder import locked, read_result
from tofro.runs.record import Recorder
from tofro.runs.run import identify, outputs_of

MODELS = {"pretrain": {"pre"}, "full": {"ft"}, "partial": {"ft"}, "two_way": {"pre", "ft"}, "prompt": set()}
PLACE = {"id", "folder", "study", "stage", "method", "variant", "task", "corpus", "seed"}
FOUND = {"score", "metrics", "cost", "notes"}
EVIDENCE = {"lineage", "config", "data", "versions", "machine", "command"}


@pytest.mark.parametrize("method", MODELS)
def test_a_finished_run_explains_itself(chain: Chain, method: str) -> None:
    result = chain.runs[method]
    assert not result.reused
    data = json.loads((result.folder / "result.json").read_text(encoding="utf-8"))
    assert data == result.data
    assert set(data) == PLACE | FOUND | EVIDENCE
    assert result.folder.name == data["folder"] == f"{method}-{'corpus' if method == 'pretrain' else 'task'}-s0-{data['id']}"
    assert (data["method"], data["study"], data["stage"], data["seed"]) == (method, "runs", None, 0)
    assert data["score"] in data["metrics"]
    assert all(isinstance(value, int | float) for value in data["metrics"].values())
    assert data["command"].startswith("tofro run corpus=text corpus.path=")
    assert json.loads((result.folder / "identity.json").read_text()) == data["config"]
    assert set(json.loads((result.folder / "environment.json").read_text())) >= {"versions", "machine", "git"}
    config = OmegaConf.load(result.folder / "config.yaml")
    assert (config.method.name, config.tokenizer.vocabulary) == (method, 192)
    models = result.folder / "models"
    assert ({path.name for path in models.iterdir()} if models.exists() else set()) == MODELS[method]


@pytest.mark.parametrize("method", ["pretrain", "full", "partial", "two_way"])
def test_a_training_records_every_step_and_evaluation_and_what_it_cost(chain: Chain, method: str) -> None:
    result = chain.runs[method]
    rows = rows_of(result.folder)
    assert [row["step"] for row in rows if "train/loss" in row] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if any(name.startswith("validation/") for name in row)] == [3, 6]
    cost = result.data["cost"]
    waits = {"checkpoint_seconds", "waiting_seconds"}
    learnt = {"rows"} if method != "pretrain" else set()  # of the task
    assert set(cost) == {"seconds", "train_seconds", "steps", "tokens", "flops", "peak_memory_mb"} | waits | learnt
    assert cost["steps"] == result.metrics["train/steps"] == 6
    assert all(value > 0 for name, value in cost.items() if name not in waits)
    assert 0 <= sum(cost[name] for name in waits) < cost["train_seconds"]
    assert cost["train_seconds"] < cost["seconds"]


def test_each_link_of_the_chain_names_what_it_started_from(chain: Chain) -> None:
    assert chain.runs["pretrain"].data["lineage"] == {"init_from": None, "init_from_ft": None}
    for method in ("full", "partial", "two_way", "prompt"):
        assert chain.runs[method].data["lineage"] == {"init_from": chain.runs["pretrain"].data["id"], "init_from_ft": None}


def test_no_later_run_touches_the_pretrained_model(chain: Chain) -> None:
    assert hash_of(chain.runs["pretrain"].folder / "models") == chain.pre_hash


def test_partial_trains_the_head_alone_and_full_trains_more(chain: Chain) -> None:
    pre = load_model(chain.runs["pretrain"].folder / "models" / "pre").model
    moved = {name: load_model(chain.runs[name].folder / "models" / "ft").model for name in ("full", "partial")}
    assert same_weights(moved["partial"].encoder, pre.encoder)
    assert not same_weights(moved["full"].encoder, pre.encoder)
    both = load_model(chain.runs["two_way"].folder / "models" / "pre").model
    assert not same_weights(both.encoder, pre.encoder)


@pytest.mark.parametrize("asked", [PROMPT, ENSEMBLE, [*ENSEMBLE, "prompt.calibration=batch"]], ids=["one", "all", "batch"])
def test_a_prompt_changes_no_parameter_and_no_buffer(
    asked: list[str], chain: Chain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[str] = []
    evaluate = untrained.score_prompt

    def watched(scorer: Any, task: Any, split: str) -> dict[str, float]:
        everything = [scorer.model.state_dict(), dict(scorer.model.named_buffers())]
        before = [{name: value.clone() for name, value in each.items()} for each in everything]
        value = evaluate(scorer, task, split)
        after = [scorer.model.state_dict(), dict(scorer.model.named_buffers())]
        assert all(torch.equal(one[name], two[name]) for one, two in zip(before, after, strict=True) for name in {**one, **two})
        seen.append(split)
        return value

    monkeypatch.setattr(untrained, "score_prompt", watched)
    result = carry_out([*chain.base, chain.start(), *asked, f"outputs_dir={tmp_path}"])
    assert seen == ["validation", "test"]
    assert (result.metrics == chain.runs["prompt"].metrics) is (asked is PROMPT)
    assert hash_of(chain.runs["pretrain"].folder / "models") == chain.pre_hash


def test_an_ensemble_records_each_template_and_their_spread(chain: Chain, tmp_path: Path) -> None:
    base = [*chain.base, chain.start(), *ENSEMBLE, f"outputs_dir={tmp_path}"]
    every = carry_out(base)
    assert every.data["variant"] == "ensemble"
    alone = [carry_out([*base, f"prompt.template={number}"]) for number in (0, 1)]
    assert [run.data["variant"] for run in alone] == ["template 0", "template 1"]
    for split in ("validation", "test"):
        scores = [run.metrics[f"{split}/accuracy_pre"] for run in alone]
        assert [every.metrics[f"{split}/accuracy_template_{number}_pre"] for number in (0, 1)] == scores
        mean, low, high = (every.metrics[f"{split}/accuracy_templates_{name}_pre"] for name in ("mean", "lowest", "highest"))
        assert (mean, low, high) == (pytest.approx(sum(scores) / 2), min(scores), max(scores))
        assert every.metrics[f"{split}/accuracy_templates_sd_pre"] == pytest.approx((high - low) / 2**0.5)
        assert f"{split}/accuracy_uncalibrated_pre" in every.metrics


def test_what_is_not_calibrated_says_so_once_and_a_batch_is_a_split(chain: Chain, tmp_path: Path) -> None:
    base = [*chain.base, chain.start(), *PROMPT, f"outputs_dir={tmp_path}"]
    plain, batch = (carry_out([*base, f"prompt.calibration={how}"]) for how in ("none", "batch"))
    assert not any("uncalibrated" in name for name in plain.metrics)
    for calibrated in (batch, chain.runs["prompt"]):
        assert calibrated.metrics["test/accuracy_uncalibrated_pre"] == plain.metrics["test/accuracy_pre"]
    assert any("prompt.calibration=batch" in note for note in batch.data["notes"])
    assert not any("prompt.calibration" in note for note in plain.data["notes"])


def test_a_finished_run_is_a_no_op(chain: Chain) -> None:
    """The second call is made in a process of its own, which shows that not even torch is needed."""
    folder = chain.runs["full"].folder
    state = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}
    overrides = [*chain.base, chain.start(), "method=full", *LONG]
    again = carry_out([*overrides, "trainer.log_every=1"])
    assert again.reused
    assert again.data == chain.runs["full"].data
    code = (
        "import sys; from tofro.cli import main; assert main(['run', *sys.argv[1:]]) == 0; "
        "print([name for name in ('torch', 'pytorch_lightning', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, *overrides], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "finished before" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")} == state


def interrupt(monkeypatch: pytest.MonkeyPatch, error: type[BaseException], step: int) -> None:
    """Let an error fall in the middle of the training, after ``step``."""
    record = Recorder.on_train_batch_end

    def fail(self: Recorder, trainer: Any, *rest: Any) -> None:
        record(self, trainer, *rest)
        if trainer.global_step == step:
            raise error("in the middle")

    monkeypatch.setattr(Recorder, "on_train_batch_end", fail)


def test_an_interrupted_run_resumes_to_the_same_result(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = [*chain.base, chain.start(), "method=two_way", *LONG, f"outputs_dir={tmp_path}", "trainer.checkpoint_every=2"]
    folder = tmp_path / "runs" / chain.runs["two_way"].folder.name
    before = signal.getsignal(signal.SIGINT)  # ignored where a shell put the tests into the background
    with monkeypatch.context() as patch:
        interrupt(patch, RuntimeError, 5)
        with pytest.raises(RuntimeError, match="in the middle"):
            carry_out(overrides)
    assert signal.getsignal(signal.SIGINT) is before
    assert read_result(folder) is None
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step-00000002", "step-00000004"]
    trained: list[int] = []
    monkeypatch.setattr(TwoWay, "on_train_batch_start", lambda self, *rest: trained.append(self.global_step), raising=False)
    resumed = carry_out(overrides)
    assert trained == [4, 5]  # from the checkpoint at step 4, not afresh
    assert not (folder / "checkpoints").exists()  # nothing reads them any more
    assert_same(resumed.folder, chain.runs["two_way"].folder)


def test_a_run_killed_after_its_training_measures_and_trains_no_more(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*chain.base, chain.start(), "method=two_way", *LONG, f"outputs_dir={tmp_path}"]
    with monkeypatch.context() as patch:
        patch.setattr(methods, "start_measures", killed)
        with pytest.raises(RuntimeError, match="killed"):
            carry_out(overrides)
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "models" / "ft").is_dir()
    monkeypatch.setattr(TwoWay, "training_step", killed)
    assert_same(carry_out(overrides).folder, chain.runs["two_way"].folder)


def killed(*arguments: Any) -> None:
    raise RuntimeError("killed")


def assert_same(folder: Path, expected: Path) -> None:
    """Compare metrics, record and weights of two runs bit for bit."""
    assert rows_of(folder) == rows_of(expected)
    found, wanted = read_result(folder), read_result(expected)
    assert found is not None
    assert wanted is not None
    assert found["metrics"] == wanted["metrics"]
    assert (found["id"], found["cost"]["tokens"]) == (wanted["id"], wanted["cost"]["tokens"])
    assert hash_of(folder / "models") == hash_of(expected / "models")


def test_the_saved_classifier_answers_alike_in_transformers(chain: Chain) -> None:
    transformers = pytest.importorskip("transformers")
    folder = chain.runs["full"].folder / "models" / "ft"
    overrides = [*chain.base, "method=full", f"init_from={chain.runs['full'].folder}"]
    context = Context(compose(overrides), folder)
    opened, examples = load_model(folder), context.task.splits["test"]
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert [theirs.config.id2label[number] for number in range(2)] == list(opened.labels or ())
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer([row.text_a for row in examples], truncation=True, max_length=32, padding=True, return_tensors="pt")
    ours = torch.empty(len(examples), 2)
    with torch.no_grad():
        expected = theirs(**inputs).logits
        for batch in task_batches(examples, context.start.tokenizer, 32, 16):
            ours[batch.samples] = opened.model.eval().task_logits(opened.model.encoder(batch), batch)
    assert torch.allclose(ours, expected, atol=1e-5)


def test_a_fine_tuned_start_brings_its_encoder_and_not_its_task_head(chain: Chain, tmp_path: Path) -> None:
    full = chain.runs["full"]
    start = open_start(str(full.folder), tmp_path)
    assert "task" not in start.model.heads
    assert start.lineage == full.data["id"]
    assert same_weights(start.model.encoder, load_model(full.folder / "models" / "ft").model.encoder)
    result = carry_out([*chain.base, "method=partial", f"init_from={full.folder}", "budget.steps=1", f"outputs_dir={tmp_path}"])
    assert result.data["lineage"]["init_from"] == full.data["id"]


def test_ft_may_start_elsewhere_than_pre(chain: Chain, tmp_path: Path) -> None:
    full = chain.runs["full"]
    overrides = [*chain.base, chain.start(), f"init_from_ft={full.folder}", "method=two_way"]
    context = Context(compose(overrides), tmp_path)
    assert same_weights(context.model_for_task().encoder, load_model(full.folder / "models" / "ft").model.encoder)
    assert not same_weights(context.start.model.encoder, context.start_ft.model.encoder)


def test_a_second_process_is_refused(chain: Chain, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = [*chain.base, "method=tfidf", f"outputs_dir={tmp_path}"]
    config = compose(overrides)
    folder = outputs_of(config) / identify(config).name
    with locked(folder):
        assert cli.main(["run", *overrides]) == cli.MISTAKE
    assert "another process is running this config" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == [".lock"]
    assert cli.main(["run", *overrides]) == cli.DONE


def test_a_run_that_another_process_has_just_finished_is_not_made_again(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*chain.base, "method=tfidf", f"outputs_dir={tmp_path}"]

    @contextmanager
    def finished_meanwhile(folder: Path) -> Iterator[None]:
        with locked(folder):
            (folder / "result.json").write_text('{"id": "0a1b2c3d", "metrics": {}}', encoding="utf-8")
            yield

    monkeypatch.setattr(running, "locked", finished_meanwhile)
    assert carry_out(overrides).reused


def test_another_config_under_the_same_id_is_refused(chain: Chain, tmp_path: Path) -> None:
    overrides = [*chain.base, "method=tfidf", f"outputs_dir={tmp_path}"]
    folder = carry_out(overrides).folder
    (folder / "identity.json").write_text('{"seed": 9}', encoding="utf-8")
    with pytest.raises(ValueError, match="another config under the same id"):
        carry_out(overrides)
