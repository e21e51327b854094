"""Checkpoints on disk: every corruption is seen, a snapshot is of its moment, and a disk that refuses costs nothing older."""

from __future__ import annotations

import resource
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.modules.conftest import Bench, same_weights
from tests.modules.conftest import bench as bench
from tests.modules.conftest import start as start
from tests.modules.conftest import task as task
from tests.modules.conftest import tokenizer as tokenizer
from tests.runs.conftest import rows_of
from tofro.modules.settings import BudgetSettings
from tofro.runs import checkpoint_io
from tofro.runs.checkpoint_io import MANIFEST, STATE, Frozen, VerifiedIO, newest_intact, snapshot, write

BUDGET = BudgetSettings(steps=12, batch=16, evaluate_every=4)


def state(value: float) -> dict[str, Any]:
    return {"global_step": int(value), "state_dict": {"weight": torch.full((50,), value)}, "callbacks": {"x": [1, None, "a"]}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two checkpoints, of steps 4 and 8."""
    folder = tmp_path / "checkpoints"
    for step in (4, 8):
        write(state(step), folder / f"step-{step:08d}")
    return folder


def corruptions(file: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what may happen to a file, with a name."""
    content = file.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 97)):
        for mask in (1, 128):
            changed = bytearray(content)
            changed[place] ^= mask
            yield f"bit of byte {place}", lambda changed=bytes(changed): file.write_bytes(changed)
    for length in (0, 1, len(content) // 2, len(content) - 1):
        yield f"cut at {length}", lambda length=length: file.write_bytes(content[:length])
    yield "longer", lambda: file.write_bytes(content + b"\0")
    yield "gone", file.unlink
    yield "another file's content", lambda: file.write_bytes(b"{}")


@pytest.mark.parametrize("name", [STATE, MANIFEST])
def test_every_corruption_is_seen_and_the_one_before_serves(folder: Path, name: str) -> None:
    newest = folder / "step-00000008"
    assert newest_intact(folder) == newest
    kept = shutil.copytree(newest, folder.parent / "kept")
    tried = 0
    for what, corrupt in corruptions(newest / name):
        corrupt()
        with pytest.warns(UserWarning, match="damaged-step-00000008 does not match its manifest and was set aside"):
            assert newest_intact(folder) == folder / "step-00000004", what
        assert (folder / "damaged-step-00000008").is_dir()
        shutil.copytree(kept, newest)
        assert newest_intact(folder) == newest  # a step made again after damage
        tried += 1
    assert tried > 100


def test_a_run_without_an_intact_checkpoint_is_refused_however_often(folder: Path) -> None:
    for each in folder.glob("step-*"):
        (each / STATE).write_bytes(b"")
    with pytest.warns(UserWarning, match="set aside"), pytest.raises(ValueError, match="every checkpoint is damaged"):
        newest_intact(folder)
    with pytest.raises(ValueError, match="every checkpoint is damaged"):
        newest_intact(folder)
    assert newest_intact(folder.parent / "of a run that has none") is None


def test_a_checkpoint_moved_to_another_step_is_damaged(folder: Path) -> None:
    (folder / "step-00000008").rename(folder / "step-00000012")
    with pytest.warns(UserWarning, match="step-00000012"):
        assert newest_intact(folder) == folder / "step-00000004"


def test_what_a_kill_left_is_no_checkpoint_and_is_cleared_away(folder: Path) -> None:
    (folder / ".writing-step-00000012").mkdir()
    (folder / ".writing-step-00000012" / STATE).write_bytes(b"half")
    assert newest_intact(folder) == folder / "step-00000008"
    write(state(16), folder / "step-00000016")
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000008", "step-00000016"]


def test_a_snapshot_is_of_its_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What training does while the thread writes stays out of the checkpoint."""
    go = threading.Event()
    monkeypatch.setattr(checkpoint_io, "write", lambda *what: go.wait(10) and write(*what))
    io, live = VerifiedIO(), state(3)
    live["list"] = [torch.zeros(2), {"tied": live["state_dict"]["weight"]}]
    io.save_checkpoint(live, tmp_path / "checkpoints" / "step-00000003")
    live["state_dict"]["weight"].fill_(7)
    live["callbacks"]["x"].append("later")
    live["list"][0] += 1
    go.set()
    io.wait()
    found = io.load_checkpoint(newest_intact(tmp_path / "checkpoints"))
    assert found["callbacks"] == {"x": [1, None, "a"]}
    assert (found["state_dict"]["weight"] == 3).all()
    assert (found["list"][0] == 0).all()
    assert found["list"][1]["tied"].data_ptr() == found["state_dict"]["weight"].data_ptr()  # stored once


def test_frozen_tensors_are_not_copied() -> None:
    frozen, live = torch.zeros(3), torch.zeros(3)
    made = snapshot({"best": Frozen({"weight": frozen}), "live": live}, {})
    assert type(made["best"]) is dict  # or weights_only could not read it
    assert made["best"]["weight"] is frozen
    assert made["live"].data_ptr() != live.data_ptr()


def test_the_next_save_waits_for_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[str] = []

    def slowly(what: dict[str, Any], target: Path, needs: Any) -> None:
        running.append(f"begin {target.name}")
        threading.Event().wait(0.05)
        write(what, target, needs)
        running.append(f"end {target.name}")

    monkeypatch.setattr(checkpoint_io, "write", slowly)
    io = VerifiedIO()
    for step in (1, 2, 3):
        io.save_checkpoint(state(step), tmp_path / f"step-{step:08d}")
    io.wait()
    assert running == [f"{what} step-{step:08d}" for step in (1, 2, 3) for what in ("begin", "end")]


@pytest.mark.parametrize("moment", ["at the next step", "at the end"])
def test_an_error_of_the_thread_ends_the_run(bench: Bench, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    def failing(what: dict[str, Any], target: Path, needs: Any) -> None:
        if what["global_step"] == (6 if moment == "at the next step" else 12):
            raise RuntimeError("a bug in the thread")
        write(what, target, needs)

    monkeypatch.setattr(checkpoint_io, "write", failing)
    with pytest.raises(RuntimeError, match="a bug in the thread"):
        bench.fit(bench.full(BUDGET), BUDGET, "broken", 3)
    last = "step-00000003" if moment == "at the next step" else "step-00000009"
    assert newest_intact(bench.folder / "broken" / "checkpoints") == bench.folder / "broken" / "checkpoints" / last


def resumes(bench: Bench) -> None:
    """The run goes on where it was and ends as if nothing had been."""
    whole, resumed = bench.full(BUDGET), bench.full(BUDGET)
    bench.fit(whole, BUDGET, "whole")
    bench.fit(resumed, BUDGET, "broken", 3)
    assert same_weights(whole, resumed)
    assert rows_of(bench.folder / "broken") == rows_of(bench.folder / "whole")


def test_a_file_that_may_not_grow_costs_nothing_older(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def limited(what: dict[str, Any], target: Path, needs: Any) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        if what["global_step"] == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
        try:
            write(what, target, needs)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_io, "write", limited)
        with pytest.raises(ValueError, match=r"step-00000006: the checkpoint could not be written \(File too large\).* resumes"):
            bench.fit(bench.full(BUDGET), BUDGET, "broken", 3)
    assert newest_intact(bench.folder / "broken" / "checkpoints") == bench.folder / "broken" / "checkpoints" / "step-00000003"
    resumes(bench)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """A disk mounted at the run's folder; the function gives it another size."""
    place = tmp_path / "broken"
    place.mkdir()

    def mount(options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True, capture_output=True)

    try:
        mount("size=100m")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a disk of a size is not allowed here")
    yield lambda size: mount(f"remount,size={size}")
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_costs_nothing_older(bench: Bench, small_disk: Callable[[str], None]) -> None:
    whole = bench.full(BUDGET)
    bench.fit(whole, BUDGET, "whole", 3)
    one = (bench.folder / "whole" / "checkpoints" / "step-00000012" / STATE).stat().st_size
    small_disk(str(2 * one + one // 2))
    with pytest.raises(ValueError, match=r"step-00000009: the checkpoint could not be written \(No space left on device\)"):
        bench.fit(bench.full(BUDGET), BUDGET, "broken", 3)
    assert newest_intact(bench.folder / "broken" / "checkpoints") == bench.folder / "broken" / "checkpoints" / "step-00000006"
    small_disk("100m")
    resumes(bench)


def test_a_record_that_finds_no_room_says_so(bench: Bench, small_disk: Callable[[str], None]) -> None:
    small_disk("8k")
    (bench.folder / "broken" / "filler").write_bytes(b"x" * 4096)
    budget = BudgetSettings(steps=60, batch=16, best=False, evaluate_every=60)
    with pytest.raises(ValueError, match=r"metrics\.jsonl: No space left on device; make room, and the same command resumes"):
        bench.fit(bench.full(budget), budget, "broken")
    small_disk("100m")
    whole, resumed = bench.full(budget), bench.full(budget)
    bench.fit(whole, budget, "whole")
    bench.fit(resumed, budget, "broken")
    assert same_weights(whole, resumed)
    assert rows_of(bench.folder / "broken") == rows_of(bench.folder / "whole")
