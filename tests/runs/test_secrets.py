"""Secrets of a user's shell end up nowhere: every byte that a run, its trackers and its study's page leave is searched."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import small_run
from tofro.cli import MISTAKE

PLANTED = {
    "WANDB_API_KEY": "5ec2e70000planted0000wandb0000key0000abcd",
    "HF_TOKEN": "hf_PlantedTokenOfTheHubZzzzzzzzzzzzz",
    "AWS_SECRET_ACCESS_KEY": "planted/Secret+Access/Key0123456789abcdef",
    "DATABASE_PASSWORD": "planted-password-of-a-database",
    "HTTPS_PROXY": "http://somebody:planted-proxy-password@127.0.0.1:9",
}
TYPED = [  # on the command line, refused; the last word is the secret
    ("task.path=https://somebody:{}@example.org/task.csv", "planted-in-a-url"),
    ("logger.project={}", "hf_PlantedOnTheCommandLine0123456789"),
    ("+api_key={}", "planted-by-name"),
]


def hits(folder: Path, secrets: list[str]) -> list[tuple[Path, str]]:
    """Return every file under a folder that holds one of the secrets, in its content or its path."""
    found = []
    for path in (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        content = path.read_bytes() + str(path.relative_to(folder)).encode()
        found += [(path, secret) for secret in secrets if secret.encode() in content]
    return found


def tofro(*words: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    everything = kept | PLANTED | {"HOME": str(home), "TMPDIR": str(home / "tmp")} | environment
    command = [sys.executable, "-m", "tofro", *words]
    return subprocess.run(command, capture_output=True, text=True, env=everything, cwd=home, timeout=300)


@pytest.mark.slow
def test_no_artefact_holds_a_secret(world: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    home = tmp_path / "home"
    (home / "tmp").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"http://127.0.0.1:{server.getsockname()[1]}"
    shared = [
        *small_run(world, home / "outputs"),
        "method.measure=false",
        "trainer.threads=1",
        "budget.steps=4",
        "trainer.keep_checkpoints=true",
    ]
    study = {
        "title": "Secrets",
        "shared": shared,
        "floors": False,
        "stages": {
            "pretrain": {"overrides": ["method=pretrain", "logger=wandb"], "grid": {"seed": [0]}},
            "adapt": {"init_from": "pretrain", "overrides": ["method=full", "logger=wandb"], "grid": {"seed": [0, 1]}},
            "head": {"init_from": "pretrain", "overrides": ["method=partial", "logger=tensorboard"], "grid": {"seed": [0]}},
        },
    }
    (home / "secrets").mkdir()
    (home / "secrets" / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    output = ""
    done = tofro("study", str(home / "secrets"), home=home, WANDB_BASE_URL=nobody)
    output += done.stdout + done.stderr
    assert done.returncode == 0, output
    assert len(list((home / "outputs").glob("secrets/*/wandb/offline-run-*"))) == 3
    assert list((home / "outputs").glob("secrets/*/tensorboard/events.out.tfevents.*"))
    assert len(list((home / "outputs").glob("secrets/*/checkpoints/*/state.ckpt"))) >= 4
    for form in ("--latex", "--csv", "--markdown"):
        done = tofro("report", str(home / "outputs" / "secrets"), form, home=home)
        output += done.stdout + done.stderr
        assert done.returncode == 0, output
    secrets = [*PLANTED.values(), "planted-proxy-password"]
    assert (home / "outputs" / "secrets" / "report.html").is_file()
    assert hits(home, secrets) == []
    assert [secret for secret in secrets if secret in output] == []


def test_a_secret_that_is_typed_starts_nothing(tmp_path: Path) -> None:
    for override, secret in TYPED:
        done = tofro("run", override.format(secret), "method=tfidf", home=tmp_path)
        assert done.returncode == MISTAKE
        assert secret not in done.stdout + done.stderr
        assert "environment" in done.stderr
    assert list(tmp_path.iterdir()) == []
