"""wandb and TensorBoard as views of metrics.jsonl: one run on the tracker per run, every row once, nothing private."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.conftest import small_run
from tests.runs import mortal
from tests.runs.conftest import Chain, carry_out, rows_of
from tests.runs.wandb_files import read_kept
from tests.runs.wandb_server import wandb_server
from tofro.runs import events, loggers, methods
from tofro.runs.loggers import View, answers, check_logger, has_key
from tofro.runs.record import Recorder
from tofro.runs.settings import LoggerSettings

WANDB = LoggerSettings(_target_="tofro.runs.loggers.wandb")
KEY = "0123456789abcdef0123456789abcdef01234567"
SERVER = "https://api.wandb.ai"
SHORT = ["method=full", "method.measure=false", "budget.steps=4", "budget.evaluate_every=2"]


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user who has no key, has set nothing and is never asked anything; returns the home folder."""
    import wandb

    for name in [name for name in os.environ if name.startswith("WANDB_")] + ["NETRC", "http_proxy", "HTTP_PROXY"]:
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))

    def prompt(*arguments: object) -> str:
        raise AssertionError("a prompt")

    monkeypatch.setattr("builtins.input", prompt)
    monkeypatch.setattr("getpass.getpass", prompt)
    wandb.teardown()  # it reads the environment once
    yield home
    wandb.teardown()


def opened(folder: Path, settings: LoggerSettings = WANDB, study: str | None = None) -> Any:
    """Return wandb's view of a run whose folder has just been begun."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "identity.json").write_text(json.dumps({"version": 1, "seed": 0, "task.path": "a hash"}), encoding="utf-8")
    config = OmegaConf.create({"study": study, "method": {"name": "full"}})
    return loggers.wandb(settings, config, folder)


def offline_folders(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "wandb").iterdir() if path.name.startswith("offline-run-"))


def row(step: int) -> dict[str, Any]:
    return {"step": step, "seconds": step / 10, "train/loss": 1 / step}


# -- when wandb is on-line -----------------------------------------------------------------------------------------------------


def test_a_key_is_looked_for_without_asking(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_key(SERVER)
    (stranger / ".netrc").write_text("machine api.wandb.ai login user password 0123\n", encoding="utf-8")
    assert has_key(SERVER)
    assert not has_key("https://wandb.example.org")
    (stranger / ".netrc").write_text("machine", encoding="utf-8")
    assert not has_key(SERVER)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert has_key(SERVER)


def test_a_closed_port_does_not_answer_and_a_proxy_can_not_be_seen_through(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert answers(address)
    assert not answers(address)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    assert answers("https://wandb.example.org")


def test_online_without_a_key_is_refused_before_anything_is_read(stranger: Path) -> None:
    with pytest.raises(ValueError, match="WANDB_API_KEY"):
        check_logger(LoggerSettings(_target_=WANDB._target_, mode="online"))
    check_logger(WANDB)


def test_a_password_in_the_servers_address_is_refused(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "https://user:hidden@wandb.example.org")
    with pytest.raises(ValueError, match="WANDB_BASE_URL holds") as refused:
        check_logger(WANDB)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("mode", ["auto", "online"])
def test_a_key_without_a_server_is_offline_and_says_so(
    mode: str, stranger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed_port()}")
    start = time.monotonic()
    with pytest.warns(UserWarning, match="wandb can't be reached"):
        view = opened(tmp_path / "run", LoggerSettings(_target_=WANDB._target_, mode=mode))
    view.show([row(1)])
    view.close(failed=False)
    assert time.monotonic() - start < 15
    (kept,) = offline_folders(tmp_path / "run")
    assert read_kept(kept).rows[0]["train/loss"] == 1.0


class Broken(http.server.BaseHTTPRequestHandler):
    """A server that answers every request with an error."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.mark.slow
def test_a_server_that_is_broken_costs_some_seconds_and_not_the_run(
    stranger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setitem(loggers.QUIET, "init_timeout", 5.0)
    start = time.monotonic()
    with pytest.warns(UserWarning, match="wandb can't be reached"):
        view = opened(tmp_path / "run")
    view.show([row(1)])
    view.close(failed=False)
    server.shutdown()
    server.server_close()
    assert time.monotonic() - start < 40
    (kept,) = offline_folders(tmp_path / "run")
    assert len(read_kept(kept).rows) == 1


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


# -- what wandb keeps ----------------------------------------------------------------------------------------------------------


def test_twenty_runs_in_one_process_stay_twenty(stranger: Path, tmp_path: Path) -> None:
    for number in range(20):
        view = opened(tmp_path / "study" / f"run-{number}", study="study")
        view.show([row(step) for step in range(1, 4 + number)])
        view.conclude({"test/accuracy_ft": number / 20})
        view.close(failed=number == 7)
    found = [read_kept(place) for number in range(20) for place in offline_folders(tmp_path / "study" / f"run-{number}")]
    assert len({kept.id for kept in found}) == len(found) == 20
    for number, kept in enumerate(found):
        assert (kept.name, kept.group, kept.project) == (f"run-{number}", "study", "tofro")
        assert [(each["_step"], each["train/loss"]) for each in kept.rows] == [(s, 1 / s) for s in range(1, 4 + number)]
        assert kept.summary["test/accuracy_ft"] == number / 20
        assert kept.exit_code == (1 if number == 7 else 0)
    folders = [str(path) for path in (tmp_path / "study").glob("*/wandb/offline-run-*")]
    command = [sys.executable, "-m", "wandb", "sync", "--dry-run", *folders]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert "Would sync 20 run" in done.stdout + done.stderr


def test_a_run_resumed_offline_is_one_run_with_every_row_once(stranger: Path, tmp_path: Path) -> None:
    first = opened(tmp_path / "run")
    assert first.starts_empty
    first.show([row(1), row(2), row(3)])
    first.close(failed=True)
    second = opened(tmp_path / "run")
    assert second.starts_empty
    second.show([row(1), row(2)])  # what the checkpoint kept
    second.show([row(3), row(4)])
    second.close(failed=False)
    (place,) = offline_folders(tmp_path / "run")
    kept = read_kept(place)
    assert [each["_step"] for each in kept.rows] == [1, 2, 3, 4]
    assert kept.exit_code == 0


def test_a_step_that_wandb_has_seen_is_dropped(stranger: Path, tmp_path: Path) -> None:
    view = opened(tmp_path / "run")
    view.show([row(1), row(2), row(3), row(4)])
    view.show([row(2), row(3)])
    view.show([{"step": 5, "seconds": 0.5, "train/loss": 0.2}, {"step": 5, "seconds": 0.6, "validation/accuracy_ft": 0.75}])
    view.close(failed=False)
    (place,) = offline_folders(tmp_path / "run")
    rows = read_kept(place).rows
    assert [each["_step"] for each in rows] == [1, 2, 3, 4, 5]
    assert (rows[-1]["train/loss"], rows[-1]["validation/accuracy_ft"]) == (0.2, 0.75)


def test_what_was_sent_already_is_neither_removed_nor_sent_again(stranger: Path, tmp_path: Path) -> None:
    first = opened(tmp_path / "run")
    first.close(failed=True)
    (place,) = offline_folders(tmp_path / "run")
    (record,) = place.glob("*.wandb")
    record.with_name(f"{record.name}.synced").touch()
    second = opened(tmp_path / "run")
    second.close(failed=False)
    assert not second.starts_empty
    assert place in offline_folders(tmp_path / "run")
    assert len({read_kept(each).id for each in offline_folders(tmp_path / "run")}) == 1


def test_a_run_keeps_its_rows_and_result_and_nothing_private(
    chain: Chain, stranger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "never-to-be-sent"
    monkeypatch.setattr(sys, "argv", ["tofro", secret])
    monkeypatch.setenv("TOFRO_TOKEN", secret)
    overrides = [*chain.base, chain.start(), *SHORT, "logger=wandb", f"outputs_dir={tmp_path / 'o'}", "seed=5"]
    result = carry_out(overrides)
    (place,) = offline_folders(result.folder)
    kept = read_kept(place)
    rows = rows_of(result.folder)
    assert {each["_step"] for each in kept.rows} == {each["step"] for each in rows}
    for each in rows:
        (shown,) = [row for row in kept.rows if row["_step"] == each["step"]]
        assert all(shown[name] == pytest.approx(value) for name, value in each.items() if name != "step" and value is not None)
    assert kept.exit_code == 0
    assert kept.group == "runs"
    assert all(kept.summary[name] == pytest.approx(value) for name, value in result.metrics.items())
    private = [secret, str(tmp_path), os.path.expanduser("~"), "sys.argv", __file__]
    private += [name for name in (socket.gethostname(),) if len(name) > 5]
    for path in (path for path in place.rglob("*.wandb")):
        for word in private:
            assert word.encode() not in path.read_bytes(), (path, word)
    for path in (path for path in (result.folder / "wandb").rglob("*") if path.is_file()):
        assert secret.encode() not in path.read_bytes(), path
        assert path.suffix != ".py"
        assert path.name not in ("requirements.txt", "wandb-metadata.json", "diff.patch")


def test_a_run_that_breaks_off_after_its_training_is_marked_failed(
    chain: Chain, stranger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(methods, "adapted", broken)
    overrides = [*chain.base, chain.start(), *SHORT, "logger=wandb", f"outputs_dir={tmp_path / 'o'}", "seed=6"]
    with pytest.raises(RuntimeError, match="a bug"):
        carry_out(overrides)
    (place,) = (tmp_path / "o").glob("runs/*/wandb/offline-run-*")
    assert read_kept(place).exit_code == 1


def test_a_tracker_that_fails_says_so_once_and_the_run_goes_on() -> None:
    class Failing(View):
        tracker = "mine"
        asked = 0

        def on_rows(self, rows: Any) -> None:
            self.asked += 1
            raise OSError("no space left")

    view = Failing("run")
    with pytest.warns(UserWarning, match=r"mine failed \(OSError\)"):
        view.show([row(1)])
    view.show([row(2)])
    view.conclude({})
    view.close(failed=False)  # a second warning would be an error
    assert view.asked == 1


@pytest.mark.slow
def test_wandb_sync_reads_twenty_offline_runs(stranger: Path, tmp_path: Path) -> None:
    for number in range(20):
        view = opened(tmp_path / f"run-{number}", study="study")
        view.show([row(step) for step in range(1, 4 + number)])
        view.close(failed=number == 7)
    folders = [str(path) for path in tmp_path.glob("*/wandb/offline-run-*")]
    with wandb_server() as received:
        environment = os.environ | {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": received.address}
        command = [sys.executable, "-m", "wandb", "sync", *folders]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(received.rows) == 20
    for run, rows in received.rows.items():
        number = int(run.split("-")[1])
        assert [each["_step"] for each in rows] == list(range(1, 4 + number))
        assert received.exit_codes[run] == (1 if number == 7 else 0)
        assert received.groups[run] == "study"


@pytest.mark.slow
def test_with_a_key_and_a_server_the_rows_are_sent_and_nothing_private(
    stranger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["tofro", "typed-by-the-user"])
    monkeypatch.setenv("OTHER_TOKEN", "a-token-of-somebody")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with wandb_server() as received:
        monkeypatch.setenv("WANDB_BASE_URL", received.address)
        for number in range(3):
            view = opened(tmp_path / f"run-{number}")
            assert not view.starts_empty
            view.show([row(step) for step in range(1, 6)])
            view.conclude({"test/accuracy_ft": 0.5})
            view.close(failed=False)
    assert sorted(received.exit_codes.values()) == [0, 0, 0]
    assert all([each["_step"] for each in rows] == [1, 2, 3, 4, 5] for rows in received.rows.values())
    for word in ("typed-by-the-user", "a-token-of-somebody", KEY, str(tmp_path), socket.gethostname(), __file__):
        assert [body[:200] for body in received.bodies if word.encode() in body] == [], word


# -- resumes -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tracker", ["wandb", "tensorboard"])
def test_a_run_that_breaks_off_and_resumes_shows_every_row_once(
    tracker: str, chain: Chain, stranger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(tracker)
    overrides = [*chain.base, chain.start(), "method=full", "method.measure=false", "budget.steps=9", "budget.evaluate_every=3"]
    overrides += [f"logger={tracker}", f"outputs_dir={tmp_path / 'o'}", "trainer.checkpoint_every=3", "trainer.log_every=1"]
    flush = Recorder.flush

    def breaks_off(self: Recorder, trainer: Any) -> None:
        flush(self, trainer)
        if trainer.global_step == 8:
            raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "flush", breaks_off)
        with pytest.raises(RuntimeError, match="out of memory"):
            carry_out(overrides)
    result = carry_out(overrides)
    rows = [row for row in rows_of(result.folder) if "train/loss" in row]
    assert [row["step"] for row in rows] == list(range(1, 10))
    if tracker == "wandb":
        (place,) = offline_folders(result.folder)
        kept = read_kept(place)
        assert kept.exit_code == 0
        shown = [(each["_step"], pytest.approx(each["train/loss"])) for each in kept.rows]
    else:
        shown = [(step, pytest.approx(value)) for step, value in scalars(result.folder / "tensorboard")["train/loss"]]
    assert shown == [(row["step"], row["train/loss"]) for row in rows]


# -- TensorBoard ---------------------------------------------------------------------------------------------------------------


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard itself makes of a folder: (step, value) by tag."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    read.Reload()
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_without_the_extra_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'tofro\[tensorboard\]'"):
        check_logger(LoggerSettings(_target_="tofro.runs.loggers.tensorboard"))


def test_event_files_hold_the_rows_of_the_record(chain: Chain, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    overrides = [*chain.base, chain.start(), *SHORT, "logger=tensorboard", f"outputs_dir={tmp_path}", "seed=7"]
    result = carry_out(overrides)
    shown = scalars(result.folder / "tensorboard")
    rows = rows_of(result.folder)
    for name in {name for row in rows for name in row} - {"step"}:
        expected = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        assert [step for step, _ in shown.get(name, [])] == [step for step, _ in expected], name
        assert [value for _, value in shown.get(name, [])] == pytest.approx([value for _, value in expected], rel=1e-6)
    assert all(socket.gethostname() not in path.name for path in (result.folder / "tensorboard").iterdir())


@pytest.mark.slow
def test_a_killed_run_that_resumes_shows_every_step_once(tmp_path: Path, world: Path) -> None:
    pytest.importorskip("tensorboard")
    words = ["run", *small_run(world, tmp_path / "o"), "method=pretrain", "method.measure=false", "logger=tensorboard"]
    words += [
        "budget.steps=12",
        "budget.evaluate_every=4",
        "trainer.checkpoint_every=3",
        "trainer.log_every=1",
        "trainer.threads=1",
    ]
    assert mortal.process(mortal.command, words, tmp_path / "log", "before a step", 8) == -9
    (folder,) = (tmp_path / "o" / "runs").iterdir()
    assert mortal.process(mortal.command, words, tmp_path / "log") == 0, (tmp_path / "log").read_text()
    assert len(list((folder / "tensorboard").iterdir())) == 2
    shown = scalars(folder / "tensorboard")
    rows = rows_of(folder)
    assert [step for step, _ in shown["train/loss"]] == list(range(1, 13))
    assert shown["train/loss"] == [(row["step"], pytest.approx(row["train/loss"])) for row in rows if "train/loss" in row]
    evaluated = [row["step"] for row in rows if "validation/mlm_loss_pre" in row]
    assert [step for step, _ in shown["validation/mlm_loss_pre"]] == evaluated == [4, 8, 12]
