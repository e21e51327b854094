"""wandb without an account: offline by itself, never a prompt, one run on the tracker per run, and nothing private in it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.runs.conftest import Chain, carry_out, rows_of
from tofro.runs import loggers
from tofro.runs.loggers import has_key

SECRET = "never-to-be-sent"


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user who has no key and has set nothing; returns the home folder."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_DIR", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_a_key_is_looked_for_without_asking(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_key()
    (stranger / ".netrc").write_text("machine api.wandb.ai login user password 0123\n", encoding="utf-8")
    (stranger / ".netrc").chmod(0o600)
    assert has_key()
    (stranger / ".netrc").write_text("machine", encoding="utf-8")
    assert not has_key()
    monkeypatch.setenv("WANDB_API_KEY", "0123")
    assert has_key()


def test_two_runs_without_a_key_are_two_offline_runs(
    chain: Chain, stranger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")

    def prompt(*arguments: object) -> str:
        raise AssertionError("a prompt")

    monkeypatch.setattr("builtins.input", prompt)
    monkeypatch.setattr("getpass.getpass", prompt)
    monkeypatch.setattr(sys, "argv", ["tofro", SECRET])
    monkeypatch.setenv("TOFRO_SECRET", SECRET)
    ended: list[bool] = []
    close = loggers.close
    monkeypatch.setattr("tofro.runs.outcome.close", lambda logger, failed: (ended.append(failed), close(logger, failed)))
    base = [*chain.base, chain.start(), "method=full", "method.measure=false", "logger=wandb", f"outputs_dir={tmp_path}"]
    results = [carry_out([*base, f"seed={seed}", "budget.steps=2"]) for seed in (5, 6)]
    assert ended == [False, False]
    for result in results:
        (offline,) = [path for path in (result.folder / "wandb").iterdir() if path.name.startswith("offline-run-")]
        (record,) = offline.glob("*.wandb")
        assert result.folder.name in record.name
        content = record.read_bytes()
        assert b"train/loss" in content
        assert rows_of(result.folder)
        for path in (path for path in offline.rglob("*") if path.is_file()):
            assert SECRET.encode() not in path.read_bytes(), path
            assert path.suffix != ".py"
