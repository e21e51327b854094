"""What strangers may see of a run: its command without places and secrets, everything else as it was."""

from __future__ import annotations

import pytest

from tofro.reports.public import public_command, public_text


@pytest.mark.parametrize(
    ("command", "public"),
    [
        ("tofro run method=full seed=3", "tofro run method=full seed=3"),
        ("tofro run task=file task.path=/home/ada/secret-project/reviews.tsv", "tofro run task=file task.path=reviews.tsv"),
        ("tofro run 'task.path=/home/ada/my data/reviews.tsv'", "tofro run task.path=reviews.tsv"),
        ("tofro run init_from=outputs/runs/pretrain-x-s0-0123abcd/", "tofro run init_from=pretrain-x-s0-0123abcd"),
        ("tofro run 'method.tasks=[/data/a/sst2,~/b/mrpc,../c]' lr=0.1", "tofro run 'method.tasks=[sst2,mrpc,c]' lr=0.1"),
        ("tofro run outputs_dir=/scratch/ada trainer.threads=1 logger=wandb logger.project=hush seed=1", "tofro run seed=1"),
        ("tofro run ++trainer.fit.profiler=simple study=s stage=t hydra.searchpath=[file:///home/ada]", "tofro run"),
        ("tofro run my.api_key=abc123 corpus.language=zh", "tofro run 'my.api_key=***' corpus.language=zh"),
        ("tofro run corpus.dataset=https://ada:pw@host/x", "tofro run corpus.dataset=https://host/x"),
        (
            "tofro run tokenizer.vocabulary=64 objective.mask_unit=token",
            "tofro run tokenizer.vocabulary=64 objective.mask_unit=token",
        ),
    ],
)
def test_a_command_keeps_what_makes_the_result(command: str, public: str) -> None:
    assert public_command(command) == public


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("test/accuracy_ft rose and/or fell at 1/2", "test/accuracy_ft rose and/or fell at 1/2"),
        ("train: 3 bad rows of /mnt/x/y.jsonl set aside", "train: 3 bad rows of y.jsonl set aside"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
        (r"in C:\Users\ada\data.csv", "in data.csv"),
        ("token hf_abcdefghijklmnopqrstuv", "token ***"),
    ],
)
def test_a_text_keeps_what_is_no_place(text: str, public: str) -> None:
    assert public_text(text) == public
