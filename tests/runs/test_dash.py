"""The dashboard shows what metrics.jsonl holds, of every run, while it is written, and to this machine alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tofro.cli import MISTAKE, main
from tofro.runs import events
from tofro.runs.dash import Mirror, records_under

SHOTS = os.environ.get("TOFRO_SHOTS")  # a folder: pictures of the dashboard, to be looked at


def row(step: int, **more: Any) -> str:
    return json.dumps({"step": step, "seconds": step * 0.5, "train/loss": 1 / step, **more}) + "\n"


def write(folder: Path, *rows: str, mode: str = "w") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "metrics.jsonl"
    with record.open(mode, encoding="utf-8") as file:
        file.writelines(rows)
    return record


# -- the mirror ----------------------------------------------------------------------------------------------------------------


def shown(mirror: Mirror, run: str, tag: str = "train/loss") -> list[tuple[int, float]]:
    """Return what TensorBoard makes of a mirrored run: (step, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(mirror.target / run), size_guidance={"scalars": 0})
    read.Reload()
    found = read.Scalars(tag) if tag in read.Tags()["scalars"] else []
    return [(event.step, pytest.approx(event.value)) for event in found]


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    pytest.importorskip("tensorboard")
    (tmp_path / "outputs").mkdir()
    return Mirror(tmp_path / "outputs", tmp_path / "mirror")


def test_runs_are_found_where_they_are_and_nowhere_else(tmp_path: Path) -> None:
    for name in ("runs/a", "study/b", "study/b/models/pre", "cache/c", "study/.hidden", "wandb/d"):
        write(tmp_path / name, row(1))
    (tmp_path / "study" / "unfinished").mkdir()
    assert [str(path.parent.relative_to(tmp_path)) for path in records_under(tmp_path)] == ["runs/a", "study/b"]
    assert [path.parent for path in records_under(tmp_path / "runs" / "a")] == [tmp_path / "runs" / "a"]


def test_a_growing_record_is_followed_and_a_torn_line_waits(mirror: Mirror) -> None:
    run = mirror.source / "runs" / "a"
    write(run, row(1), row(2)[:-9])
    assert mirror.refresh() == 1
    assert shown(mirror, "runs/a") == [(1, 1.0)]
    write(run, row(2)[-9:], row(3, **{"train/grad": None, "validation/accuracy_ft": 0.25}), mode="a")
    mirror.refresh()
    mirror.refresh()
    assert shown(mirror, "runs/a") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert shown(mirror, "runs/a", "validation/accuracy_ft") == [(3, 0.25)]
    assert shown(mirror, "runs/a", "train/grad") == []
    assert shown(mirror, "runs/a", "seconds") == []


def test_a_record_that_a_resume_cut_back_is_shown_anew(mirror: Mirror) -> None:
    record = write(mirror.source / "a", *(row(step) for step in range(1, 7)))
    mirror.refresh()
    with record.open("r+b") as file:
        file.truncate(len((row(1) + row(2)).encode()))
    mirror.refresh()
    assert shown(mirror, "a") == [(1, 1.0), (2, 0.5)]
    write(mirror.source / "a", *(row(step) for step in range(3, 7)), mode="a")
    mirror.refresh()
    assert [step for step, _ in shown(mirror, "a")] == [1, 2, 3, 4, 5, 6]
    with record.open("r+b") as file:  # cut back and grown beyond its old length between two looks
        file.truncate(len(row(1).encode()))
    write(mirror.source / "a", *(row(step, more=step) for step in range(2, 9)), mode="a")
    mirror.refresh()
    assert [step for step, _ in shown(mirror, "a")] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_run_that_is_begun_again_or_deleted_goes(mirror: Mirror) -> None:
    write(mirror.source / "a", row(1), row(2))
    write(mirror.source / "b", row(1))
    assert mirror.refresh() == 2
    write(mirror.source / "a")
    shutil.rmtree(mirror.source / "b")
    assert mirror.refresh() == 1
    assert shown(mirror, "a") == []
    assert not (mirror.target / "b").exists()


def test_a_line_that_is_no_row_is_left_out_and_said_so(mirror: Mirror, capsys: pytest.CaptureFixture[str]) -> None:
    write(mirror.source / "a", row(1), "{torn\n", '{"step": 2}\n', row(3))
    mirror.refresh()
    assert [step for step, _ in shown(mirror, "a")] == [1, 3]
    err = capsys.readouterr().err
    assert err.count("metrics.jsonl: left out a line") == 2


def test_the_clock_of_a_run_is_its_own(mirror: Mirror) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    record = write(mirror.source / "a", *(row(step) for step in range(1, 5)))
    os.utime(record, (1_000_000, 1_000_000))
    mirror.refresh()
    read = EventAccumulator(str(mirror.target / "a"))
    read.Reload()
    assert [event.wall_time for event in read.Scalars("train/loss")] == [999_998.5, 999_999.0, 999_999.5, 1_000_000.0]


# -- the command ---------------------------------------------------------------------------------------------------------------


@contextmanager
def dashboard(folder: Path, *words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run ``tofro dash`` on a folder; yield its address."""
    command = [sys.executable, "-m", "tofro", "dash", str(folder), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "http://" in line, line + process.communicate()[1]
        yield next(word for word in line.split() if word.startswith("http://")).rstrip("/"), process
    finally:
        process.kill()
        process.communicate()


def ask(address: str, what: str, **query: str) -> Any:
    """Return what TensorBoard's own interface answers; None where it does not know yet."""
    try:
        with urllib.request.urlopen(f"{address}/data/{what}?{urllib.parse.urlencode(query)}", timeout=20) as answer:
            return json.load(answer)
    except urllib.error.HTTPError:
        return None


def until(check: Any, seconds: float = 30) -> Any:
    """Wait for something to become true; return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = check()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError("it did not come")


def steps(address: str, run: str) -> list[int]:
    return [step for _, step, _ in ask(address, "plugin/scalars/scalars", run=run, tag="train/loss") or ()]


def listening(port: int) -> set[str]:
    """Return the addresses at which something listens to a port, as the kernel writes them."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        lines = Path(table).read_text().splitlines()[1:] if Path(table).exists() else []
        for local, state in ((line.split()[1], line.split()[3]) for line in lines):
            if state == "0A" and int(local.rpartition(":")[2], 16) == port:
                found.add(local.rpartition(":")[0])
    return found


@pytest.mark.slow
def test_rows_are_seen_while_they_are_written_and_by_this_machine_alone(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    folder = tmp_path / "outputs"
    write(folder / "study" / "full-a-s0-01234567", row(1), row(2))
    with dashboard(folder, "--port", "0") as (address, process):
        until(lambda: steps(address, "study/full-a-s0-01234567") == [1, 2])
        write(folder / "study" / "full-a-s0-01234567", row(3), mode="a")
        write(folder / "runs" / "two_way-a-s0-76543210", row(1))
        until(lambda: steps(address, "study/full-a-s0-01234567") == [1, 2, 3])
        until(lambda: steps(address, "runs/two_way-a-s0-76543210") == [1])
        assert sorted(ask(address, "runs")) == ["runs/two_way-a-s0-76543210", "study/full-a-s0-01234567"]
        if Path("/proc/net/tcp").exists():
            assert listening(urllib.parse.urlsplit(address).port or 0) == {"0100007F"}
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (0, "")
    assert sorted(path.name for path in folder.iterdir()) == ["runs", "study"]


@pytest.mark.slow
def test_the_next_free_port_is_taken(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with dashboard(tmp_path, "--port", str(port)) as (address, _):
            assert urllib.parse.urlsplit(address).port in range(port + 1, port + 100)


def test_what_can_not_be_shown_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if events.importlib.util.find_spec("tensorboard"):
        monkeypatch.chdir(tmp_path)
        assert main(["dash"]) == MISTAKE
        assert "outputs: no such folder" in capsys.readouterr().err
        assert main(["dash", str(tmp_path), "--port", "70000"]) == MISTAKE
        assert "--port=70000" in capsys.readouterr().err
    monkeypatch.setattr(events.importlib.util, "find_spec", lambda name: None)
    assert main(["dash", str(tmp_path)]) == MISTAKE
    assert "pip install 'tofro[tensorboard]'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_browser_shows_the_curves_and_asks_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    browsers = pytest.importorskip("tests.reports.chromium")
    if browsers.find_chromium() is None:
        pytest.skip("no chromium here; Debian's package `chromium` has it")
    flags = tuple(flag.replace("~NOTFOUND", "~NOTFOUND, EXCLUDE 127.0.0.1") for flag in browsers.FLAGS)
    monkeypatch.setattr(browsers, "FLAGS", flags)
    for seed in range(3):
        rows = [row(step, **{"validation/accuracy_ft": 1 - 1 / (step + seed)}) for step in range(1, 200)]
        write(tmp_path / "study" / f"full-pydoc_kind-s{seed}-0123456{seed}", *rows)
    with dashboard(tmp_path, "--port", "0") as (address, _), browsers.chromium(tmp_path / "profile") as browser:
        until(lambda: len(ask(address, "runs") or ()) == 3)
        for width in (1280, 400):
            browser.look(width)
            browser._events.clear()
            browser.call("Page.navigate", url=address)
            wanted = ("full-pydoc_kind-s2-01234562", "validation", "accuracy_ft")
            until(lambda: all(word in (browser.evaluate("document.body.innerText") or "") for word in wanted), 60)  # noqa: B023
            time.sleep(3)  # curves are drawn after their names
            assert [url for url in browser.requests if not url.startswith((address, "blob:"))] == []
            if SHOTS:
                browser.shoot(Path(SHOTS) / f"dash-{width}.png")
