"""Credentials in overrides and config values are refused by what they look like; what only resembles them passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tofro.cli import MISTAKE, main
from tofro.config.compose import compose
from tofro.config.credentials import environment_secrets, refuse_credentials
from tofro.config.errors import LINES, ConfigError

MARK = "Zq7Planted"  # part of every planted secret
COMMIT = "3f2a9c0d4b7e1f6a8c5d2e9b0a7f4c1d8e6b3a5f"

SECRETS = [  # (override, the key that the message names)
    (f"corpus.path=https://user:{MARK}@example.org/corpus.txt", "corpus.path"),
    (f"init_from=https://{MARK}@example.org/model", "init_from"),
    (f"init_from='https://user:{MARK}@example.org/model'", "init_from"),
    (f"task.path=https://example.org/task.csv?token={MARK}", "task.path"),
    (f"task.path='s3://bucket/task.csv?X-Amz-Expires=9&X-Amz-Signature={MARK}'", "task.path"),
    (f"corpus.dataset=hf_{MARK}abcdefghijklmnopqrst", "corpus.dataset"),
    ("logger.project=AKIAZQ7PLANTEDABCDEF", "logger.project"),
    (f"study=ghp_{MARK}abcdefghijklmnopqrstuvwxyz", "study"),
    (f"stage=sk-proj-{MARK}abcdefghijklmnop", "stage"),
    (f"logger.project={COMMIT}", "logger.project"),
    (f"+api_key={MARK}", "api_key"),
    (f"logger.api_key={MARK}", "logger.api_key"),
    (f"+trainer.fit.password={MARK}", "trainer.fit.password"),
    (f"trainer.fit={{profiler: simple, auth_token: {MARK}}}", "trainer.fit"),
    (f"++hydra.job.env_set.HF_TOKEN={MARK}", "hydra.job.env_set.HF_TOKEN"),
    (f"--token={MARK}", "token"),
    (f"https://user:{MARK}@example.org=1", "word 1"),
]

HARMLESS = [
    f"init_from=models--bert/snapshots/{COMMIT}",
    f"init_from={COMMIT}",
    f"task.path=/data/{COMMIT}/train.csv",
    "corpus.path='news/part-?.jsonl.gz'",
    "corpus.path=https://example.org/corpus.txt",
    "init_from=hf_models/bert",
    "init_from=outputs/runs/pretrain-pydoc-s0-0123abcd/models/pre",
    "budget.tokens=100000",
    "prompt.words={token: [one], password: [two]}",
    'prompt.templates=["{text_a}, password: [MASK].", "{text_a} token: [MASK]"]',
    "task.name=risk-assessment-of-secret-password-tokens",
    "study=task-classification-with-a-name-that-is-long",
    "corpus.words=tokenizer",
    "init_from=/models/sk-learn-baselines-of-the-group-2024",
]


@pytest.mark.parametrize(("override", "key"), SECRETS)
def test_an_override_with_a_credential_is_refused_and_not_repeated(
    override: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["run"], ["run", "-m", "seed=0,1"], ["study", "here"], []):
        assert main([*words, override]) == MISTAKE
        out, err = capsys.readouterr()
        assert MARK.lower() not in (out + err).lower()
        assert COMMIT not in out + err
        assert "environment" in err
        assert len(err.splitlines()) <= LINES
        assert f"{key} holds" in err or key == "word 1"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("override", HARMLESS)
def test_what_only_resembles_a_credential_passes(override: str) -> None:
    refuse_credentials([override])
    if not override.startswith(("corpus.dataset", "prompt", "corpus.words")):
        compose([override])


def test_the_environments_own_secrets_are_known_by_their_values(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = f"plain-{MARK}"
    monkeypatch.setenv("HF_TOKEN", secret)
    monkeypatch.setenv("SOME_KEY", "short")
    monkeypatch.setenv("GOOGLE_CREDENTIALS", "/home/somebody/credentials.json")
    assert environment_secrets()["HF_TOKEN"] == secret
    assert not {"SOME_KEY", "GOOGLE_CREDENTIALS", "PWD"} & set(environment_secrets())
    for override in (f"task.name=my-{secret}", "task.name=${oc.env:HF_TOKEN}"):
        with pytest.raises(ConfigError, match=r"task\.name holds the value of the environment's HF_TOKEN") as refused:
            compose([override])
        assert MARK not in str(refused.value)


def test_a_value_in_yaml_is_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / "recipe").mkdir()
    text = f"# @package _global_\ncorpus:\n  path: https://user:{MARK}@example.org/x\n"
    (tmp_path / "recipe" / "mine.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"corpus\.path holds a URL") as refused:
        compose([f"hydra.searchpath=[file://{tmp_path}]", "recipe=mine"])
    assert MARK not in str(refused.value)
