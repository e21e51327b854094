"""Token tagging through the methods: full, partial and both ways, the floors, and what is refused."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
import torch

from tests.conftest import BAD, GOOD, sentence, small_run
from tests.ranks import together
from tests.runs.conftest import PROMPT, Chain, carry_out
from tests.runs.test_ddp import CUT, TWO_STEPS, same_rows, train, whole_norm
from tofro.batches.labelled import task_batches
from tofro.cli import MISTAKE, main
from tofro.config.compose import compose
from tofro.encoders.folder import load_model
from tofro.runs.context import Context

STEPS = ["budget.steps=8", "budget.evaluate_every=4", "optimizer.lr=1e-3"]


@pytest.fixture(scope="module")
def tags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences of the small world whose moods are entities; a mood and the noun after it are one."""
    path, draw = tmp_path_factory.mktemp("tags") / "moods.jsonl", random.Random(3)
    rows = []
    for number in range(120):
        end = " and so on" * draw.randint(0, 4)
        words = f"{number} {sentence(draw, GOOD + BAD)}".replace(".", f"{end} .").split()
        kinds = {2: "B-good" if words[2] in GOOD else "B-bad", 3: "I-good" if words[2] in GOOD else "I-bad"}
        rows.append({"tokens": words, "tags": [kinds.get(place, "O") for place in range(len(words))]})
    rows[5]["tokens"][1] = "\u200b"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def of_tags(chain: Chain, tags: Path, outputs: Path, *more: str) -> list[str]:
    return [*chain.base, chain.start(), f"task.path={tags}", f"outputs_dir={outputs}", *STEPS, *more]


@pytest.mark.parametrize(
    "method", [["full"], ["partial"], ["two_way"], ["two_way", "alignment=cosine", "alignment.pooling=cls"]], ids=" ".join
)
def test_a_task_of_tags_goes_through_training(chain: Chain, tags: Path, tmp_path: Path, method: list[str]) -> None:
    result = carry_out(of_tags(chain, tags, tmp_path, f"method={method[0]}", *method[1:]))
    data = result.data
    assert data["score"] == "test/entity_f1_ft"
    assert data["metrics"]["test/entity_f1_majority"] == 0.0
    assert {"validation/entity_f1_ft", "test/probe_moods_start", "test/probe_moods_pre"} <= set(data["metrics"])
    assert any("no token, or lie beyond task.max_length; they count as O in scores" in note for note in data["notes"])
    ft = load_model(result.folder / "models" / "ft")
    assert ft.labels == ("B-bad", "B-good", "I-bad", "I-good", "O")
    assert ft.model.tags_words
    rows = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    assert data["metrics"]["validation/entity_f1_ft"] in [
        pytest.approx(row["validation/entity_f1_ft"]) for row in rows if "validation/entity_f1_ft" in row
    ]
    assert ("train/alignment_loss" in rows[0]) == (method[0] == "two_way")


def test_the_saved_tagger_answers_alike_in_transformers(chain: Chain, tags: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    overrides = of_tags(chain, tags, tmp_path, "method=full", "method.measure=false")
    result = carry_out(overrides)
    folder = result.folder / "models" / "ft"
    context = Context(compose(overrides), folder)
    opened, examples = load_model(folder), context.task.splits["test"]
    theirs = transformers.AutoModelForTokenClassification.from_pretrained(folder).eval()
    assert [theirs.config.id2label[number] for number in range(5)] == list(opened.labels or ())
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    opened.model.eval()
    with torch.no_grad():
        for batch in task_batches(examples, context.start.tokenizer, 32, 16, context.task.labels):
            ours = opened.model.task_logits(opened.model.encoder(batch), batch)
            chosen = [examples[number].words for number in batch.samples.tolist()]
            rows = [list(row) for row in chosen]
            cut = {"truncation": True, "max_length": 32, "padding": True, "return_tensors": "pt"}
            words = tokenizer(rows, is_split_into_words=True, **cut)
            logits = theirs(**words).logits
            first = [
                logits[row, words.word_ids(row).index(place)] if place in words.word_ids(row) else None
                for row, each in enumerate(chosen)
                for place in range(len(each))
            ]
            assert batch.seen.tolist() == [each is not None for each in first]
            assert torch.allclose(ours[batch.seen], torch.stack([each for each in first if each is not None]), atol=1e-5)


@pytest.mark.parametrize("method", ["tfidf", "random_encoder"])
def test_tags_have_floors(chain: Chain, tags: Path, tmp_path: Path, method: str) -> None:
    result = carry_out(of_tags(chain, tags, tmp_path, f"method={method}"))
    score = result.metrics[result.data["score"]]
    assert result.data["score"] == {"tfidf": "test/entity_f1_tfidf", "random_encoder": "test/probe_moods_random"}[method]
    assert score > 0
    assert result.metrics["test/entity_f1_majority"] == 0.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["method=two_way", "alignment=supcon"], ["alignment=supcon", "no labels", "alignment=infonce"]),
        (PROMPT, ["method=prompt", "tags words", "method=full"]),
        (["method=full", "task.metric=f1"], ["task.metric=f1", "tags task"]),
        (["method=full", "task.metric=matthews"], ["task.metric=matthews", "tags task"]),
    ],
)
def test_what_tags_do_not_have_is_refused(
    chain: Chain, tags: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], words: list[str], said: list[str]
) -> None:
    code = main(["run", *of_tags(chain, tags, tmp_path), *words])
    _, err = capfd.readouterr()
    assert code == MISTAKE, err
    assert "Traceback" not in err
    for part in said:
        assert part in err
    assert not list(tmp_path.glob("runs/*"))


def test_rows_that_cannot_be_tagged_are_named(
    chain: Chain, tags: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "train.jsonl"
    bad = {"tokens": ["The", "river"], "tags": ["O"]}
    data.write_text(tags.read_text() + json.dumps(bad) + "\n")
    assert main(["run", *of_tags(chain, tmp_path, tmp_path / "outputs", "method=full")]) == MISTAKE
    err = capfd.readouterr().err
    assert "train.jsonl:121: 'tokens' is a list of 2 words, but 'tags' has 1 tags" in err
    assert not list(tmp_path.glob("outputs/runs/*"))


def test_two_ranks_tag_as_one_does(world: Path, tags: Path, tmp_path: Path) -> None:
    """Gradients, losses and the entity F1 of validation, with words of unequal number on the ranks and in the micro-batches."""
    overrides = [*small_run(world, tmp_path), f"task.path={tags}", "method=full", "method.dropout=0", *TWO_STEPS, CUT]
    (one,) = together(1, train, overrides, tmp_path)
    first, second = together(2, train, overrides, tmp_path)
    assert first.counts[0]["tagged"] != second.counts[0]["tagged"], "the ranks' shares should weigh differently"
    for mine, theirs, expected in zip(first.gradients, second.gradients, one.gradients, strict=True):
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
        assert whole_norm({name: mine[name] - expected[name] for name in mine}) <= 2e-6 * whole_norm(expected)
    assert same_rows(first.rows, one.rows, 1e-5)
    assert [row for row in one.rows if "validation/entity_f1_ft" in row]


@pytest.mark.slow
def test_the_real_task_goes_through(chain: Chain, shared: Path, tmp_path: Path) -> None:
    """WNUT17: the floor finds some entities; an encoder that knows nothing of tweets has too few steps to, but learns."""
    base = of_tags(chain, shared / "tasks" / "wnut17", tmp_path, "budget.steps=100", "budget.evaluate_every=50")
    floor = carry_out([*base, "method=tfidf"]).metrics
    assert 0.1 < floor["test/entity_f1_tfidf"] < 0.3
    found = carry_out([*base, "method=full"])
    assert any(note.startswith("test: ") and "count as O in scores" in note for note in found.data["notes"])
    losses = [
        json.loads(line).get("validation/task_loss_ft") for line in (found.folder / "metrics.jsonl").read_text().splitlines()
    ]
    first, last = (loss for loss in losses if loss is not None)
    assert last < first < math.log(len(load_model(found.folder / "models" / "ft").labels or ()))
